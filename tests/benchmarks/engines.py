"""Both engines of the lab on the same data and seed, round by round: bare learners, and production peers with their messages.

Prints the quality that each reaches and the largest difference between any two entries of their tables; ends with 1 when there is
one.
`make engines` runs it on all of MovieLens-100K, with both objectives.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import platformdirs

from p2prec.errors import UsageError
from p2prec.lab import topology
from p2prec.lab.config import LabConfig, config_from
from p2prec.lab.engines import deviations, kernels, peers
from p2prec.lab.experiment import Task, headline, prepare
from p2prec.lab.memory import peak_rss_bytes

SPLIT = {"implicit": "last", "explicit": "random"}


def main() -> int:
    options = _options()
    largest = 0.0
    for objective in options.objective or ("implicit", "explicit"):
        fields = {
            "data": options.data,
            "objective": objective,
            "split": SPLIT[objective],
            "peers": options.peers,
            "rounds": options.rounds,
            "seed": options.seed,
            "learning": {"n_parts": options.parts},
        }
        config = config_from({**fields, "engine": "peers"})
        task = prepare(config, options.data_dir, platformdirs.user_cache_path("p2prec"))
        print(f"{options.data}, {objective}, {task.parts.n_peers} peers, {options.rounds} rounds, seed {options.seed}")
        largest = max(largest, _compare(config, task))
    print(f"peak memory {peak_rss_bytes() / 1e6:.0f} MB")
    return int(largest > 0)


def _compare(config: LabConfig, task: Task) -> float:
    """Run both, print, and return the largest relative difference."""
    swarms = {}
    for make in (kernels, peers):
        graph_rng, swarm_rng = task.rng(2).spawn(2)
        views = topology.neighbours(config.topology, task.train.histories, graph_rng, config.degree)
        swarm = make(config, task.train, views, swarm_rng)
        started = time.perf_counter()
        swarm.run(config.rounds)
        seconds = time.perf_counter() - started
        figure, traffic = headline(task.judge.judge(swarm.scores())), swarm.traffic
        print(
            f"  {make.__name__:8} {figure}  {traffic.messages} messages, {traffic.payload_bytes / 1e6:.1f} MB, {seconds:.1f} s"
        )
        swarms[make.__name__] = swarm
    found = deviations(swarms["kernels"].learners, swarms["peers"].learners)
    unequal = int((swarms["kernels"].scores() != swarms["peers"].scores()).sum())
    named = ", ".join(f"{name} {deviation:g}" for name, deviation in found.items())
    print(f"  largest difference of any peer's: {named}; {unequal} scores differ")
    return max(*found.values(), float(np.sign(unequal)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k", help="as of p2prec lab run")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--objective", action="append", choices=("implicit", "explicit"), help="default: both")
    parser.add_argument("--peers", type=int, help="default: all people")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(f"{error}\n{error.remedy}" if error.remedy else str(error))
