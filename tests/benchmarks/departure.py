"""What becomes of those who stay when others leave for good: python tests/benchmarks/departure.py

The lab's compiled kernels (`p2prec[fast]`). A share of the people leaves at once, without a word; the same course is played once
more in which they stay. It prints, for those who stay, NDCG@10 over that of the last rounds before, and AUC over its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from p2prec.data.demo_data import load_demo_data
from p2prec.lab.compiled.swarm import CompiledSwarm
from p2prec.lab.small_swarms import Task
from p2prec.lab.topology import random_views
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.metrics.ranking import ranking_scores
from p2prec.types import DoubleArray, IndexArray

DEGREE = 8
EVERY = 10
"""Rounds between measurements."""


class Stayers:
    """A swarm, and how well it serves those who are going to stay."""

    def __init__(self, task: Task, seed: int, staying: IndexArray, learning: LearningParameters, noise: float) -> None:
        rng = np.random.default_rng([seed, 2])
        n_people = len(task.train)
        self.task, self.staying = task, staying
        self.views = random_views(n_people, DEGREE, rng)
        privacy = PrivacyParameters(noise_multiplier=noise)
        self.swarm = CompiledSwarm(
            learning, privacy, task.item_keys, rng.bytes(32), task.histories, rng, views=self.views, n_processes=1
        )

    def lose_the_others(self) -> None:
        """The lists are the schedule's own: nobody meets the others from now on, and their meetings are nobody's."""
        for peer, view in enumerate(self.views):
            stays = np.isin(view, self.staying)
            self.views[peer] = view[stays if peer in self.staying else ~stays]

    def run(self, rounds: int) -> DoubleArray:
        """(2,) NDCG@10 and AUC, the mean of a measurement every ten rounds."""
        measured = []
        for _ in range(rounds // EVERY):
            self.swarm.run(EVERY)
            scores = self.swarm.scores()
            each = [ranking_scores(scores[one], self.task.test[one], self.task.train[one]) for one in self.staying]
            measured.append([(one.ndcg, one.auc) for one in each])
        mean: DoubleArray = np.mean(measured, axis=(0, 1))
        return mean


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as cache:
        histories = load_demo_data(options.data, Path(cache)).histories
    learning = LearningParameters(recency_floor=1.0)  # what is held out is of all times
    if options.momentum is not None:
        learning = msgspec.structs.replace(learning, momentum=options.momentum)
    ends = list(range(options.every, options.after + 1, options.every))
    print(
        f"NDCG@10 after so many rounds more, over that before: {' '.join(f'{end:5d}' for end in ends)}; AUC at the end"
    )
    courses: dict[bool, list[list[float]]] = {True: [], False: []}
    for seed in range(options.seeds):
        task = Task.draw(histories, options.people, seed, timed=True)
        lot = np.random.default_rng([seed, 9]).permutation(options.people)
        staying = np.sort(lot[round(options.share * options.people) :])
        for leave, rows in courses.items():
            one = Stayers(task, seed, staying, learning, options.noise)
            one.run(options.before - options.every)
            before = one.run(options.every)
            if leave:
                one.lose_the_others()
            after = [one.run(options.every) / before for _ in ends]
            rows.append([*(float(ndcg) for ndcg, _ in after), float(after[-1][1])])
            _tell(f"seed {seed}, {'they leave' if leave else 'all stay'}, {before[0]:.4f} {before[1]:.4f}", rows[-1])
    for leave, rows in courses.items():
        _tell(f"mean of {options.seeds}, {'they leave' if leave else 'all stay'}", list(np.mean(rows, axis=0)))
        if len(rows) > 1:
            _tell("standard error", list(np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))))


def _tell(what: str, row: list[float]) -> None:
    print(f"{what:<45}{' '.join(f'{value:.3f}' for value in row)}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set's folder (default: the demo's, MovieLens-latest-small)")
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--share", type=float, default=0.2, help="of the people, who leave")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--before", type=int, default=340, help="rounds before")
    parser.add_argument("--after", type=int, default=300, help="rounds afterwards")
    parser.add_argument("--every", type=int, default=60, help="rounds of a measurement, which takes one every ten")
    parser.add_argument("--noise", type=float, default=0.0, help="noise multiplier")
    parser.add_argument("--momentum", type=float, help="instead of the default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
