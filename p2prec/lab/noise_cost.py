"""What a little more noise than a trusted curator's costs in quality, and how far one draw of it moves a swarm by chance.

    python -m p2prec.lab.noise_cost --data PATH/ml-100k --epsilon 2 --draws 60

A private swarm is judged with one draw of noise for each seed, so its ratio to a curator moves by chance alone. Here both sums
are computed in one place (`p2prec.lab.private_swarm.learn_centrally`), as often as is asked for. The same draws are scaled to
each amount of noise, so that amounts are compared by pairs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.lab.config import LabConfig
from p2prec.lab.experiment import prepare
from p2prec.lab.private_swarm import FreshDraw, learn_centrally, plan_of
from p2prec.lab.seeds import seed_range
from p2prec.model.pairs import pair_scores
from p2prec.types import DoubleArray


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one amount of noise, means over seeds and draws; relative figures are shares of the first amount's mean."""

    ndcg_at_10: float
    """Full ranking, mean over all people."""
    relative: float
    standard_error: float
    """Of `relative`, over the draws, paired; conditional on the seeds' splits."""
    by_chance: float
    """Standard deviation, over the mean, of a mean over the seeds with one draw each: by what a run of so many seeds moves."""


def ndcg_by_noise(
    data: Path,
    epsilon: float,
    seed: int,
    noise: Sequence[float],
    draws: int,
    on_progress: Callable[[], None] = lambda: None,
) -> DoubleArray:
    """(len(noise), draws) full-ranking NDCG@10, on the split that `p2prec lab run --split random-one` makes with this seed.

    noise: multiples of what a curator adds. on_progress: told after each draw. Raises DataError, ValueError for a promise that is
    none.
    """
    config = LabConfig(data=str(data), split="random-one", seed=seed, epsilon=epsilon)
    task = prepare(config, data.parent, data.parent)
    items = [task.train.histories.of(person).items for person in range(task.train.n_people)]
    plan = plan_of(epsilon, config.privacy_parameters().delta, len(items))
    found = np.empty((len(noise), draws))
    for draw in range(draws):
        for row, multiple in enumerate(noise):
            model = learn_centrally(items, task.train.n_items, plan, multiple, FreshDraw(task.rng(7, draw)))
            judgement = task.judge.judge(np.stack([pair_scores(model, own) for own in items]))
            figures: dict[str, Any] = judgement.figures
            found[row, draw] = figures["full"]["ndcg_at_10"]
        on_progress()
    return found


def costs(found: DoubleArray) -> list[Cost]:
    """Of each amount of noise. found: (n_seeds, n_amounts, n_draws) NDCG@10, n_draws >= 2."""
    n_seeds, _, n_draws = found.shape
    means = found.mean(axis=(0, 2))
    result = []
    for amount, mean in enumerate(means.tolist()):
        difference = (found[:, amount] - found[:, 0]).mean(axis=0)
        error = float(difference.std(ddof=1)) / math.sqrt(n_draws) / float(means[0])
        by_chance = math.sqrt(float(found[:, amount].var(axis=1, ddof=1).sum())) / n_seeds / mean
        result.append(Cost(mean, mean / float(means[0]), error, by_chance))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder")
    parser.add_argument("--epsilon", type=float, default=2.0)
    parser.add_argument(
        "--noise", default="1,1.03,1.06,1.1,1.2", help="multiples of a curator's; the first is compared with"
    )
    parser.add_argument("--seeds", type=seed_range, default=range(5), help="one, or FIRST-LAST (default: 0-4)")
    parser.add_argument("--draws", type=int, default=60, help="of noise, for each seed (two or more)")
    arguments = parser.parse_args()
    if arguments.draws < 2:
        parser.error("--draws: two or more, or there is no spread to tell")
    seeds = arguments.seeds
    noise = [float(text) for text in arguments.noise.split(",")]
    done, total = 0, len(seeds) * arguments.draws

    def told() -> None:
        nonlocal done
        done += 1
        print(f"\r{done} of {total} draws", end="" if done < total else "\n", file=sys.stderr, flush=True)

    found = [ndcg_by_noise(arguments.data, arguments.epsilon, seed, noise, arguments.draws, told) for seed in seeds]
    print(f"epsilon {arguments.epsilon:g}, {len(seeds)} seeds, {arguments.draws} draws of noise for each")
    for multiple, cost in zip(noise, costs(np.stack(found)), strict=True):
        print(
            f"{multiple:5.2f} times a curator's noise: NDCG@10 {cost.ndcg_at_10:.4f}, "
            f"{cost.relative:.3f} ± {cost.standard_error:.3f} of the first; one draw a seed moves it by {cost.by_chance:.3f}"
        )


if __name__ == "__main__":
    main()
