"""What a person or an app asks of a peer, answered from a `LocalView`: the same code for a running daemon and a stopped store.

Pure functions; results are dicts ready for JSON. Nothing here leaves the device: whoever can query another's recommender learns
about its owner (docs/algorithm.md#privacy).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import TrainingPairs
from p2prec.errors import UsageError
from p2prec.manifest import Manifest
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.state import ModelState, served_factors
from p2prec.model.topk import scores, similar_items, top_k
from p2prec.model.user import explain, solve_user
from p2prec.types import FloatArray, IndexArray, PeerId

MAX_N = 100
"""Most results of one question: bounds the answer's length and the time that it takes on the daemon's event loop."""
MAX_ITEM_CHARACTERS = 500
"""Longest text that is looked up as an item."""
REASONS = 2
"""A recommendation names at most this many of the user's own items."""
SECOND_REASON_SHARE = 0.5
"""A second item is named only if it adds at least this share of what the first adds."""

NOTE_ALONE = "This peer has learned from nobody else yet, so it cannot tell what goes with what you liked."
NOTE_NOTHING = "Nothing to recommend yet: nobody this peer has learned from did anything with the other items."
NOTE_NO_HISTORY = "You have logged nothing yet: this is what is popular in your swarm."
NOTE_UNKNOWN = "Nobody this peer has learned from did anything with this item yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalView:
    """Everything that an answer is computed from. `state` is read, never changed, and must not change during a call."""

    peer_id: PeerId
    manifest: Manifest
    catalogue: Catalogue
    pairs: TrainingPairs
    """What the user's taste is solved from; held-out interactions may be in it, since only the user sees the result."""
    seen: IndexArray
    """Rows of every item that the user did anything with, trained on or not: never recommended."""
    state: ModelState
    exchanges: int
    """Exchanges with other peers behind `state`; 0 while it has met nobody."""
    version: int
    """Grows whenever `state`, `pairs` or `seen` change: what was computed from an equal version may be used again."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One item for the user."""

    item: str
    title: str
    score: float
    """Predicted rating (explicit) or preference (implicit); the evidence for a user without history."""
    reason: str
    because: tuple[str, ...] = ()
    """Keys of the user's own items that speak most for it, strongest first; at most `REASONS`."""


