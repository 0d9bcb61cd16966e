"""`p2prec lab`: experiments with whole swarms, for those who study how they learn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2prec.cli.app import app
from p2prec.cli.lab_text import about, progress, show_audit, show_private, show_run

if TYPE_CHECKING:
    from p2prec.lab.config import LabConfig

lab_app = typer.Typer(help="Experiments with whole swarms: results, baselines, grids.", no_args_is_help=True)
app.add_typer(lab_app, name="lab")

RUN_EPILOG = """Examples:

p2prec lab run --data ml-100k --objective explicit --split random --json run.json --plot run.png

p2prec lab run --data movielens-small --peers 100 --rounds 60

p2prec lab run --data ml-100k --drop 0.3 --online 0.5 --topology smallworld

p2prec lab run --data ml-100k --peers 200 --rounds 30 --engine peers --set learning.n_factors=8

p2prec lab run --data ml-100k --split random-one --epsilon 2
"""
COMPARE_EPILOG = """Examples:

p2prec lab compare --data ml-100k

p2prec lab compare --data ml-100k --objective explicit --split random --json compare.json

p2prec lab compare --data ml-100k --only swarm --only ease --only popularity
"""
AUDIT_EPILOG = """Examples:

p2prec lab audit --data ml-100k --epsilon 8

p2prec lab audit --data movielens-small --epsilon 2 --colluders 0 --json audit.json
"""
SWEEP_EPILOG = """Examples:

p2prec lab sweep grid.toml --output results

