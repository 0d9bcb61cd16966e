"""`p2prec demo`: see it work, on this machine, with real people's histories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2prec.cli.app import app
from p2prec.errors import UsageError

EPILOG = """Examples:

p2prec demo

p2prec demo --peers 30 --seconds 60

p2prec demo --data ml-1m --json figures.json
"""


@app.command(epilog=EPILOG)
def demo(
    peers: Annotated[int, typer.Option(min=2, max=1000, help="People, each with a daemon of their own.")] = 100,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that host the daemons.")] = 4,
    seconds: Annotated[float, typer.Option(min=5, max=86400, help="How long the swarm lives.")] = 120,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Folder or file of interactions instead of MovieLens.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Made-up people, when no real data can be had.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Chooses the people, the swarm's common start and what is held out.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to a file.")
    ] = None,
) -> None:
    """See a whole swarm learn on this machine, from real people's histories.

    Real daemons, sockets, TLS and discovery. Each peer knows one person's
    history and keeps a fifth of it for the test at the end, which compares
    the swarm's model with learning alone and with popularity. Nothing leaves
    this machine, and nothing is left on it.
    """
    import json

    import platformdirs

    from p2prec.data.demo_data import load_demo_data, synthetic_demo_data
    from p2prec.data.histories import choose_people
    from p2prec.demo import screen
    from p2prec.demo.plan import make_plan, round_interval_s
    from p2prec.demo.run import run_demo

    if data is not None and synthetic:
        raise UsageError("--data and --synthetic exclude each other")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError(f"--json {json_file}: no such folder")
    if synthetic:
        source = synthetic_demo_data(max(peers, 50), 1000, seed)
    else:
        source = load_demo_data(data, platformdirs.user_cache_path("p2prec"))
    histories = choose_people(source.histories, peers, seed=seed)
    plan = make_plan(histories, seed=seed, round_interval_s=round_interval_s(peers, processes))
    with screen.follow(seconds, peers) as on_progress:
        report = run_demo(plan, n_processes=processes, seconds=seconds, on_progress=on_progress)
    report |= {"data": source.source, "is_real": source.is_real, "seed": seed}
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    screen.show(report, source.source)
