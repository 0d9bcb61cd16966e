"""Judging a method: one protocol, the same test rows and the same sampled negatives for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from p2prec.lab.splits import LabSplit
from p2prec.metrics.exposure import Exposure, exposure
from p2prec.metrics.fairness import sparse_and_dense_means, worst_share_mean
from p2prec.metrics.paired import Ratio, ratio_of_means
from p2prec.metrics.ranking import ranking_scores
from p2prec.metrics.rating import rmse
from p2prec.metrics.sampled import N_NEGATIVES, sample_negatives, sampled_scores
from p2prec.types import DoubleArray, FloatArray, IndexArray

TOP_K = 10
Figures = dict[str, float | dict[str, float]]
"""`{"rmse"}`, or `{"full": {...}, "sampled": {...}}`, as the reports have them."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What an experiment says about one method."""

    figures: Figures
    """Means over people: `{"rmse"}`, or HR@10 and NDCG@10 by full and by sampled ranking."""
    of_people: dict[str, Any]
    """The same keys with (n_people,) arrays whose means are in the same ratio to each other as the figures: hits and NDCG@10
    of each person (sampled: the sums over what was held out of each), or the sum of each person's squared errors."""
    fairness: dict[str, float]
    """Worst decile, sparse and dense people, exposure of the long tail. (AUC, since the worst decile never has a hit.)"""


def mean_of(judgements: Sequence[Judgement]) -> Judgement:
    """What several runs of one method come to on average, for every person as well. All are of the same `Judge`."""

    def mean(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: mean([one[key] for one in values]) for key in values[0]}
        return np.mean(values, axis=0) if isinstance(values[0], np.ndarray) else float(np.mean(values))

    fields = ([getattr(one, name) for one in judgements] for name in ("figures", "of_people", "fairness"))
    return Judgement(*map(mean, fields))


def paired(one: Judgement, other: Judgement) -> dict[str, Any]:
    """Each figure of one method over another's, with its standard error over people; the keys of `Judgement.figures`.

    Both are of the same `Judge`, so that the same people are compared. A figure of which the other has nothing is left out.
    """
    compared: dict[str, Any] = {}
    for name, mine in one.of_people.items():
        if isinstance(mine, dict):
            ratios = {key: ratio_of_means(mine[key], other.of_people[name][key]) for key in mine}
            compared[name] = {key: asdict(ratio) for key, ratio in ratios.items() if ratio is not None}
        elif (ratio := ratio_of_means(mine, other.of_people[name])) is not None:
            root = float(np.sqrt(ratio.ratio))  # of mean squares: an RMSE's is its root
            compared[name] = asdict(Ratio(root, ratio.standard_error / (2 * root) if root else 0.0))
    return compared


