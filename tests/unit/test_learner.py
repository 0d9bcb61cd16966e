"""One peer's learning: rounds, snapshots, interactions that change, and what is done before anything leaves."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import pytest

from p2prec.errors import UsageError
from p2prec.manifest import LearningParameters, PrivacyParameters, recommended
from p2prec.model.contribution import Contribution, touched_share
from p2prec.model.schedule import rounds_between_contributions
from p2prec.peer.learner import Learner, privatize
from p2prec.peer.quality import ALONE_ROUNDS, alone_scores, measure

KEYS = [f"item-{i}" for i in range(60)]
SEED = bytes(32)
PARAMETERS = LearningParameters(n_factors=4, contribute_every_exchanges=4)
QUIET = PrivacyParameters(noise_multiplier=0.0)
ONES = np.ones(6, np.float32)


def _two_tastes(n_peers: int) -> list[np.ndarray]:
    """Peers like items below 30 or from 30 on: the simplest thing there is to learn from others."""
    rng = np.random.default_rng(5)
    return [30 * (peer % 2) + rng.choice(30, 15, replace=False) for peer in range(n_peers)]


def _swarm_of_learners(rounds: int, n_peers: int = 12) -> list[Learner]:
    learners = [Learner(PARAMETERS, QUIET, KEYS, SEED) for _ in range(n_peers)]
    rng = np.random.default_rng(1)
    for learner, items in zip(learners, _two_tastes(n_peers), strict=True):
        learner.set_interactions(items, np.ones(items.size, np.float32))
    for _ in range(rounds):
        for learner in learners:
            learner.solve()
            if learner.due_to_contribute:
                learner.contribute(rng)
        for one in range(n_peers):
            other = (one + 1 + int(rng.integers(n_peers - 1))) % n_peers
            sent, received = learners[one].outgoing(0, rng), learners[other].outgoing(0, rng)
            learners[one].apply(sent, received, learners[other].age)
            learners[other].apply(received, sent, learners[one].age)
        for learner in learners:
            learner.step()
    return learners


def test_peers_learn_from_each_other() -> None:
    learners = _swarm_of_learners(40)
    own_taste = []
    for peer, learner in enumerate(learners):
        learner.solve()
        own_taste.append(((learner.recommend(10) >= 30) == bool(peer % 2)).mean())
    assert min(own_taste) >= 0.7 and np.mean(own_taste) >= 0.9
    factors = np.stack([learner.state.item_factors for learner in learners])
    assert factors.std(axis=0).mean() < 0.2 * np.abs(factors).mean()


@pytest.mark.parametrize(("n_items", "n_own"), [(100, 10), (200, 40), (1000, 100)])
def test_a_model_of_one_person_settles(n_items: int, n_own: int) -> None:
    """The penalty of so few people bends more than the data do: steps that are damped by less overshoot, and break the model."""
    learner = Learner(LearningParameters(), QUIET, [str(item) for item in range(n_items)], SEED)
    learner.swarm_size_estimate = 1.0
    learner.set_interactions(np.arange(n_own), np.ones(n_own, np.float32))
    rng = np.random.default_rng(0)
    for done in range(60):
        if done % 7 == 0:
            learner.contribute(rng)
            learner.state.probe[:] = 0  # alone, all is mixed at once
        assert learner.step()
    assert np.abs(learner.state.item_factors).max() < 1.0


@pytest.mark.parametrize("n_parts", [1, 3])
def test_contributions_are_counted_in_exchanges_of_all_parts(n_parts: int) -> None:
    parameters = msgspec.structs.replace(PARAMETERS, contribute_every_exchanges=2, n_parts=n_parts)
    learner, other = (Learner(parameters, QUIET, KEYS, SEED) for _ in range(2))
    rng = np.random.default_rng(0)
    assert learner.due_to_contribute  # a new peer's first
    other.postpone_contribution()
    learner.contribute(rng)
    for done in range(2 * n_parts):
        assert not learner.due_to_contribute and not other.due_to_contribute
        sent, received = learner.outgoing(done % n_parts, rng), other.outgoing(done % n_parts, rng)
        learner.apply(sent, received, other.age)
        other.apply(received, sent, learner.age)
    assert learner.due_to_contribute and other.due_to_contribute


def test_interactions_may_change_between_rounds() -> None:
    learner = Learner(PARAMETERS, QUIET, KEYS, SEED)
    learner.set_interactions(np.arange(6), ONES)
    before = learner.user_factor
    learner.set_interactions(np.arange(10, 16), ONES)
    assert not np.array_equal(learner.user_factor, before)
    assert not set(range(10, 16)) & set(learner.recommend(54).tolist())
    learner.set_interactions(np.empty(0, np.int64), np.empty(0, np.float32))
    assert not learner.user_factor.any() and len(learner.recommend(100)) == 60


@pytest.mark.parametrize(
    ("items", "values"),
    [
        ([0, 0], [1, 1]),
        ([-1], [1]),
        ([60], [1]),
        ([0], [1, 1]),
        ([[0]], [[1]]),
        ([0], [np.nan]),
    ],
)
def test_interactions_outside_the_catalogue_are_refused(items: list[int], values: list[float]) -> None:
    learner = Learner(PARAMETERS, QUIET, KEYS, SEED)
    with pytest.raises(UsageError):
        learner.set_interactions(np.array(items), np.array(values, np.float32))
    learner.set_interactions(np.array([0, 59]), np.ones(2, np.float32))


def test_a_snapshot_resumes_to_the_same_model() -> None:
    learner = _swarm_of_learners(4)[0]
    snapshot = learner.state.copy()
    resumed = Learner(PARAMETERS, QUIET, KEYS, SEED)
    resumed.state = snapshot.copy()
    resumed.set_interactions(learner.items, np.ones(learner.items.size, np.float32))
    learner.solve()
    assert resumed.age == 4
    np.testing.assert_array_equal(resumed.scores(), learner.scores())


@pytest.mark.parametrize("name", ["item_factors", "average", "gradient", "evidence", "gram", "probe"])
def test_a_snapshot_that_does_not_fit_is_refused(name: str) -> None:
    learner = Learner(PARAMETERS, QUIET, KEYS, SEED)
    before = learner.state
    for change in (lambda a: a[:-1], lambda a: a.astype(np.float64), lambda a: a * np.float32(np.nan)):
        broken = before.copy()
        setattr(broken, name, change(getattr(broken, name)))
        with pytest.raises(UsageError, match=name):
            learner.state = broken
    assert learner.state is before


def test_an_explanation_adds_up() -> None:
    learner = _swarm_of_learners(10)[0]
    learner.solve()
    item = int(learner.recommend(1)[0])
    explanation = learner.explain(item)
    assert explanation.baseline + explanation.contributions.sum() == pytest.approx(learner.scores()[item], abs=1e-4)


def test_what_is_contributed_is_clipped_and_noised() -> None:
    rng = np.random.default_rng(0)
    privacy = PrivacyParameters(clip_norm=2.0, gram_clip_norm=0.5, noise_multiplier=0.0)
    own = Contribution(
        rng.normal(size=(60, 4)).astype(np.float32), np.ones(60, np.float32), 9 * np.eye(4, dtype=np.float32)
    )
    clipped = privatize(privacy, own, rng)
    assert np.hypot(np.linalg.norm(clipped.gradient), np.linalg.norm(clipped.evidence)) == pytest.approx(2.0, rel=1e-4)
    assert np.linalg.norm(clipped.gram) == pytest.approx(0.5, rel=1e-4)

    noisy = privatize(msgspec.structs.replace(privacy, noise_multiplier=3.0), own, rng)
    assert (noisy.gradient - clipped.gradient).std() == pytest.approx(6.0, rel=0.15)
    assert (noisy.evidence - clipped.evidence).std() == pytest.approx(6.0, rel=0.3)
    assert (noisy.gram - clipped.gram).std() == pytest.approx(1.5, rel=0.6)


def test_many_contributions_at_once_are_clipped_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    own = Contribution(
        rng.normal(size=(3, 60, 4)).astype(np.float32) * np.array([0.01, 1, 9], np.float32)[:, None, None],
        np.zeros((3, 60), np.float32),
        np.stack([scale * np.eye(4, dtype=np.float32) for scale in (0.01, 1, 9)]),
    )
    together = privatize(QUIET, own, rng, peer_axes=1)
    for peer in range(3):
        alone = privatize(QUIET, Contribution(own.gradient[peer], own.evidence[peer], own.gram[peer]), rng)
        np.testing.assert_allclose(together.gradient[peer], alone.gradient, rtol=1e-6)
        np.testing.assert_allclose(together.gram[peer], alone.gram, rtol=1e-6)


def test_nothing_leaves_but_through_a_contribution() -> None:
    """Two people with nothing in common send the same bytes until they contribute."""
    sent = []
    for items in (np.arange(6), np.arange(20, 26)):
        learner = Learner(PARAMETERS, QUIET, KEYS, SEED)
        learner.set_interactions(items, ONES)
        learner.solve()
        learner.step()
        sent.append(learner.outgoing(0, np.random.default_rng(0)))
    for one, other in zip(*sent, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.codes, other.codes)


def test_quality_compares_the_swarm_with_popularity_and_with_learning_alone() -> None:
    learner = _swarm_of_learners(25)[0]
    unseen = np.setdiff1d(np.arange(30), learner.items)
    quality = measure(learner, unseen, alone_scores(learner, KEYS, SEED))
    assert quality.held_out == 15
    assert quality.auc > 0.9 and quality.hr_at_10 == 1.0
    assert quality.ndcg_at_10 > quality.popularity_ndcg_at_10
    assert quality.auc > quality.alone_auc


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
@pytest.mark.parametrize("n_own", [0, 1, 20, 57])
def test_alone_a_few_rows_stand_for_all_that_one_has_not_touched(
    objective: Literal["implicit", "explicit"], n_own: int
) -> None:
    parameters, _ = recommended(objective)
    learner = Learner(parameters, PrivacyParameters(noise_multiplier=0.0, max_items_per_contribution=12), KEYS, SEED)
    rng = np.random.default_rng(3)
    learner.set_interactions(rng.permutation(60)[:n_own], rng.integers(1, 6, n_own).astype(np.float32))
    found = alone_scores(learner, KEYS, SEED)
    learner.swarm_size_estimate, rng = 1.0, np.random.default_rng(0)
    for done in range(ALONE_ROUNDS):
        if done % rounds_between_contributions(parameters) == 0:
            learner.contribute(rng)
            learner.state.probe[:] = 0
        assert learner.step()
    learner.solve()
    expected = learner.scores()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_popularity_is_what_the_swarm_touches() -> None:
    learners = _swarm_of_learners(25)
    truth = np.zeros(60)
    for items in _two_tastes(12):
        truth[items] += 1 / 12
    assert np.corrcoef(touched_share(learners[0].state), truth)[0, 1] > 0.8
