"""What a promise lets a swarm expect, by its size and epsilon: the table that `p2prec swarm create --epsilon` reads from.

    python -m p2prec.lab.private_quality --data PATH/ml-100k -o p2prec/privacy/expected_quality.json

People are drawn from the data set, one random interaction of each is held out, and NDCG@10 over the full ranking is averaged
over people, then over draws. The sums are computed in one place, with the noise that a swarm of peers ends up with (NOISE); the
smaller the swarm, the more draws.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.data.histories import Histories, read_histories
from p2prec.data.synthetic import synthetic_histories
from p2prec.lab.dataset import sample_people
from p2prec.lab.private_swarm import FreshDraw, learn_centrally
from p2prec.lab.splits import split
from p2prec.metrics.ranking import ndcg_at_k
from p2prec.model.pairs import pair_scores
from p2prec.privacy.plan import COLLUDING, PrivacyPlan
from p2prec.types import FloatArray, IndexArray

SIZES = (60, 100, 200, 400, 943)
EPSILONS = (1.0, 2.0, 4.0, 8.0)
DELTA = 1e-5
NOISE = 1.1
"""Noise in a copy over a trusted curator's, through masks, eight bits and crashes (docs/research/0003-privacy.md)."""
PEOPLE_JUDGED = 10_000
"""About so many rankings are behind each figure."""
MOST_DRAWS = 100


def draws(n_people: int) -> int:
    """How often people are drawn anew for a swarm of this size."""
    return min(MOST_DRAWS, math.ceil(PEOPLE_JUDGED / n_people))


def figures(
    histories: Histories, n_people: int, epsilons: Sequence[float], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """A row of the table for each epsilon. Popularity: exact counts, which no peer of a private swarm knows."""
    found: dict[float, list[float]] = {epsilon: [] for epsilon in epsilons}
    popularity: list[float] = []
    n_items = len(histories.catalogue)
    for seed in seeds:
        people = sample_people(histories, n_people, np.random.default_rng([seed, 0]))
        parts = split(people, "random-one", np.random.default_rng([seed, 1]))
        train, test = ([part.of(person).items for person in range(n_people)] for part in (parts.train, parts.test))
        counts = np.bincount(np.concatenate(train), minlength=n_items).astype(np.float32)
        popularity.append(_judge([counts] * n_people, test, train))
        for epsilon in epsilons:
            plan = PrivacyPlan.of(epsilon, DELTA, n_people - COLLUDING)
            rng = np.random.default_rng([seed, 2, round(1000 * epsilon)])
            model = learn_centrally(train, n_items, plan, NOISE, FreshDraw(rng))
            found[epsilon].append(_judge([pair_scores(model, items) for items in train], test, train))
    return [_row(n_people, epsilon, found[epsilon], popularity) for epsilon in epsilons]


def _judge(scores: Sequence[FloatArray], test: Sequence[IndexArray], train: Sequence[IndexArray]) -> float:
    return float(np.mean([ndcg_at_k(*person) for person in zip(scores, test, train, strict=True)]))


def _row(n_people: int, epsilon: float, found: list[float], popularity: list[float]) -> dict[str, Any]:
    gain = np.array(found) - np.array(popularity)
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return {
        "people": n_people,
        "epsilon": epsilon,
        "ndcg_at_10": round(float(np.mean(found)), 4),
        "popularity_ndcg_at_10": round(float(np.mean(popularity)), 4),
        "gain_standard_error": round(error, 4),
        "draws": len(gain),
    }


def table(histories: Histories, name: str, sizes: Sequence[int], epsilons: Sequence[float]) -> dict[str, Any]:
    """The whole table, ready for JSON."""
    rows = []
    for n_people in sizes:
        rows += figures(histories, n_people, epsilons, range(draws(n_people)))
        for row in rows[-len(epsilons) :]:
            print(json.dumps(row), flush=True)
    return {
        "data": name,
        "people_in_data": len(histories),
        "items": len(histories.catalogue),
        "median_history": float(np.median(np.diff(histories.offsets))),
        "split": "random-one",
        "delta": DELTA,
        "noise_over_curator": NOISE,
        "seeds": "0 to draws - 1",
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data set's folder (default: made-up people and titles)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where to write the table")
    options = parser.parse_args(arguments)
    if options.data is None:
        histories, name = synthetic_histories(1000, 1500, 0), "made-up people and titles"
    else:
        histories, name = read_histories(options.data), options.data.name
    found = table(histories, name, SIZES, EPSILONS)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