class Judge:
    """Holds the test part, so that every method faces exactly the same questions.

    Raises DataError in `LabSplit` already when there is nothing to measure on.
    """

    def __init__(self, parts: LabSplit, objective: str, rng: np.random.Generator) -> None:
        """rng: decides the sampled negatives."""
        self.objective = objective
        self.train, self.test = parts.train, parts.test
        self.people = np.flatnonzero(np.diff(self.test.offsets) > 0)
        """(n,) those who have a test part: the means are over them."""
        self._counts = self.train.counts()
        self._range = float(self.train.values.min()), float(self.train.values.max())
        self._negatives = self._draw(rng) if objective == "implicit" else np.empty((0, 0), np.int64)

    def judge(self, scores: FloatArray) -> Judgement:
        """scores: (n_people, n_items) float32, row u by what person u's own model (or the common one) says; finite."""
        if self.objective == "explicit":
            errors = self._squared_errors(scores)
            means = errors / np.diff(self.test.offsets)[self.people]
            return Judgement({"rmse": self._rmse(scores)}, {"rmse": errors}, self._rating_fairness(means, scores))
        ndcg, hits, areas = self._full(scores)
        full = {"hr_at_10": hits, "ndcg_at_10": ndcg}
        sampled = dict(zip(full, self._sampled(scores), strict=True))
        figures: Figures = {
            kind: {name: float(values.mean()) for name, values in one.items()}
            for kind, one in (("full", full), ("sampled", sampled))
        }
        rankings = {"full": full, "sampled": {name: self._sums(one) for name, one in sampled.items()}}
        sparse, dense = sparse_and_dense_means(ndcg, self._lengths)
        fairness = {
            "mean_auc": float(areas.mean()),
            "worst_decile_auc": worst_share_mean(areas),
            "sparse_quarter_ndcg_at_10": sparse,
            "dense_quarter_ndcg_at_10": dense,
        }
        return Judgement(figures, rankings, fairness | self._exposure(scores))

    @cached_property
    def _lengths(self) -> IndexArray:
        return np.diff(self.train.offsets)[self.people]

    def _sums(self, values: DoubleArray) -> DoubleArray:
        """(n,) the sum over what was held out of each person; values: (n_test_rows,)."""
        return np.add.reduceat(values, self.test.offsets[:-1][self.people])

    # --- ratings ---

    def _predicted(self, scores: FloatArray) -> FloatArray:
        """(n_test_rows,) ratings, cut to the range that the training part knows, as Surprise and others do."""
        rows = np.repeat(np.arange(len(self.test)), np.diff(self.test.offsets))
        return np.clip(scores[rows, self.test.items], *self._range)

    def _rmse(self, scores: FloatArray) -> float:
        return rmse(self._predicted(scores), self.test.values)

    def _squared_errors(self, scores: FloatArray) -> DoubleArray:
        """(n,) the sum of the squared errors of each person with a test part."""
        return self._sums((self._predicted(scores).astype(np.float64) - self.test.values) ** 2)

    def _rating_fairness(self, errors: DoubleArray, scores: FloatArray) -> dict[str, float]:
        sparse, dense = sparse_and_dense_means(errors, self._lengths)
        fairness = {
            "worst_decile_rmse": float(np.sqrt(worst_share_mean(errors, lower_is_worse=False))),
            "sparse_quarter_rmse": float(np.sqrt(sparse)),
            "dense_quarter_rmse": float(np.sqrt(dense)),
        }
        return fairness | self._exposure(scores)

    # --- rankings ---

    def _full(self, scores: FloatArray) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
        """(n,) NDCG@10, HR@10 and AUC of each person's full ranking of all items outside the training part."""
        ranked = [
            ranking_scores(scores[person], self.test.of(person).items, self.train.of(person).items, TOP_K)
            for person in self.people.tolist()
        ]
        return (
            np.array([one.ndcg for one in ranked]),
            np.array([one.hit_rate for one in ranked]),
            np.array([one.auc for one in ranked]),
        )

    def _sampled(self, scores: FloatArray) -> tuple[DoubleArray, DoubleArray]:
        """(n_test_rows,) HR@10 and NDCG@10 of each held-out item among its negatives."""
        rows = np.repeat(np.arange(len(self.test)), np.diff(self.test.offsets))
        positives = scores[rows, self.test.items].astype(np.float64)
        negatives = scores[rows[:, None], self._negatives].astype(np.float64)
        negatives[self._negatives < 0] = np.nan
        return sampled_scores(positives, negatives, TOP_K)

    def _draw(self, rng: np.random.Generator) -> IndexArray:
        """(n_test_rows, 99) item indices, -1 where a person has touched all others."""
        negatives = np.full((len(self.test.items), N_NEGATIVES), -1, np.int64)
        n_items = len(self.train.catalogue)
        for person in self.people.tolist():
            touched = np.concatenate([self.train.of(person).items, self.test.of(person).items])
            for row in range(int(self.test.offsets[person]), int(self.test.offsets[person + 1])):
                drawn = sample_negatives(n_items, touched, rng)
                negatives[row, : len(drawn)] = drawn
        return negatives

    def _exposure(self, scores: FloatArray) -> dict[str, float]:
        shown: Exposure = exposure(self._recommended(scores), self._counts)
        return {
            "long_tail_share_at_10": shown.long_tail_share,
            "coverage_at_10": shown.coverage,
            "gini_at_10": shown.gini,
        }

    def _recommended(self, scores: FloatArray) -> IndexArray:
        """All people's top ten of what they have not had, one after the other (those with a test part)."""
        lists = []
        for person in self.people.tolist():
            row = scores[person].copy()
            row[self.train.of(person).items] = -np.inf
            k = min(TOP_K, int((row > -np.inf).sum()))
            if k:
                lists.append(np.argpartition(-row, k - 1)[:k])
        return np.concatenate(lists)