class QueryCache:
    """Recommends from a view that changes now and then, and remembers what one version's answers share. For one thread."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._user_factor: FloatArray | None = None
        self._answer: tuple[int, dict[str, Any]] | None = None

    def recommend(self, view: LocalView, n: int = 10) -> dict[str, Any]:
        """As the function `recommend`: the user side is solved once per version of the view, and the last answer is kept."""
        if view.version != self._version or self._user_factor is None:
            self._user_factor = _user_factor(view)
            self._version = view.version
            self._answer = None
        if self._answer is None or self._answer[0] != n:
            self._answer = (n, recommend(view, n, user_factor=self._user_factor))
        return self._answer[1]


def recommend(view: LocalView, n: int = 10, *, user_factor: FloatArray | None = None) -> dict[str, Any]:
    """The n items that the user has not had and is predicted to like best, each with its reason.

    `{"recommendations": [{"item", "title", "score", "reason", "because"}, ...], "note": str | None}`. user_factor: what
    `solve_user` gives for this view, when known. Raises UsageError unless 1 <= n <= MAX_N.
    """
    check_n(n)
    if view.pairs.items.size:
        found = _personal(view, n, _user_factor(view) if user_factor is None else user_factor)
        note = None
    else:
        found = _popular(view, n)
        note = NOTE_NO_HISTORY
    if not found:
        note = NOTE_NOTHING if view.exchanges else NOTE_ALONE
    return {"recommendations": [asdict(recommendation) for recommendation in found], "note": note}


def best_items(view: LocalView, n: int, user_factor: FloatArray) -> tuple[IndexArray, FloatArray]:
    """The ranking alone: indices of the n best items that the user has not had, best first, and their scores.

    Items without evidence are left out: their rows are still the common random start, and would be recommended at random.
    """
    values = scores(view.manifest.learning, served_factors(view.state), user_factor)
    values[view.state.evidence <= 0] = -np.inf
    best = top_k(values, n, exclude=view.seen)
    return best, values[best]


def similar(view: LocalView, item: str, n: int = 10) -> dict[str, Any]:
    """The n items whose factors point most nearly the same way as `item`'s (a key, or a title that only one item has).

    Items without evidence are left out: their rows are still random, and a small random vector is like any other.

    `{"item", "title", "similar": [{"item", "title", "similarity"}, ...], "note"}`, similarity a cosine, -1 to 1. Raises
    UsageError unless 1 <= n <= MAX_N, DataError (with near candidates) for an unknown item.
    """
    check_n(n)
    index = find_item(view.catalogue, item)
    factors = served_factors(view.state)[:, : view.manifest.learning.n_factors]
    near, cosines = similar_items(factors, index, len(factors))
    known = view.state.evidence[near] > 0 if view.state.evidence[index] > 0 else np.zeros(len(near), np.bool_)
    return {
        "item": view.catalogue.keys[index],
        "title": view.catalogue.titles[index],
        "similar": [
            {"item": view.catalogue.keys[i], "title": view.catalogue.titles[i], "similarity": cosine}
            for i, cosine in zip(near[known][:n].tolist(), cosines[known][:n].tolist(), strict=True)
        ],
        "note": None if known.any() else NOTE_UNKNOWN,
    }


def find_item(catalogue: Catalogue, item: str) -> int:
    """The index of an item by its key, or by a title that only one item has. Raises UsageError, DataError (with candidates)."""
    if not isinstance(item, str) or len(item) > MAX_ITEM_CHARACTERS:
        raise UsageError(f"an item is a text of at most {MAX_ITEM_CHARACTERS} characters")
    return catalogue.index_of(catalogue.resolve(item))


def check_n(n: int) -> None:
    """Raises UsageError unless 1 <= n <= MAX_N."""
    # A bool is an int, and what comes over the socket may be anything.
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_N:
        raise UsageError(f"the number of results must be 1 to {MAX_N}")


def _user_factor(view: LocalView) -> FloatArray:
    pairs = view.pairs
    return solve_user(view.manifest.learning, served_factors(view.state), pairs.items, pairs.values, _weights(view))


def _weights(view: LocalView) -> FloatArray:
    """What each of the user's interactions counts: the latest most."""
    return recent_weights(view.manifest.learning, recency_ranks(view.pairs.times), np.ones_like(view.pairs.values))


def _personal(view: LocalView, n: int, user_factor: FloatArray) -> list[Recommendation]:
    best, values = best_items(view, n, user_factor)
    return [
        _explained(view, index, Recommendation(view.catalogue.keys[index], view.catalogue.titles[index], score, ""))
        for index, score in zip(best.tolist(), values.tolist(), strict=True)
    ]


def _popular(view: LocalView, n: int) -> list[Recommendation]:
    """The items that most of the swarm's contributions touch."""
    best = top_k(view.state.evidence, n, exclude=view.seen)
    return [
        Recommendation(
            view.catalogue.keys[i], view.catalogue.titles[i], float(view.state.evidence[i]), "popular in your swarm"
        )
        for i in best.tolist()
        if view.state.evidence[i] > 0
    ]


def _explained(view: LocalView, index: int, recommendation: Recommendation) -> Recommendation:
    """Add the reason: the one or two of the user's own items that add most to the score of item `index`.

    With ratings, an item that the user rated below their own mean is never named as liked, however much it adds.
    """
    pairs = view.pairs
    contributions = explain(
        view.manifest.learning, served_factors(view.state), pairs.items, pairs.values, index, _weights(view)
    ).contributions
    if view.manifest.learning.objective == "explicit":
        contributions = np.where(view.pairs.values >= view.pairs.values.mean(), contributions, 0.0)
    strongest = np.argsort(-contributions, kind="stable")[:REASONS]
    least = max(0.0, SECOND_REASON_SHARE * float(contributions[strongest[0]]))
    own = [int(view.pairs.items[i]) for i in strongest if contributions[i] > 0 and contributions[i] >= least]
    if not own:
        return replace(recommendation, reason="liked in your swarm")
    return replace(
        recommendation,
        reason="because you liked " + " and ".join(view.catalogue.titles[i] for i in own),
        because=tuple(view.catalogue.keys[i] for i in own),
    )
