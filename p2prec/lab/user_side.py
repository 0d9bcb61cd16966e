"""What the user side is worth, all in one place: docs/research/0002-user-side.md has its figures.

    python -m p2prec.lab.user_side --data PATH/ml-100k
    python -m p2prec.lab.user_side --data PATH/ml-100k --test --rows equal both

Settings are compared on the training part alone: its last interaction of each person, then the last but one, and so on, is
held out in turn (`--folds`) with everything that came after it. `--test` judges what was chosen, once, on everybody's
latest interaction. The model is `p2prec.lab.baselines.central`: the swarm's own kernels without its network.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from p2prec.data.histories import Histories, read_histories
from p2prec.lab.baselines.base import Training
from p2prec.lab.baselines.central import Central
from p2prec.lab.config import assigned, config_from
from p2prec.lab.dataset import sample_people, take_people
from p2prec.lab.evaluate import Judge
from p2prec.lab.splits import LabSplit, split, split_people
from p2prec.types import DoubleArray

EQUAL = {"recency_floor": 1.0, "segment_interactions": 100_000}
ROWS: dict[str, dict[str, float]] = {
    "equal": EQUAL,
    "recent": {"segment_interactions": 100_000},
    "segments": {"recency_floor": 1.0},
    "both": {},
    "both, no floor": {"recency_floor": 0.0},
    "both, floor .05": {"recency_floor": 0.05},
    "both, back 2": {"recency_interactions": 2.0},
    "both, back 5": {"recency_interactions": 5.0},
    "both, segments of 20": {"segment_interactions": 20},
    "both, segments of 80": {"segment_interactions": 80},
    "both, segments alone": {"segment_floor": 0.0},
}
"""What differs from the defaults in each row of the table."""


def last_ones(histories: Histories, n_folds: int, seed: int) -> Iterator[LabSplit]:
    """Everybody's latest interaction held out; then, that one taken away, the one before it; and so on.

    Equal times are decided by lot. Raises DataError when nobody has enough interactions.
    """
    rng = np.random.default_rng([seed, 4])
    for _ in range(n_folds):
        parts = split(take_people(histories, split_people(histories, "last")), "last", rng)
        histories = parts.train
        yield parts


def figures(parts: LabSplit, changes: dict[str, float], settings: Sequence[str], rounds: int, seed: int) -> DoubleArray:
    """(4,) HR@10 and NDCG@10, sampled and full, of the central model."""
    fields = assigned(list(settings))
    fields["learning"] = {**fields.get("learning", {}), **changes}
    config = config_from({"data": "-", "seed": seed, "rounds": rounds, **fields})
    privacy = msgspec.structs.replace(config.privacy_parameters(), noise_multiplier=0.0)
    model = Central(config.learning_parameters(), privacy, config.swarm_seed)
    fitted = model.fit(Training.of(parts.train, "implicit", rounds), np.random.default_rng([seed, 3]))
    found = Judge(parts, "implicit", np.random.default_rng([seed, 1])).judge(fitted.scores).figures
    return np.array([found[how][what] for how in ("sampled", "full") for what in ("hr_at_10", "ndcg_at_10")])  # type: ignore[index]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    histories = read_histories(options.data)
    people = take_people(histories, split_people(histories, "last"))
    rng = np.random.default_rng([options.seed, 0])
    judged = split(sample_people(people, options.people, rng), "last", rng)
    parts = [judged] if options.test else list(last_ones(judged.train, options.folds, options.seed))
    where = "the test part" if options.test else f"{options.folds} folds of the training part"
    print(f"{options.data.name}, {judged.n_peers} people, {where}; settings {' '.join(options.set) or 'as they are'}")
    print("sampled HR@10 / NDCG@10, full HR@10 / NDCG@10; in brackets the standard deviation over folds\n")
    for row in options.rows:
        table = np.array([figures(part, ROWS[row], options.set, options.rounds, options.seed) for part in parts])
        spread = [f" ({deviation:.4f})" if len(parts) > 1 else "" for deviation in table.std(axis=0)]
        texts = [f"{one:.4f}{deviation}" for one, deviation in zip(table.mean(axis=0), spread, strict=True)]
        print(f"{row:22} {' / '.join(texts[:2])}   {' / '.join(texts[2:])}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set's folder, with times")
    parser.add_argument("--people", type=int, help="draw so many (default: all)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="judge on everybody's latest interaction")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="learning.NAME=VALUE", help="other settings than the defaults"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
