"""What a person is told: recommendations with honest reasons, similar items, and what is said when there is little to say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from p2prec.api.queries import (
    MAX_ITEM_CHARACTERS,
    MAX_N,
    NOTE_ALONE,
    NOTE_NO_HISTORY,
    NOTE_NOTHING,
    NOTE_UNKNOWN,
    LocalView,
    QueryCache,
    best_items,
    recommend,
    similar,
)
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import TrainingPairs
from p2prec.errors import DataError, UsageError
from p2prec.manifest import LearningParameters, Manifest, reference_catalogue
from p2prec.model.state import initial_state
from p2prec.model.user import explain, scores, solve_user
from p2prec.types import ItemKey, PeerId

ROBOTS, SPACE, ALIENS, KISSES, WEDDING, ROMANCE, UNKNOWN = range(7)
TITLES = ("Robots", "Space", "Aliens", "Kisses", "Wedding", "Romance", "Unknown")
FACTORS = np.array([[1, 0], [0.9, 0.1], [0.8, 0.0], [0, 1], [0.1, 0.9], [0.0, 0.8], [0, 0]], np.float32)


def view_of(
    items: list[int],
    values: list[float] | None = None,
    *,
    objective: str = "implicit",
    seen: list[int] | None = None,
    exchanges: int = 5,
    evidence: list[float] | None = None,
    biases: list[float] | None = None,
) -> LocalView:
    """A view of seven items in two obvious genres."""
    catalogue = Catalogue(tuple(ItemKey(f"k{i}") for i in range(7)), TITLES)
    factors = FACTORS
    if objective == "explicit":
        factors = np.column_stack([FACTORS, np.array(biases or [0.0] * 7, np.float32)])
    learning = LearningParameters(objective=objective, n_factors=2, user_reg=0.01)  # type: ignore[arg-type]
    manifest = Manifest(
        name="test", catalogue=reference_catalogue(catalogue.canonical_csv(), 7), seed="0" * 64, learning=learning
    )
    state = initial_state(learning, bytes(32), catalogue.keys)
    state.item_factors = state.average = factors
    state.evidence = np.array(evidence or [0.5] * 7, np.float32)
    state.gram = np.eye(2, dtype=np.float32)
    order = sorted(items)
    by_item = dict(zip(items, values or [1.0] * len(items), strict=True))
    return LocalView(
        peer_id=PeerId("12D3KooWTest"),
        manifest=manifest,
        catalogue=catalogue,
        pairs=TrainingPairs(
            np.array(order, np.int64), np.array([by_item[i] for i in order], np.float32), np.zeros(len(order))
        ),
        seen=np.array(sorted(seen if seen is not None else items), np.int64),
        state=state,
        exchanges=exchanges,
        version=1,
    )


def titles(answer: dict[str, object]) -> list[str]:
    return [found["title"] for found in answer["recommendations"]]  # type: ignore[attr-defined]


def test_the_best_of_what_the_user_has_not_had_comes_first() -> None:
    answer = recommend(view_of([ROBOTS]), 2)
    assert titles(answer) == ["Space", "Aliens"]
    assert answer["note"] is None
    assert answer["recommendations"][0]["score"] > answer["recommendations"][1]["score"]


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_nothing_that_the_user_had_is_recommended_trained_on_or_not(objective: str) -> None:
    view = view_of([ROBOTS, KISSES], [5.0, 2.0], objective=objective, seen=[ROBOTS, KISSES, SPACE])
    assert set(titles(recommend(view, 7))) == {"Aliens", "Wedding", "Romance", "Unknown"}


def test_scores_are_the_models() -> None:
    view = view_of([ROBOTS, KISSES])
    learning, pairs = view.manifest.learning, view.pairs
    expected = scores(
        learning, view.state.item_factors, solve_user(learning, view.state.item_factors, pairs.items, pairs.values)
    )
    for found in recommend(view, 7)["recommendations"]:
        assert found["score"] == pytest.approx(float(expected[int(found["item"][1:])]))


def test_the_reason_is_the_item_that_adds_most() -> None:
    view = view_of([ROBOTS, KISSES])
    found = {entry["title"]: entry for entry in recommend(view, 7)["recommendations"]}
    assert found["Aliens"]["reason"] == "because you liked Robots"
    assert found["Romance"]["reason"] == "because you liked Kisses"
    assert found["Romance"]["because"] == ("k3",)
    shares = explain(view.manifest.learning, view.state.item_factors, view.pairs.items, view.pairs.values, ALIENS)
    assert int(np.argmax(shares.contributions)) == 0


def test_two_items_that_add_about_as_much_are_both_named() -> None:
    answer = recommend(view_of([ROBOTS, SPACE, KISSES]), 7)
    found = next(entry for entry in answer["recommendations"] if entry["title"] == "Aliens")
    assert found["because"] == ("k0", "k1")
    assert found["reason"] == "because you liked Robots and Space"


def test_a_low_rating_is_never_named_as_liked() -> None:
    """Disliking a romance speaks for robots, but nobody liked it."""
    factors = FACTORS.copy()
    factors[[KISSES, WEDDING, ROMANCE]] = -factors[[ROBOTS, SPACE, ALIENS]]
    view = view_of([KISSES, UNKNOWN], [1.0, 4.0], objective="explicit")
    state = replace(view.state, item_factors=np.column_stack([factors, np.zeros(7, np.float32)]))
    view = replace(view, state=state)
    liked = {entry["title"]: entry for entry in recommend(view, 7)["recommendations"]}
    shares = explain(view.manifest.learning, state.item_factors, view.pairs.items, view.pairs.values, ROBOTS)
    assert shares.contributions[0] > 0
    assert "k3" not in liked["Robots"]["because"]


def test_what_none_of_the_own_items_speaks_for_is_liked_in_the_swarm() -> None:
    found = {entry["title"]: entry for entry in recommend(view_of([ROBOTS]), 7)["recommendations"]}
    assert (found["Unknown"]["reason"], found["Unknown"]["because"]) == ("liked in your swarm", ())


def test_a_user_without_history_gets_what_is_popular_and_only_what_has_evidence() -> None:
    answer = recommend(view_of([], evidence=[0.1, 0.7, -0.1, 0.0, 0.3, 0.0, 0.0]), 5)
    assert titles(answer) == ["Space", "Wedding", "Robots"]
    assert {found["reason"] for found in answer["recommendations"]} == {"popular in your swarm"}
    assert answer["note"] == NOTE_NO_HISTORY


def test_popular_items_exclude_what_was_seen_but_not_trained_on() -> None:
    answer = recommend(view_of([], seen=[SPACE], objective="explicit", evidence=[0.1, 0.7, 0, 0, 0, 0, 0.0]), 5)
    assert titles(answer) == ["Robots"]


def test_a_peer_that_has_met_nobody_says_so_and_guesses_nothing() -> None:
    own_only = [0.5, *[0.0] * 6]
    assert recommend(view_of([ROBOTS], exchanges=0, evidence=own_only), 1) == {
        "recommendations": [],
        "note": NOTE_ALONE,
    }
    assert recommend(view_of([], exchanges=0, evidence=[0.0] * 7), 1) == {"recommendations": [], "note": NOTE_ALONE}
    assert recommend(view_of([ROBOTS], exchanges=3, evidence=own_only), 1)["note"] == NOTE_NOTHING


def test_items_that_nobody_touched_are_neither_recommended_nor_similar() -> None:
    """Their rows are the random start: whatever they resemble, they resemble by chance."""
    view = view_of([ROBOTS], evidence=[0.5, 0.0, 0.4, -0.01, 0.3, 0.1, 0.0])
    assert titles(recommend(view, 7)) == ["Aliens", "Wedding", "Romance"]
    assert [found["title"] for found in similar(view, "Robots", 7)["similar"]] == ["Aliens", "Wedding", "Romance"]
    assert similar(view, "Space", 7)["similar"] == []
    assert similar(view, "Space", 7)["note"] == NOTE_UNKNOWN


def test_everything_had_is_an_empty_answer() -> None:
    assert recommend(view_of(list(range(7))), 3)["recommendations"] == []


def test_answers_are_json() -> None:
    assert json.loads(json.dumps(recommend(view_of([ROBOTS]), 3)))["recommendations"][0]["item"] == "k1"
    assert json.loads(json.dumps(similar(view_of([]), "k0", 3)))["item"] == "k0"


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_similar_goes_by_direction_without_the_bias(objective: str) -> None:
    answer = similar(view_of([], objective=objective, biases=[9, -9, 9, -9, 9, -9, 9.0]), "robots", 2)
    assert (answer["item"], answer["title"]) == ("k0", "Robots")
    assert [found["title"] for found in answer["similar"]] == ["Aliens", "Space"]
    assert answer["similar"][0]["similarity"] == pytest.approx(1.0, abs=1e-6)
    assert answer["note"] is None


def test_an_unknown_item_is_answered_with_near_ones() -> None:
    with pytest.raises(DataError) as caught:
        similar(view_of([]), "Robot Wars", 3)
    assert "Robots" in caught.value.remedy


def test_the_item_text_is_bounded_on_both_sides_of_the_bound() -> None:
    with pytest.raises(DataError, match="no item"):
        similar(view_of([]), "x" * MAX_ITEM_CHARACTERS, 3)
    with pytest.raises(UsageError, match="at most"):
        similar(view_of([]), "x" * (MAX_ITEM_CHARACTERS + 1), 3)
    with pytest.raises(UsageError, match="text"):
        similar(view_of([]), 7, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1, MAX_N + 1, True, 2.0, "3", None])
def test_a_number_of_results_out_of_bounds_is_refused(n: object) -> None:
    with pytest.raises(UsageError, match=f"1 to {MAX_N}"):
        recommend(view_of([ROBOTS]), n)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"1 to {MAX_N}"):
        similar(view_of([]), "k0", n)  # type: ignore[arg-type]


def test_the_bounds_of_the_number_of_results_are_allowed() -> None:
    assert len(recommend(view_of([ROBOTS]), 1)["recommendations"]) == 1
    assert len(recommend(view_of([ROBOTS]), MAX_N)["recommendations"]) == 6


def test_the_ranking_alone() -> None:
    view = view_of([ROBOTS])
    best, values = best_items(view, 2, np.array([0.0, 1.0], np.float32))
    assert best.tolist() == [KISSES, WEDDING]
    assert values.tolist() == pytest.approx([1.0, 0.9])


def test_the_cache_answers_as_the_function_and_follows_the_version() -> None:
    cache, first = QueryCache(), view_of([ROBOTS])
    assert cache.recommend(first, 3) == recommend(first, 3)
    assert cache.recommend(first, 3) is cache.recommend(first, 3)
    assert len(cache.recommend(first, 1)["recommendations"]) == 1
    changed = replace(view_of([KISSES]), version=2)
    assert cache.recommend(changed, 3) == recommend(changed, 3)
