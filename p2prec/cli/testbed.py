"""`p2prec testbed`: a swarm of weak devices in containers on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.errors import P2PRecError, UsageError

if TYPE_CHECKING:
    from p2prec.testbed.compose import Compose
    from p2prec.testbed.folder import RunFolder

testbed = typer.Typer(
    name="testbed",
    help="Run a swarm of weak devices in containers, disturb it and measure it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(testbed)

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where the run is kept.", show_default="the user's state directory"),
]
CheckoutOption = Annotated[
    Path, typer.Option("--checkout", metavar="DIR", help="The checkout of p2prec whose docker-compose.yml is used.")
]
QUALITY_EVERY_S = 10.0
HOLDOUT_FRACTION = 0.2
FEW_PEERS = 64
"""Up to so many, each tells its status every two seconds; more, every five."""

UP_EPILOG = """Examples:

p2prec testbed up --peers 50

p2prec testbed up --peers 12 --cpus 0.2 --round-interval 2 --seconds 180
"""
FAULT_EPILOG = """Examples:

p2prec testbed fault partition

p2prec testbed fault loss --window 60 --json loss.json
"""


@testbed.command(epilog=UP_EPILOG)
def up(
    peers: Annotated[int, typer.Option(min=2, max=600, help="Containers, each with one person's history.")] = 50,
    cpus: Annotated[float, typer.Option(min=0.01, max=64, help="Cores that each may use.")] = 0.1,
    round_interval: Annotated[
        float, typer.Option("--round-interval", min=0.5, max=3600, metavar="S", help="Seconds between a peer's rounds.")
    ] = 5.0,
    noise: Annotated[
        float | None,
        typer.Option(min=0, max=1000, help="Noise multiplier of the swarm.", show_default="the recommended one"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="Follow it for so long; it goes on afterwards.")
    ] = 60.0,
    build: Annotated[bool, typer.Option("--build/--no-build", help="Make the images anew if anything changed.")] = True,
    folder: FolderOption = None,
    checkout: CheckoutOption = Path(),
) -> None:
    """Start a swarm in containers, and follow it.

    Everything an earlier one left (containers, identities, people) is
    removed first. Each peer takes one real person's history, holds a fifth
    of it out, finds the others by multicast and learns with them.
    """
    import time

    import msgspec

    from p2prec.testbed import screen
    from p2prec.testbed.folder import Run
    from p2prec.testbed.follow import Follower
    from p2prec.testbed.kernel import neighbour_table_note

    run_folder = _folder(folder)
    settings = {
        "holdout_fraction": HOLDOUT_FRACTION,
        "quality_every_s": QUALITY_EVERY_S,
        "status_every_s": 2.0 if peers <= FEW_PEERS else 5.0,
    }
    variables = {"PEER_CPUS": f"{cpus:g}", "ROUND_INTERVAL_S": f"{round_interval:g}", "PEOPLE": str(max(500, peers))}
    if noise is not None:
        variables["NOISE_MULTIPLIER"] = f"{noise:g}"
    compose = _compose(checkout, run_folder, variables)
    compose.down()
    run_folder.prepare(settings)
    if build:
        typer.echo("Building the images ...", err=True)
        compose.build()
    run = Run(peers=peers, cpus=cpus, round_interval_s=round_interval, began_at=time.time(), engine=compose.engine)
    run_folder.write_run(run)
    note = neighbour_table_note(peers)
    if note is not None:
        typer.echo(note, err=True)
    typer.echo(f"Starting {peers} peers ...", err=True)
    compose.up(peers)
    run = msgspec.structs.replace(run, ready_s=round(time.time() - run.began_at, 1))
    run_folder.write_run(run)
    typer.echo(f"All were started within {run.ready_s:.0f} s.", err=True)
    with screen.live(peers) as watch:
        Follower(run_folder, run, watch).for_seconds(seconds)


@testbed.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    folder: FolderOption = None,
) -> None:
    """Show every peer of the running swarm in a table."""
    from p2prec.cli.screen import console, table
    from p2prec.testbed import screen
    from p2prec.testbed.folder import now_s
    from p2prec.testbed.follow import Follower

    run_folder = _folder(folder)
    run = run_folder.run()
    if watch:
        with screen.live(run.peers, table=True) as shown:
            Follower(run_folder, run, shown).for_seconds(86400.0)
    samples = Follower(run_folder, run).look()
    out = console()
    for line in table(screen.HEADER, screen.rows(now_s(run), samples)):
        out.print(line)
    out.print(screen.summary(now_s(run), samples, run.peers))


@testbed.command()
def report(
    seconds: Annotated[float, typer.Option(min=0, max=86400, help="First follow the swarm for so long.")] = 0.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to a file.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots, which is one file.")
    ] = None,
    window: Annotated[
        float, typer.Option(min=5, max=86400, metavar="S", help="Quality is the mean over so long, at the end.")
    ] = 60.0,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when something that must hold does not.")] = False,
    folder: FolderOption = None,
) -> None:
    """Tell what the swarm has done so far: discovery, learning, traffic, CPU, memory.

    A run is followed while up, status --watch, fault or report --seconds
    run; what happened in between is in the counters, not in the plots.
    """
    from p2prec.testbed import screen
    from p2prec.testbed.follow import Follower
    from p2prec.testbed.page import page
    from p2prec.testbed.report import build_report

    for file in (json_file, html_file):
        _require_parent(file)
    run_folder = _folder(folder)
    run = run_folder.run()
    with screen.live(run.peers) as watch:
        Follower(run_folder, run, watch).for_seconds(seconds)
    result = build_report(run, run_folder.history(), run_folder.trials(), window_s=window)
    if json_file is not None:
        _write_json(json_file, result)
    if html_file is not None:
        html_file.write_text(page(result), encoding="utf-8")
    for line in screen.report_lines(result):
        typer.echo(line)
    failing = [entry["name"] for entry in result["checks"] if not entry["holds"]]
    if check and failing:
        raise P2PRecError(f"does not hold: {'; '.join(failing)}")


@testbed.command(epilog=FAULT_EPILOG)
def fault(
    name: Annotated[str, typer.Argument(help="A profile: the name of a file in deploy/faults, without .toml.")],
    window: Annotated[
        float, typer.Option(min=5, max=3600, metavar="S", help="How long quality is measured at a time.")
    ] = 60.0,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Report of a run without the fault to compare with, instead of before."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the peers that are hit.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result to a file.")
    ] = None,
    folder: FolderOption = None,
    checkout: CheckoutOption = Path(),
) -> None:
    """Do a fault to the running swarm, and judge how it comes back.

    Quality is measured before and after, on the same people. The exit code
    is 1 when what the profile promises does not hold. Faults of the network
    need root on the machine of the container engine.
    """
    import json
    from random import Random

    from p2prec.testbed import screen
    from p2prec.testbed.faults import load_profile
    from p2prec.testbed.follow import Follower
    from p2prec.testbed.inject import Bed, injection
    from p2prec.testbed.trial import measurement_of_report, try_fault

    _require_parent(json_file)
    profile = load_profile(checkout / "deploy" / "faults" / f"{name}.toml")
    without = None if reference is None else measurement_of_report(json.loads(reference.read_text(encoding="utf-8")))
    run_folder = _folder(folder)
    run = run_folder.run()
    bed = Bed(_compose(checkout, run_folder, {"PEER_CPUS": f"{run.cpus:g}"}), run_folder, run, Random(seed))
    if len(bed.containers) < 2:
        raise P2PRecError("no swarm is running; start one: p2prec testbed up")
    doing = injection(profile.fault, bed)
    with screen.live(run.peers) as watch:
        follower = Follower(run_folder, run, watch)
        disturbed = [tuple(earlier["disturbed_s"]) for earlier in run_folder.trials()]
        trial = try_fault(name, profile, doing, bed, follower, window_s=window, reference=without, disturbed=disturbed)
    run_folder.write_trial(name, trial.plain())
    if json_file is not None:
        _write_json(json_file, trial.plain())
    typer.echo(f"{trial.title}{f' ({trial.note})' if trial.note else ''}: {screen.trial_text(trial.plain())}")
    for entry in trial.checks:
        typer.echo(f"{'holds' if entry.holds else 'FAILS'}  {entry.name}: {entry.measured}")
    if not trial.holds:
        raise P2PRecError(f"after the fault {name}, not everything holds that must")


@testbed.command()
def down(folder: FolderOption = None, checkout: CheckoutOption = Path()) -> None:
    """Remove the swarm: containers, identities, people and what was measured."""
    run_folder = _folder(folder)
    _compose(checkout, run_folder, {}).down()
    run_folder.remove()


def _folder(path: Path | None) -> RunFolder:
    import platformdirs

    from p2prec.testbed.folder import RunFolder

    return RunFolder(path or platformdirs.user_state_path("p2prec") / "testbed")


def _compose(checkout: Path, folder: RunFolder, variables: dict[str, str]) -> Compose:
    from p2prec.testbed.compose import Compose

    return Compose(checkout, {"TESTBED_DIR": str(folder.path), **variables})


def _require_parent(file: Path | None) -> None:
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"{file}: no such folder")


def _write_json(path: Path, result: dict[str, Any]) -> None:
    import json

    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
