"""What a swarm is, in words and as fields: for `p2prec swarm create`, `join` and `show`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from p2prec.cli.promise_text import promise_fields, promise_lines, promised
from p2prec.cli.screen import bytes_text, counted, labelled, text
from p2prec.manifest import Manifest
from p2prec.model.quantize import table_shapes
from p2prec.privacy.ledger import Budget

if TYPE_CHECKING:
    from rich.text import Text

_CONTRIBUTIONS_SHOWN = 10
_MEANINGLESS_EPSILON = 20.0
"""Beyond this an epsilon is a number, not a promise."""
_NO_NOISE = "no noise: a neighbour can tell what you like from what your device sends"


def in_words(manifest: Manifest) -> str:
    """Who may join, and what sending costs in privacy."""
    membership = "private" if manifest.is_private else "open"
    if manifest.promise is not None:
        return f"{membership}, promises {promised(manifest.promise)}"
    if manifest.privacy.noise_multiplier == 0:
        return f"{membership}, {_NO_NOISE}"
    epsilon = Budget.of(manifest).epsilon_after(_CONTRIBUTIONS_SHOWN)
    if epsilon > _MEANINGLESS_EPSILON:
        return f"{membership}, a little noise, for people who trust each other: no formal privacy"
    return f"{membership}, epsilon {epsilon:.3g} after {_CONTRIBUTIONS_SHOWN} contributions"


def fields(manifest: Manifest) -> dict[str, Any]:
    """The manifest without its catalogue, and what follows from it; null stands for infinite or unlimited."""
    named = msgspec.to_builtins(manifest)
    del named["catalogue"]["data"]
    head = {"swarm_id": manifest.swarm_id.hex(), **named, "is_private": manifest.is_private}
    if manifest.promise is not None:
        return head | {"promise": named["promise"] | promise_fields(manifest.promise)}
    budget = Budget.of(manifest)
    return head | {
        "message_bytes": _message_bytes(manifest),
        "epsilon_of_one_contribution": _finite(budget.epsilon_after(1)),
        f"epsilon_of_{_CONTRIBUTIONS_SHOWN}_contributions": _finite(budget.epsilon_after(_CONTRIBUTIONS_SHOWN)),
        "contributions_within_budget": budget.max_contributions(),
    }


def describe(manifest: Manifest) -> list[Text]:
    """A few labelled lines for a person who wonders whether to join."""
    learning = manifest.learning
    if manifest.promise is not None:
        lines = [
            text((manifest.name, "bold"), f", {'private' if manifest.is_private else 'open'}"),
            labelled("id", manifest.swarm_id.hex()),
            labelled("items", f"{manifest.catalogue.n_items:,}"),
        ]
        return lines + promise_lines(manifest.promise, time.time())
    source = "what people did" if learning.objective == "implicit" else "ratings"
    lines = [
        text((manifest.name, "bold"), f", {'private' if manifest.is_private else 'open'}"),
        labelled("id", manifest.swarm_id.hex()),
        labelled("items", f"{manifest.catalogue.n_items:,}"),
        labelled(
            "learns",
            f"from {source}; {counted(learning.n_factors, 'factor')}, a round every {learning.round_interval_s:g} s",
        ),
        labelled("message", f"{bytes_text(_message_bytes(manifest))} each way, {_how_often(learning.n_parts)} a round"),
    ]
    return lines + _describe_privacy(manifest)


def _describe_privacy(manifest: Manifest) -> list[Text]:
    privacy, budget = manifest.privacy, Budget.of(manifest)
    if privacy.noise_multiplier == 0:
        return [labelled("privacy", _NO_NOISE)]
    one, several = budget.epsilon_after(1), budget.epsilon_after(_CONTRIBUTIONS_SHOWN)
    lines = [
        labelled("noise", f"{privacy.noise_multiplier:g} times the clip norm on every contribution"),
        labelled(
            "privacy",
            f"epsilon {one:.3g} for one contribution, {several:.3g} for {_CONTRIBUTIONS_SHOWN} (delta {privacy.delta:g})",
        ),
    ]
    if several > _MEANINGLESS_EPSILON:
        lines.append(labelled("", "no formal promise: noise for a circle that trusts each other"))
    most = budget.max_contributions()
    if most is not None:
        limit = f"epsilon {privacy.epsilon_budget:g}: {counted(most, 'contribution')}, then a peer only listens"
        lines.append(labelled("budget", limit))
    return lines


def _how_often(n_times: int) -> str:
    return "once" if n_times == 1 else f"{n_times} times"


def _message_bytes(manifest: Manifest) -> int:
    """Of the first part, the largest."""
    return table_shapes(manifest.learning, manifest.catalogue.n_items).payload_bytes


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
