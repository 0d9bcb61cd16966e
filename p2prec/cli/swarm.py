"""`p2prec swarm`: make, show, join and hand on a swarm."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2prec.cli.app import app
from p2prec.cli.options import JsonOption, StateOption
from p2prec.cli.swarm_parameters import check_budget, in_parts, parameters, refuse_without_promise, validated

if TYPE_CHECKING:
    from p2prec.storage.invitation import Invitation

swarm_app = typer.Typer(help="Make, show, join and hand on a swarm.", no_args_is_help=True)
app.add_typer(swarm_app, name="swarm")

CREATE_EPILOG = """Examples:

p2prec swarm create films --catalogue movies.csv

p2prec swarm create family --catalogue movies.csv --private --round-interval 5

p2prec swarm create club --catalogue movies.csv --epsilon 8 --people 200 --start 2027-01-31T20:00

p2prec swarm create books --catalogue books.jsonl.gz --objective explicit --noise-multiplier 8 --epsilon-budget 8
"""
JOIN_EPILOG = """Examples:

p2prec swarm join films.toml

p2prec swarm join family.invite --replace
"""
INVITE_EPILOG = """Example:

p2prec swarm invite -o family.invite
"""
SHOW_EPILOG = """Examples:

p2prec swarm show

p2prec swarm show films.toml --json

p2prec swarm show --items | grep -i matrix
"""
_N_BAD_ROWS_SHOWN = 5


class Objective(StrEnum):
    """What the swarm learns from."""

    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


@swarm_app.command(epilog=CREATE_EPILOG)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the swarm, for people.", show_default=False)],
    catalogue: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The items: CSV or JSON lines with the columns item,title, or a MovieLens file or folder; gzip too.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write the manifest.", show_default="NAME.toml"),
    ] = None,
    objective: Annotated[
        Objective, typer.Option(help="Learn from what people did (implicit) or from their ratings (explicit).")
    ] = Objective.IMPLICIT,
    private: Annotated[
        bool, typer.Option("--private", help="Only who has an invitation can join; also writes one, NAME.invite.")
    ] = False,
    n_factors: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="D", help="Latent factors.", show_default="16"),
    ] = None,
    round_interval: Annotated[
        float, typer.Option(min=0.05, max=86_400, metavar="S", help="Seconds between a peer's rounds.")
    ] = 10.0,
    contribute_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=20_000,
            metavar="N",
            help="Exchanges between a peer's own contributions, about two a round; each contribution costs privacy.",
            show_default="14, of ratings 16; 60 with noise of 0.5 or more",
        ),
    ] = None,
    noise_multiplier: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="X",
            help="Noise on each contribution, as a multiple of the clip norm. 0: none.",
            show_default="0.01, for a circle of people who know each other",
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(metavar="C", help="Largest norm of a contribution.", show_default="recommended")
    ] = None,
    epsilon_budget: Annotated[
        float | None,
        typer.Option(metavar="E", help="A peer stops contributing before it spends more.", show_default="no limit"),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="Promise each member differential privacy of at most this epsilon, kept by two private sums; implies --private.",
            show_default="no promise",
        ),
    ] = None,
    people: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --epsilon: the fewest who take part; 53 or more.", show_default=False),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(metavar="D", help="With --epsilon: how likely it may not hold.", show_default="0.00001"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="TIME", help="With --epsilon: when the first sum begins, ISO 8601.", show_default=False
        ),
    ] = None,
    start_in: Annotated[
        str | None,
        typer.Option(
            "--start-in", metavar="SPAN", help="With --epsilon: the same from now, like 10m, 2h, 1d.", show_default="1h"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Make a swarm: write the manifest that its peers share.

    The manifest holds the catalogue and all that the peers must agree on.
    Give it to whoever should join; for a private swarm give the invitation
    instead. Any change to it makes another swarm.
    """
    import secrets
    import time

    from p2prec.cli.swarm_promise import promise_asked_for
    from p2prec.data.catalogue import read_catalogue
    from p2prec.manifest import Manifest, reference_catalogue
    from p2prec.storage.invitation import Invitation, membership_key_of

    promise = None
    if epsilon is not None:
        promise = promise_asked_for(
            epsilon=epsilon,
            delta=delta,
            people=people,
            start=start,
            start_in=start_in,
            exchange_s=round_interval,
            now=time.time(),
            others={
                "--objective explicit": objective if objective is Objective.EXPLICIT else None,
                "--n-factors": n_factors,
                "--contribute-every": contribute_every,
                "--noise-multiplier": noise_multiplier,
                "--clip-norm": clip_norm,
                "--epsilon-budget": epsilon_budget,
            },
        )
        private, noise_multiplier = True, 0.0
    else:
        refuse_without_promise({"--people": people, "--delta": delta, "--start": start, "--start-in": start_in})
    found = read_catalogue(catalogue)
    learning, privacy = parameters(
        objective.value,
        n_factors=n_factors,
        round_interval_s=round_interval,
        contribute_every_exchanges=contribute_every,
        noise_multiplier=noise_multiplier,
        clip_norm=clip_norm,
        epsilon_budget=epsilon_budget,
    )
    learning = in_parts(learning, len(found.catalogue))
    secret = secrets.token_bytes(32) if private else None
    manifest = validated(
        Manifest(
            name=name,
            catalogue=reference_catalogue(found.catalogue.canonical_csv(), len(found.catalogue)),
            seed=secrets.token_hex(32),
            membership_key=membership_key_of(secret) if secret else None,
            learning=learning,
            privacy=privacy,
            promise=promise,
        )
    )
    check_budget(manifest)
    for bad in found.bad_rows[:_N_BAD_ROWS_SHOWN]:
        typer.echo(f"{catalogue}:{bad.line}: skipped: {bad.reason}", err=True)
    if len(found.bad_rows) > _N_BAD_ROWS_SHOWN:
        typer.echo(f"{catalogue}: and {len(found.bad_rows) - _N_BAD_ROWS_SHOWN:,} more rows skipped", err=True)
    _write_and_explain(Invitation(manifest, secret), output or Path(f"{_file_name(name)}.toml"), force)


