"""What a person or an app asks of a peer in a swarm with a promise, answered from both sums (`p2prec.model.pairs`).

Answers have the shapes of `p2prec.api.queries`, for a running daemon and a stopped store. Nothing here leaves the device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from p2prec.api.queries import REASONS, SECOND_REASON_SHARE, Recommendation, check_n, find_item
from p2prec.data.catalogue import Catalogue
from p2prec.model.pairs import PairModel, pair_factors, pair_reasons, pair_scores
from p2prec.model.topk import similar_items, top_k
from p2prec.types import IndexArray

NOTE_NO_SUM = (
    "The swarm has not counted anything yet, so there is nothing to recommend: p2prec status says when it will."
)
NOTE_POPULARITY = (
    "The swarm has counted what is popular so far, the same for everybody: p2prec status says when tastes follow."
)
NOTE_NO_TASTE = (
    "Under this promise no tastes could be told apart among so few people: this is what is popular in your swarm."
)
NOTE_NO_HISTORY = "You have logged nothing yet: this is what is popular in your swarm."
NOTE_ALL_SEEN = "You have had every item of the catalogue."
NOTE_NOT_SELECTED = (
    "Under its promise the swarm tells tastes apart among its {count} most popular items only; this is none of them."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairView:
    """Everything that an answer is computed from."""

    catalogue: Catalogue
    items: IndexArray
    """What the user's taste is read from; held-out interactions may be in it, since only the user sees the result."""
    seen: IndexArray
    """Rows of every item that the user did anything with: never recommended."""
    model: PairModel | None
    """None: no sum is done."""
    has_pairs: bool
    """Whether the second sum is done."""


def recommend_by_pairs(view: PairView, n: int = 10) -> dict[str, Any]:
    """As `p2prec.api.queries.recommend`. Raises UsageError unless 1 <= n <= MAX_N."""
    check_n(n)
    if view.model is None:
        return {"recommendations": [], "note": NOTE_NO_SUM}
    scores = pair_scores(view.model, view.items)
    best = top_k(scores, n, exclude=view.seen)
    found = [_explained(view, view.model, index, float(scores[index])) for index in best.tolist()]
    return {"recommendations": [asdict(one) for one in found], "note": _note(view, view.model, bool(found))}


def _note(view: PairView, model: PairModel, found: bool) -> str | None:
    if not found:
        return NOTE_ALL_SEEN
    if not view.has_pairs:
        return NOTE_POPULARITY
    if not model.gains.size:
        return NOTE_NO_TASTE
    return None if view.items.size else NOTE_NO_HISTORY


def _explained(view: PairView, model: PairModel, index: int, score: float) -> Recommendation:
    """With the one or two of the user's own items that speak most for it; otherwise it is there for its popularity."""
    found = Recommendation(view.catalogue.keys[index], view.catalogue.titles[index], score, "popular in your swarm")
    reasons = pair_reasons(model, view.items, index)
    strongest = np.argsort(-reasons, kind="stable")[:REASONS]
    least = SECOND_REASON_SHARE * float(reasons.max(initial=0.0))
    own = [int(view.items[i]) for i in strongest if reasons[i] > 0 and reasons[i] >= least]
    if not own:
        return found
    return replace(
        found,
        reason="because you liked " + " and ".join(view.catalogue.titles[i] for i in own),
        because=tuple(view.catalogue.keys[i] for i in own),
    )


def similar_by_pairs(view: PairView, item: str, n: int = 10) -> dict[str, Any]:
    """As `p2prec.api.queries.similar`: which of the selected items the same people have. Raises UsageError, DataError."""
    check_n(n)
    index = find_item(view.catalogue, item)
    near: list[dict[str, Any]] = []
    note = NOTE_NO_SUM if view.model is None else NOTE_POPULARITY if not view.has_pairs else None
    if view.model is not None and note is None:
        place = np.flatnonzero(view.model.selected == index)
        if not view.model.gains.size:
            note = NOTE_NO_TASTE
        elif not place.size:
            note = NOTE_NOT_SELECTED.format(count=len(view.model.selected))
        else:
            rows, cosines = similar_items(pair_factors(view.model), int(place[0]), n)
            near = [
                {"item": view.catalogue.keys[i], "title": view.catalogue.titles[i], "similarity": float(cosine)}
                for i, cosine in zip(view.model.selected[rows].tolist(), cosines.tolist(), strict=True)
            ]
    return {
        "item": view.catalogue.keys[index],
        "title": view.catalogue.titles[index],
        "similar": near,
        "note": note,
    }
