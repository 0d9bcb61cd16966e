"""What one daemon costs a device: memory, CPU, start and answers, with MovieLens-1M's catalogue (`make bench`).

One measured daemon and two neighbours, each a process of its own with one person's history, exchange over TLS on loopback.
Exits with 1 when a target of the project is missed. `--data` names the folder of data sets (default: $P2PREC_DATA, else
../shared/data beside the checkout); without MovieLens-1M there, made-up people of the same size are used, and it says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from daemons import Device, Running, make_device, running
from figures import Figure, machine, show, write_json
from films import Films, load_films
from wire import wire_figures

from p2prec.data.interactions import training_pairs
from p2prec.manifest import Manifest
from p2prec.peer.learner import Learner

MAX_RSS_MB = 70.0
MAX_READY_CPU_S = 1.0
MAX_CPU_PERCENT = 1.0
MAX_TOP_10_MS = 1.0
SETTLE_DEADLINE_S = 120.0
"""The daemon first measures its quality after 30 s; what a single time costs does not belong between rounds."""
N_WARM_STARTS = 3
N_COMMANDS = 5
N_TOP_10 = 2000
N_LEARNED_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """The measured daemon at one moment."""

    time_s: float
    cpu_s: float
    status: dict[str, Any]

    @classmethod
    def of(cls, daemon: Running) -> Sample:
        status = daemon.device.status()
        return cls(time.monotonic(), daemon.cpu.own_s, status)


def main() -> None:
    options = _options()
    films = load_films(options.data)
    manifest = films.manifest()
    print(f"{films.source}: {len(films.catalogue):,} items, {len(films.people[0])} interactions of the measured person")
    print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
    with tempfile.TemporaryDirectory(prefix="p2prec-bench-") as name:
        folder = Path(name)
        device = make_device(folder / "measured", manifest, films.people[0])
        figures = measure_start(device)
        with ExitStack() as swarm:
            neighbours = [
                swarm.enter_context(running(make_device(folder / f"neighbour-{n}", manifest, history), *VERBOSE))
                for n, history in enumerate(films.people[1:])
            ]
            peers = [text for neighbour in neighbours for text in ("--peer", neighbour.address)]
            daemon = swarm.enter_context(running(device, *peers))
            figures += measure_rounds(daemon, options.rounds)
            figures += measure_exchanges(daemon, neighbours)
            figures += measure_commands(device)
        figures += measure_top_10(films, manifest)
    show("One daemon", figures)
    wire = wire_figures(films.catalogue.keys, manifest)
    print()
    show("Wire and transport", wire)
    if options.json is not None:
        write_json(options.json, films.source, figures + wire)
    sys.exit(any(figure.verdict == "MISSED" for figure in figures))


VERBOSE = ("--verbose", "--log-format", "json")
"""The neighbours log every exchange; the measured daemon runs as it does on a device."""


def measure_start(device: Device) -> list[Figure]:
    """From exec to the first answer: once with no bytecode cache, then as on every later day."""
    with running(device) as daemon:
        first = daemon
    starts = []
    for _ in range(N_WARM_STARTS):
        with running(device) as daemon:
            starts.append(daemon)
    return [
        Figure(
            "start: CPU until ready", _median(s.ready.own_s for s in starts), "s", MAX_READY_CPU_S, "exec to status"
        ),
        Figure("start: wall time until ready", _median(s.ready_s for s in starts), "s"),
        Figure("first start ever: CPU until ready", first.ready.own_s, "s"),
        Figure("first start ever: bytecode cache", first.ready.children_s, "s", note="CPU, once a version, on top"),
    ]


def measure_rounds(daemon: Running, n_rounds: int) -> list[Figure]:
    """Memory and CPU while the daemon does its rounds, measures its quality and saves its model."""
    _settle(daemon)
    memory = [daemon.rss_bytes]
    before = Sample.of(daemon)
    while time.monotonic() - before.time_s < 10.0 * n_rounds:
        time.sleep(1.0)
        memory.append(daemon.rss_bytes)
    after = Sample.of(daemon)
    rounds = after.status["rounds"] - before.status["rounds"]
    share = 100 * (after.cpu_s - before.cpu_s) / (after.time_s - before.time_s)
    return [
        Figure("resident memory", max(memory) / 1e6, "MB", MAX_RSS_MB, f"largest of {len(memory)}, once a second"),
        Figure("resident memory, peak since start", daemon.peak_bytes / 1e6, "MB"),
        Figure("CPU between rounds of 10 s", share, "%", MAX_CPU_PERCENT, f"{rounds} rounds"),
        Figure("CPU a round", 1000 * (after.cpu_s - before.cpu_s) / max(1, rounds), "ms"),
    ]


def _settle(daemon: Running) -> None:
    """Wait for the first exchange and the first measurement."""
    deadline = time.monotonic() + SETTLE_DEADLINE_S
    while time.monotonic() < deadline:
        status = daemon.device.status()
        if status["exchanges"] >= 2 and status["quality"]["ndcg_at_10"] is not None:
            return
        time.sleep(1.0)
    raise RuntimeError(f"the daemon has not exchanged and measured within {SETTLE_DEADLINE_S:g} s: {status}")


def measure_exchanges(daemon: Running, neighbours: list[Running]) -> list[Figure]:
    """Bytes by the measured daemon's count; milliseconds by its neighbours' logs."""
    status = daemon.device.status()
    log = (line for n in neighbours for line in (n.device.state.parent / "daemon.log").read_text("utf-8").splitlines())
    events = (json.loads(line) for line in log)
    seconds = [e["seconds"] for e in events if e.get("event") == "ExchangeDone" and e["initiated"]]
    sent = status["bytes_out"] / max(1, status["exchanges"])
    return [
        Figure("exchange: bytes that a side sends", sent / 1000, "kB", note="all that it sent, TLS included"),
        Figure("exchange: offer to commit", 1000 * _median(seconds), "ms", note=f"median of {len(seconds)}"),
    ]


def measure_commands(device: Device) -> list[Figure]:
    """What a person waits for."""

    def ask(name: str) -> Callable[[], object]:
        return lambda: device.command(name)

    return [Figure(f"p2prec {name}: wall time", _median(_seconds(ask(name))), "s") for name in ("status", "recommend")]


def measure_top_10(films: Films, manifest: Manifest) -> list[Figure]:
    """The ten best of all items for one person, from the item factors on: a score each, the seen ones left out, sorted."""
    pairs = training_pairs(films.people[0], films.catalogue, manifest.learning.objective)
    learner = Learner(manifest.learning, manifest.privacy, films.catalogue.keys, bytes.fromhex(manifest.seed))
    learner.set_interactions(pairs.items, pairs.values)
    rng = np.random.default_rng(0)
    for _ in range(N_LEARNED_ROUNDS):
        learner.solve()
        learner.contribute(rng)
        learner.step()
    learner.solve()
    seconds = _seconds(lambda: learner.recommend(10), N_TOP_10)
    note = f"median of {N_TOP_10:,} in process"
    return [Figure(f"top-10 of {len(films.catalogue):,} items", 1000 * _median(seconds), "ms", MAX_TOP_10_MS, note)]


def _seconds(work: Callable[[], object], n_times: int = N_COMMANDS) -> list[float]:
    seconds = []
    for _ in range(n_times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def _median(values: Any) -> float:
    return float(statistics.median(values))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds ml-1m/ratings.csv.gz and items.csv.gz")
    parser.add_argument("--rounds", type=int, default=6, help="rounds to measure, 10 s each (default 6)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
