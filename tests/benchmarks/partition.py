"""What becomes of a swarm that falls into two halves and heals: python tests/benchmarks/partition.py

Production peers over the simulated network, with the defaults of the daemon: whom they know, lose, dial and exchange with is what
decides. It prints quality over that of the last rounds before the cut, how far the means of the halves are apart (relative to the
size of the tables), and the share of links that lead across, which is about a half in a swarm that is one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.demo_data import load_demo_data
from p2prec.lab.small_swarms import Task
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters, reference_catalogue
from p2prec.metrics.ranking import RankingScores
from p2prec.sim.world import World

ROUND_S = 2.0
REFERENCE = 4
"""Measurements before the cut."""


class Halves:
    """A swarm of which every other peer belongs to one half, every other to the other."""

    def __init__(self, data: Path | None, n_people: int, seed: int) -> None:
        with tempfile.TemporaryDirectory() as cache:
            self.task = Task.draw(load_demo_data(data, Path(cache)).histories, n_people, seed, timed=True)
        keys = self.task.item_keys
        catalogue = Catalogue(keys, tuple(keys))
        manifest = Manifest(
            name="halves",
            catalogue=reference_catalogue(catalogue.canonical_csv(), len(keys)),
            seed=f"{seed:064x}",
            # What is held out is of all times.
            learning=LearningParameters(recency_floor=1.0, round_interval_s=ROUND_S),
            privacy=PrivacyParameters(noise_multiplier=0.0),
        )
        self.world = World(manifest, catalogue, seed)
        for number, own in enumerate(self.task.histories):
            self.world.add(f"10.0.0.{number + 1}", own.items, own.values, own.times)
            self.world.run(0.3)
        self.names = list(self.world.peers)
        self.parts = set(self.names[::2]), set(self.names[1::2])

    def run(self, rounds: int) -> RankingScores:
        self.world.run(rounds * ROUND_S)
        learners = [self.world.peers[name].learner for name in self.names]
        for learner in learners:
            learner.solve()
        return self.task.measure(np.stack([learner.scores() for learner in learners]))

    @property
    def apart(self) -> float:
        one, other = (
            np.mean([self.world.peers[name].learner.state.item_factors for name in part], axis=0, dtype=np.float64)
            for part in self.parts
        )
        return float(np.linalg.norm(one - other) / np.linalg.norm(one + other) * 2)

    @property
    def links_across(self) -> tuple[float, float]:
        """Their share, and the links of a peer."""
        hosts = {name: [link.host for link in self.world.peers[name].peer.neighbours] for name in self.names}
        links = sum(map(len, hosts.values()))
        across = sum((host in self.parts[0]) != (name in self.parts[0]) for name in hosts for host in hosts[name])
        return across / links, links / len(self.names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set's folder (default: the demo's, MovieLens-latest-small)")
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--before", type=int, default=340, help="rounds before the cut")
    parser.add_argument("--cut", type=int, default=30, help="rounds of it")
    parser.add_argument("--after", type=int, default=300, help="rounds afterwards")
    parser.add_argument("--every", type=int, default=20, help="rounds between measurements")
    options = parser.parse_args()
    swarm = Halves(options.data, options.people, options.seed)
    swarm.run(max(0, options.before - REFERENCE * options.every))
    scores = [swarm.run(options.every) for _ in range(REFERENCE)]
    before = float(np.mean([one.ndcg for one in scores])), float(np.mean([one.auc for one in scores]))
    print(f"{options.people} people, seed {options.seed}: NDCG@10 {before[0]:.4f}, AUC {before[1]:.4f} before\n")
    print("when                   NDCG@10    AUC  apart  across  links")

    def tell(when: str, one: RankingScores) -> None:
        across, links = swarm.links_across
        print(
            f"{when:<20}  {one.ndcg / before[0]:8.3f} {one.auc / before[1]:6.3f} {swarm.apart:6.3f} {across:7.2f} {links:6.1f}",
            flush=True,
        )

    tell("before", scores[-1])
    swarm.world.network.partition(*swarm.parts)
    tell("at its end", swarm.run(options.cut))
    swarm.world.network.heal()
    for done in range(options.every, options.after + 1, options.every):
        tell(f"{done} rounds later", swarm.run(options.every))


if __name__ == "__main__":
    main()