def _write_and_explain(invitation: Invitation, path: Path, force: bool) -> None:
    import time

    from p2prec import manifest as manifests
    from p2prec.cli.promise_text import promise_lines
    from p2prec.cli.screen import show as show_lines
    from p2prec.cli.swarm_text import in_words
    from p2prec.storage.invitation import dump

    manifest = invitation.manifest
    invitation_path = path.with_suffix(".invite")
    targets = [path, invitation_path] if manifest.is_private else [path]
    _refuse_to_overwrite(targets, force)
    # The invitation first: a private manifest whose secret was lost would be of no use to anybody.
    if manifest.is_private:
        _write(invitation_path, dump(invitation), private=True)
    _write(path, manifests.dump(manifest), private=False)
    typer.echo(f"Swarm {manifest.name!r}: {manifest.catalogue.n_items:,} items, {in_words(manifest)}")
    typer.echo(f"  id        {manifest.swarm_id.hex()}")
    typer.echo(f"  manifest  {path}")
    if manifest.is_private:
        typer.echo(
            f"  invitation  {invitation_path} (whoever has it can join: keep it, hand it over in person or encrypted)"
        )
    if manifest.promise is not None:
        show_lines(promise_lines(manifest.promise, time.time()))
    joined = invitation_path if manifest.is_private else path
    typer.echo("Next, on every device:")
    typer.echo(f"  p2prec swarm join {_quoted(joined)}")
    typer.echo("  p2prec import FILE      (or p2prec log ITEM)")
    typer.echo("  p2prec start")


