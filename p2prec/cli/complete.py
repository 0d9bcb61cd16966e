"""Shell completion of what a swarm knows. Errors complete to nothing: a prompt is no place for messages."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from p2prec.errors import P2PRecError

MAX_COMPLETIONS = 50
"""More than this on one Tab is a wall of text."""


def complete_item(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Keys that start with what was typed (the title is shown beside the key where the shell can), then titles of one
    word.

    Titles of several words are left out: no shell's completion quotes them.
    """
    from p2prec.cli.ask import state_directory

    # While completing, parameters are still the texts that were typed.
    given = context.params.get("state")
    try:
        catalogue = state_directory(Path(given) if given else None).catalogue()
    except P2PRecError:
        return []
    pairs = list(zip(catalogue.keys, catalogue.titles, strict=True))
    keys = [(str(key), title) for key, title in pairs if key.startswith(incomplete)]
    words = [(title, key) for key, title in pairs if title.startswith(incomplete) and shlex.quote(title) == title]
    return [*keys, *words][:MAX_COMPLETIONS]
