"""One run of a p2prec swarm on the split that gossipy's example made, for peers.py: the lab's own engine, in its own process."""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import time
from collections import deque
from pathlib import Path

import numpy as np

from p2prec.lab.backend import can_compile
from p2prec.lab.config import assigned, config_from
from p2prec.lab.engines import moments
from p2prec.lab.experiment import Task, prepare, versions
from p2prec.lab.memory import peak_rss_bytes
from p2prec.types import FloatArray

DEGREE = 10
"""Peers that a peer picks: links count both ways, so it knows 20 as in gossipy's example."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with ratings.csv")
    parser.add_argument("tests", type=Path, help="gossipy's tests.csv: the rows to hold out")
    parser.add_argument("folder", type=Path, help="where to write tests.csv and report.json")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--factors", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in p2prec lab run")
    options = parser.parse_args()
    options.folder.mkdir()

    settings = assigned([f"learning.n_factors={options.factors}", *options.set])
    fields = {"objective": "explicit", "rounds": options.rounds, "seed": options.seed, "degree": DEGREE}
    config = config_from(
        {"data": str(options.data), "split": str(options.tests), "measure_every": options.rounds, **fields, **settings}
    )
    task = prepare(config, options.data, options.folder)
    if can_compile():
        from p2prec.lab.compiled.swarm import compile_kernels

        compile_kernels(config.objective)  # once on a machine, so no part of what is measured
    started_cpu = time.process_time()
    moment = deque(moments(config, task.train, task.rng(2)), maxlen=1).pop()
    # With the swarm's set-up, which is not in moment.seconds.
    cpu_seconds = time.process_time() - started_cpu
    report = {
        "peers": task.parts.n_peers,
        "rounds": moment.round,
        "n_factors": options.factors,
        "seconds": moment.seconds,
        "bytes_per_peer_round": moment.sent_bytes / moment.peer_rounds,
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": versions(),
    }
    write_tests(options.folder / "tests.csv", task, moment.scores())
    del moment
    gc.collect()  # ends the swarm's other processes, whose time is known only then
    children = os.times()
    report["cpu_seconds"] = cpu_seconds + children.children_user + children.children_system
    (options.folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def write_tests(path: Path, task: Task, scores: FloatArray) -> None:
    """Each peer's held-out ratings, and what its own copy of the model predicts for them."""
    test = task.parts.test
    rows = np.repeat(np.arange(len(test)), np.diff(test.offsets))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "rating", "predicted"])
        for user, item, rating in zip(rows.tolist(), test.items.tolist(), test.values.tolist(), strict=True):
            writer.writerow([test.users[user], test.catalogue.keys[item], rating, float(scores[user, item])])


if __name__ == "__main__":
    main()