@swarm_app.command(epilog=JOIN_EPILOG)
def join(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A swarm's manifest, or an invitation.", show_default=False)
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Leave the swarm that this peer is in; its model is dropped.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Make this device a member of a swarm.

    What was logged stays on the device, also when the swarm is replaced.
    """
    import time

    from p2prec.cli.promise_text import promise_lines
    from p2prec.cli.screen import show as show_lines
    from p2prec.cli.swarm_text import in_words
    from p2prec.data.catalogue import Catalogue
    from p2prec.storage.invitation import load
    from p2prec.storage.state import StateDirectory

    invitation = load(file)
    manifest = invitation.manifest
    catalogue = Catalogue.from_canonical_csv(manifest.catalogue_csv())
    directory = StateDirectory.open(state)
    if not directory.join(invitation, replace=replace):
        typer.echo(f"Already in swarm {manifest.name!r}.")
        return
    directory.identity()
    typer.echo(f"Joined swarm {manifest.name!r}: {len(catalogue):,} items, {in_words(manifest)}")
    if manifest.promise is not None:
        show_lines(promise_lines(manifest.promise, time.time()))
    with directory.open_store() as store:
        logged = store.interactions()
    if logged:
        known = sum(interaction.item in catalogue for interaction in logged)
        typer.echo(f"{known:,} of the {len(logged):,} interactions logged here are with items of this swarm.")
        typer.echo("Next: p2prec start")
    else:
        typer.echo("Next: p2prec import FILE (or p2prec log ITEM), then p2prec start")


@swarm_app.command(epilog=INVITE_EPILOG)
def invite(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it.", show_default="NAME.invite"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    state: StateOption = None,
) -> None:
    """Write an invitation to this device's private swarm.

    It holds the manifest and the membership secret, and lets whoever has
    it join, for good. Of an open swarm, share the manifest itself.
    """
    from p2prec.cli.ask import state_directory
    from p2prec.errors import UsageError
    from p2prec.storage.invitation import dump

    directory = state_directory(state)
    manifest = directory.swarm()
    if not manifest.is_private:
        raise UsageError(
            f"swarm {manifest.name!r} is open: nobody needs an invitation",
            remedy=f"share its manifest: {directory.swarm_path}",
        )
    path = output or Path(f"{_file_name(manifest.name)}.invite")
    _refuse_to_overwrite([path], force)
    _write(path, dump(directory.invitation()), private=True)
    typer.echo(f"Invitation to swarm {manifest.name!r}: {path}")
    typer.echo("Whoever has it can join. Hand it over in person or encrypted; on the other device:")
    typer.echo(f"  p2prec swarm join {_quoted(path)}")


@swarm_app.command(epilog=SHOW_EPILOG)
def show(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A manifest or invitation.", show_default="the swarm that was joined"),
    ] = None,
    items: Annotated[bool, typer.Option("--items", help="Print the catalogue, as CSV, instead.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show what a swarm learns and what joining it costs."""
    from p2prec.cli.ask import state_directory
    from p2prec.cli.screen import print_json
    from p2prec.cli.screen import show as show_lines
    from p2prec.cli.swarm_text import describe, fields
    from p2prec.storage.invitation import load_manifest

    manifest = load_manifest(file) if file else state_directory(state).swarm()
    if items:
        typer.echo(manifest.catalogue_csv().decode(), nl=False)
    elif as_json:
        print_json(fields(manifest))
    else:
        show_lines(describe(manifest))


# Files


def _file_name(name: str) -> str:
    """A swarm's name as a file name without surprises."""
    kept = "".join(character if character.isalnum() or character in "-_" else "-" for character in name.strip())
    return kept.strip("-").lower() or "swarm"


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _refuse_to_overwrite(paths: list[Path], force: bool) -> None:
    from p2prec.errors import UsageError

    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise UsageError(
            f"{' and '.join(existing)}: exists already", remedy="overwrite with --force, or choose another -o"
        )


def _write(path: Path, text: str, *, private: bool) -> None:
    from p2prec.errors import UsageError
    from p2prec.storage.invitation import write_atomically

    try:
        write_atomically(path, text, private=private)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