p2prec lab sweep grid.toml --output results --ray auto
"""


class Objective(StrEnum):
    """What is learned from."""

    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


class Topology(StrEnum):
    """Who can exchange with whom."""

    RANDOM = "random"
    RING = "ring"
    SMALLWORLD = "smallworld"
    TORUS = "torus"
    FRIENDS = "friends"


class Engine(StrEnum):
    """What computes the swarm."""

    KERNELS = "kernels"
    PEERS = "peers"


DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="A folder or file of interactions, a folder's name in --data-dir, or movielens-small.",
        show_default=False,
    ),
]
DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", metavar="DIR", envvar="P2PREC_DATA", help="Where data sets are looked up by name."),
]
ObjectiveOption = Annotated[Objective, typer.Option(help="Learn from what people did, or from their ratings.")]
SplitOption = Annotated[
    str,
    typer.Option(
        metavar="last|random|random-one|FILE",
        help="Each person's latest, a random fifth of all, one random of each person, or a published split's test file.",
    ),
]
PeersOption = Annotated[str, typer.Option(metavar="N|all", help="People who take part, drawn at random.")]
RoundsOption = Annotated[int, typer.Option(min=1, max=100_000, help="Rounds of the swarm and of all that communicate.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random follows from it.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A learning or privacy parameter, as learning.n_factors=8. May be repeated."
    ),
]
JsonFileOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report to a file.")]


@lab_app.command("run", epilog=RUN_EPILOG)
def run_command(
    data: DataOption,
    objective: ObjectiveOption = Objective.IMPLICIT,
    split: SplitOption = "last",
    peers: PeersOption = "all",
    rounds: RoundsOption = 100,
    seed: SeedOption = 0,
    topology: Annotated[Topology, typer.Option(help="Who can exchange with whom.")] = Topology.RANDOM,
    degree: Annotated[int, typer.Option(min=1, max=1000, help="Neighbours that a peer picks.")] = 8,
    drop: Annotated[
        float, typer.Option(min=0.0, max=0.99, metavar="P", help="Probability that a message is lost.")
    ] = 0.0,
    online: Annotated[
        float, typer.Option(min=0.01, max=1.0, metavar="P", help="Share of the peers that is there at any time.")
    ] = 1.0,
    engine: Annotated[
        Engine, typer.Option(help="Bare learners, or the daemon's peers on a simulated network: the same result.")
    ] = Engine.KERNELS,
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            metavar="E",
            help="Learn with user-level differential privacy: cancelling noise, two sums, a trusted curator beside it.",
            show_default=False,
        ),
    ] = None,
    crash: Annotated[
        float, typer.Option(min=0.0, max=0.5, metavar="P", help="With --epsilon: share that crashes in each sum.")
    ] = 0.1,
    backend: Annotated[
        str,
        typer.Option(
            metavar="auto|numpy|numba|torch[:DEVICE]",
            help="What computes the kernels: numba (p2prec[fast]) or, to the same bits, numpy; or torch, as torch:cuda.",
        ),
    ] = "auto",
    measure_every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Rounds between measurements.", show_default="ten in all")
    ] = None,
    settings: SetOption = None,
    json_file: JsonFileOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw quality by round (PNG, SVG, PDF; needs p2prec[lab]).")
    ] = None,
    data_dir: DataDirOption = Path("../shared/data"),
) -> None:
    """Run one swarm, and beside it what it has to be compared with.

    Every peer is judged with its own copy of the model, on interactions that
    no method has seen: the same model trained in one place, popularity,
    everybody alone, and gossip learning as published.
    """
    import platformdirs

    from p2prec.errors import UsageError
    from p2prec.lab import plot as plots
    from p2prec.lab.experiment import run
    from p2prec.lab.private_run import run_private

    config = _config(
        data=data,
        objective=objective.value,
        split=split,
        peers=_people(peers),
        rounds=rounds,
        seed=seed,
        topology=topology.value,
        degree=degree,
        drop=drop,
        online=online,
        engine=engine.value,
        backend=backend,
        measure_every=measure_every,
        epsilon=epsilon,
        crash=crash,
        settings=settings,
    )
    _check_writable("--json", json_file)
    if plot is not None and epsilon is not None:
        raise UsageError("--plot draws quality by round; with --epsilon there is one result")
    if plot is not None:
        _check_writable("--plot", plot)
        plots.check_available(plot)
    with progress() as on_progress:
        start = run if epsilon is None else run_private
        report = start(config, data_dir, platformdirs.user_cache_path("p2prec"), on_progress)
    _write_json(json_file, report)
    if plot is not None:
        plots.draw(report, plot)
    if epsilon is None:
        show_run(report)
    else:
        show_private(report)


@lab_app.command("compare", epilog=COMPARE_EPILOG)
def compare_command(
    data: DataOption,
    objective: ObjectiveOption = Objective.IMPLICIT,
    split: SplitOption = "last",
    peers: PeersOption = "all",
    rounds: RoundsOption = 100,
    seed: SeedOption = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="METHOD", help="This method. May be repeated.")
    ] = None,
    settings: SetOption = None,
    json_file: JsonFileOption = None,
    data_dir: DataDirOption = Path("../shared/data"),
) -> None:
    """Compare the swarm with every baseline: quality, bytes and time in one table.

    All get the same training part, the same test questions and, if they
    communicate, the same number of rounds.
    """
    import platformdirs

    from p2prec.cli.screen import show, table, text
    from p2prec.lab import compare as comparison

    config = _config(
        data=data,
        objective=objective.value,
        split=split,
        peers=_people(peers),
        rounds=rounds,
        seed=seed,
        settings=settings,
    )
    _check_writable("--json", json_file)
    with progress() as on_progress:
        cache = platformdirs.user_cache_path("p2prec")
        report = comparison.compare(config, only or None, data_dir, cache, on_progress)
    _write_json(json_file, report)
    show([*about(report["config"]), text(""), *table(*comparison.table(report))], hang=None)
    for name, reason in report["skipped"].items():
        typer.echo(f"p2prec: {name} left out: {reason}", err=True)


@lab_app.command("audit", epilog=AUDIT_EPILOG)
def audit_command(
    data: DataOption,
    epsilon: Annotated[float, typer.Option(min=0.01, max=20.0, metavar="E", help="The promise to hold it to.")] = 8.0,
    delta: Annotated[float, typer.Option(min=1e-12, max=0.01, metavar="D")] = 1e-5,
    colluders: Annotated[
        int, typer.Option(min=0, max=3, help="Mask partners of each person who tell the attacker their masks.")
    ] = 3,
    peers: PeersOption = "all",
    trials: Annotated[int, typer.Option(min=240, max=1_000_000, help="Canaries.")] = 2400,
    seed: SeedOption = 0,
    json_file: JsonFileOption = None,
    data_dir: DataDirOption = Path("../shared/data"),
) -> None:
    """Attack what peers send, and hold the result against the promise.

    Canaries give a lower bound of epsilon with 95% confidence; it has to stay
    below the promise, else the exit status is 1. Then everybody's first
    messages are searched for who took part, what they know, who they are and
    who is like whom, with privacy and without.
    """
    import platformdirs

    from p2prec.errors import P2PRecError
    from p2prec.lab.audit.report import audit

    _check_writable("--json", json_file)
    with progress() as on_progress:
        report = audit(
            data,
            epsilon,
            delta,
            data_dir,
            platformdirs.user_cache_path("p2prec"),
            on_progress,
            colluders=colluders,
            peers=_people(peers),
            trials=trials,
            seed=seed,
        )
    _write_json(json_file, report)
    show_audit(report)
    if not report["holds"]:
        raise P2PRecError("the promise does not hold: the attack proves a larger epsilon")


@lab_app.command("sweep", epilog=SWEEP_EPILOG)
def sweep_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML with the tables [run] and [grid].", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the reports go.")] = Path(
        "sweep"
    ),
    processes: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Cells at once.", show_default="one for each core")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead (needs p2prec[ray]).")
    ] = None,
    data_dir: DataDirOption = Path("../shared/data"),
) -> None:
    """Run experiments over a grid of settings, one report each.

    Cells whose report is there already are skipped: start it again to go on
    after an interruption, or to add values to the grid.
    """
    import os

    import platformdirs

    from p2prec.errors import P2PRecError
    from p2prec.lab.sweep import read_sweep, run_cells, run_cells_on_ray

    cells = read_sweep(config, output)
    output.mkdir(parents=True, exist_ok=True)
    waiting = sum(not cell.is_done for cell in cells)
    typer.echo(f"{len(cells)} cells, {len(cells) - waiting} done already, reports in {output}", err=True)
    cache = platformdirs.user_cache_path("p2prec")
    if ray is not None:
        ended = run_cells_on_ray(cells, data_dir.absolute(), cache, ray)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ended = run_cells(cells, data_dir.absolute(), cache, min(processes or cores, max(1, waiting)))
    failed = 0
    with progress() as on_progress:
        for number, (cell, error) in enumerate(ended, start=1):
            on_progress("cells", number, waiting, "")
            if error:
                failed += 1
                typer.echo(f"p2prec: {cell.path.name}: {error}", err=True)
    if failed:
        raise P2PRecError(f"{failed} of {waiting} cells failed; the others are in {output}")


def _config(*, settings: list[str] | None, **fields: Any) -> LabConfig:
    from p2prec.lab.config import assigned, config_from

    return config_from({**fields, **assigned(settings or [])})


def _people(text: str) -> int | None:
    from p2prec.errors import UsageError

    if text == "all":
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"--peers {text}: a number, or all")
    return int(text)


def _check_writable(option: str, path: Path | None) -> None:
    from p2prec.errors import UsageError

    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: no such folder")


def _write_json(path: Path | None, report: dict[str, Any]) -> None:
    import json

    if path is not None:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
