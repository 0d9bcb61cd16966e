"""Each baseline against a case computed by hand or by the plainest implementation of its equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lab_people import crowd, histories_of, rng

from p2prec.lab.baselines.alone import Alone
from p2prec.lab.baselines.base import Objective, Training
from p2prec.lab.baselines.biased_mf import BiasedMf
from p2prec.lab.baselines.central import Central
from p2prec.lab.baselines.d_psgd import DPsgd, metropolis
from p2prec.lab.baselines.ease import Ease
from p2prec.lab.baselines.epidemic_learning import EpidemicLearning, senders_of
from p2prec.lab.baselines.fcf import Fcf
from p2prec.lab.baselines.fedmf import FedMf, mean_change
from p2prec.lab.baselines.gossip_learning import GossipLearning, merge
from p2prec.lab.baselines.ials import Ials
from p2prec.lab.baselines.ials_rendle import IalsRendle
from p2prec.lab.baselines.item_knn import ItemKnn
from p2prec.lab.baselines.least_squares import solve_rows
from p2prec.lab.baselines.local_mf import LocalData, SgdSettings, local_pass, scores, start
from p2prec.lab.baselines.matrix import dense, touched
from p2prec.lab.baselines.mixing import mix
from p2prec.lab.baselines.popularity import Popularity
from p2prec.lab.baselines.registry import baselines
from p2prec.lab.dataset import person_of_row
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.schedule import rounds_between_contributions
from p2prec.model.state import initial_state
from p2prec.peer.learner import Learner
from p2prec.peer.quality import alone_scores

SEED = bytes(32)
SMALL = {
    "implicit": LearningParameters(n_factors=3),
    "explicit": LearningParameters(objective="explicit", n_factors=3, reg=5.0, user_reg=5.0),
}
TINY = histories_of({"a": [(0, 5, 1), (1, 3, 2)], "b": [(0, 4, 1), (2, 1, 2)], "c": [(0, 3, 1)]}, 4)


def training(objective: Objective, rounds: int = 5, n_people: int = 24) -> Training:
    return Training.of(crowd(n_people), objective, rounds)


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_every_baseline_gives_finite_scores_and_repeats(objective: Objective) -> None:
    train = training(objective, rounds=2)
    for baseline in baselines(SMALL[objective], PrivacyParameters(), SEED).values():
        if baseline.name == "ials":
            continue  # needs an extra; tested below
        fitted = baseline.fit(train, rng(1))
        assert fitted.scores.shape == (24, 40), baseline.name
        assert fitted.scores.dtype == np.float32, baseline.name
        assert np.isfinite(fitted.scores).all(), baseline.name
        np.testing.assert_array_equal(fitted.scores, baseline.fit(train, rng(1)).scores, baseline.name)


# --- in one place ---------------------------------------------------------------------------------------------------------


def test_popularity_counts_people_or_averages_ratings() -> None:
    counted = Popularity().fit(Training.of(TINY, "implicit", 1), rng()).scores
    assert counted.tolist() == [[3, 1, 1, 0]] * 3
    mean = 16 / 5
    averaged = Popularity(prior_ratings=2).fit(Training.of(TINY, "explicit", 1), rng()).scores
    np.testing.assert_allclose(
        averaged[1], [(12 + 2 * mean) / 5, (3 + 2 * mean) / 3, (1 + 2 * mean) / 3, mean], rtol=1e-6
    )


def test_item_knn_by_hand() -> None:
    fitted = ItemKnn(n_neighbours=1, shrink=1.0).fit(Training.of(TINY, "implicit", 1), rng()).scores
    # Items 0 and 1 share one person of three and one; so do 0 and 2: cosine 1/sqrt(3), shrunk by 1/(1 + 1).
    near = 1 / np.sqrt(3) / 2
    np.testing.assert_allclose(fitted[2], [0, near, near, 0], atol=1e-6)
    np.testing.assert_allclose(fitted[0], [near, near, near, 0], atol=1e-6)


def test_item_knn_for_ratings_equals_the_double_loop() -> None:
    histories = crowd()
    method = ItemKnn(n_neighbours_ratings=5, shrink=3.0)
    fitted = method.fit(Training.of(histories, "explicit", 1), rng()).scores
    mask, ratings = touched(histories), dense(histories).astype(np.float64)
    mean = ratings[mask].mean()
    item_bias = np.array([(ratings[mask[:, i], i] - mean).sum() / (10 + mask[:, i].sum()) for i in range(40)])
    user_bias = np.array([(ratings[u] - mean - item_bias)[mask[u]].sum() / (15 + mask[u].sum()) for u in range(24)])
    expected = mean + user_bias[:, None] + item_bias
    rest = np.where(mask, ratings - expected, 0)
    similar = np.zeros((40, 40))
    for i in range(40):
        for j in range(40):
            if i != j:
                both = int((mask[:, i] & mask[:, j]).sum())
                norm = np.linalg.norm(rest[:, i]) * np.linalg.norm(rest[:, j])
                similar[j, i] = both / (both + 3.0) * (rest[:, i] @ rest[:, j]) / max(norm, 1e-12)
        kept = np.sort(similar[:, i])[-5]
        similar[similar[:, i] < kept, i] = 0
    weight = np.maximum(mask.astype(float) @ np.abs(similar), 1e-6)
    np.testing.assert_allclose(fitted, expected + rest @ similar / weight, rtol=1e-4, atol=1e-4)


def test_ease_is_the_best_linear_map_with_a_zero_diagonal() -> None:
    """Against ridge regression of each item on all others, which is what the closed form solves."""
    matrix = dense(Training.of(crowd(), "implicit", 1).histories).astype(np.float64)
    fitted = Ease(reg=2.0).fit(Training.of(crowd(), "implicit", 1), rng()).scores
    for item in (0, 7, 39):
        others = np.delete(np.arange(40), item)
        x = matrix[:, others]
        weights = np.linalg.solve(x.T @ x + 2.0 * np.eye(39), x.T @ matrix[:, item])
        np.testing.assert_allclose(fitted[:, item], x @ weights, atol=1e-4)


def test_solve_rows_equals_one_ridge_regression_after_the_other() -> None:
    draw = rng(2)
    offsets = np.array([0, 3, 3, 7])
    x, weights, targets = draw.normal(size=(7, 2)), draw.random(7), draw.normal(size=7)
    systems = np.stack([np.eye(2) * (row + 1) for row in range(3)])
    solved = solve_rows(offsets, *(a.astype(np.float32) for a in (x, weights, targets)), systems)
    for row, own in enumerate((slice(0, 3), slice(3, 3), slice(3, 7))):
        system = systems[row] + (x[own] * weights[own, None]).T @ x[own]
        np.testing.assert_allclose(
            solved[row], np.linalg.solve(system, x[own].T @ (weights[own] * targets[own])), rtol=1e-4
        )


def test_ials_sweeps_never_raise_the_loss_and_end_at_a_stationary_point() -> None:
    histories = Training.of(crowd(), "implicit", 1).histories
    losses = [
        (method := IalsRendle(n_factors=4, sweeps=sweeps)).loss(histories, *method.factors(histories, rng(1)))
        for sweeps in (1, 2, 5, 60)
    ]
    assert losses == sorted(losses, reverse=True)
    method = IalsRendle(n_factors=4, sweeps=60)
    users, rows = (factors.astype(np.float64) for factors in method.factors(histories, rng(1)))
    for direction in rng(5).normal(size=(5, 40, 4)):  # no direction leads downhill
        moved = [method.loss(histories, users, rows + step * direction) for step in (-1e-3, 0, 1e-3)]
        assert abs(moved[2] - moved[0]) < 0.2 * (moved[0] + moved[2] - 2 * moved[1])


def test_the_library_and_our_ials_agree_on_the_same_objective() -> None:
    """With nu = 0 the library's objective is ours times alpha0's inverse: an observed pair weighs 1 + alpha there in ours,
    alpha in the library, and 1 elsewhere in both.
    """
    pytest.importorskip("implicit", reason="the lab extra is not installed")
    train = training("implicit")
    ours = IalsRendle(n_factors=4, alpha0=1 / 5, reg=2 / 5, nu=0.0, sweeps=100).fit(train, rng(1)).scores
    library = Ials(n_factors=4, alpha=6.0, reg=2.0, sweeps=100).fit(train, rng(2)).scores
    assert np.corrcoef(ours.ravel(), library.ravel())[0, 1] > 0.99


def test_biased_mf_solves_factor_and_bias_together() -> None:
    method = BiasedMf(n_factors=2, reg=0.1, reg_floor=0.5)
    other = rng(1).normal(size=(5, 3)).astype(np.float32)  # the last column is the other side's bias
    targets = rng(2).normal(size=5).astype(np.float32)
    solved = method._half(np.array([0, 5, 5]), other, targets)
    features = np.concatenate([other[:, :2], np.ones((5, 1))], axis=1)
    system = features.T @ features + (0.1 * 5 + 0.5) * np.eye(3)
    np.testing.assert_allclose(solved[0], np.linalg.solve(system, features.T @ (targets - other[:, 2])), rtol=1e-4)
    assert solved[1].tolist() == [0, 0, 0]  # nobody rated it


def test_biased_mf_fits_better_than_biases_alone() -> None:
    train = training("explicit")
    fitted = BiasedMf(n_factors=2, reg=0.01, reg_floor=0.1).fit(train, rng(1)).scores
    biased = BiasedMf(n_factors=1, reg=1e6).fit(train, rng(1)).scores
    people, items, values = person_of_row(train.histories), train.histories.items, train.histories.values
    errors = [float(((scored[people, items] - values) ** 2).mean()) for scored in (fitted, biased)]
    assert errors[0] < 0.5 * errors[1]


# --- federated --------------------------------------------------------------------------------------------------------------


def test_fcf_solves_and_sums_as_the_paper_writes_it() -> None:
    method = Fcf(n_factors=2, alpha=3.0, reg=0.5)
    train = Training.of(TINY, "implicit", 1)
    rows = rng(1).normal(size=(4, 2)).astype(np.float32)
    users = method.clients(train, rows)
    preference = touched(TINY).astype(np.float64)
    confidence = 1 + 3.0 * preference
    for u in range(3):  # equation 4
        system = rows.T @ (confidence[u][:, None] * rows) + 0.5 * np.eye(2)
        np.testing.assert_allclose(
            users[u], np.linalg.solve(system, rows.T @ (confidence[u] * preference[u])), rtol=1e-4
        )
    errors = confidence * (preference - users @ rows.T)  # equations 7 and 8
    np.testing.assert_allclose(method.gradient(train, rows, users), -2 * errors.T @ users + 2 * 0.5 * rows, rtol=1e-4)


def test_fedmf_server_averages_over_those_who_changed_a_row() -> None:
    before = np.zeros((2, 1), np.float32)
    after = np.array([[[2.0], [0]], [[4.0], [0]], [[0.0], [0]]], np.float32)
    assert mean_change(before, after).tolist() == [[3.0], [0.0]]


def test_federated_traffic_is_the_table_both_ways() -> None:
    fitted = FedMf(SgdSettings(3, 0.05, 0.1)).fit(training("explicit", rounds=1), rng())
    assert fitted.sent_bytes == fitted.received_bytes == 40 * 4 * 4


# --- decentralized -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_local_pass_equals_each_peer_going_through_its_interactions_alone(objective: Objective) -> None:
    train = training(objective, n_people=6)
    settings = SgdSettings(n_factors=2, learning_rate=0.1, reg=0.01, n_negatives=0)
    data, models = LocalData.of(train, rng(1)), start(train, settings, rng(2))
    rows, users = models.item_factors.astype(np.float64), models.user_factors.astype(np.float64)
    local_pass(models, data, np.array([4, 0, 2]), settings, rng(3))
    for peer in (0, 2, 4):
        q, p = rows[peer], users[peer]
        for k in range(data.lengths[peer]):
            item, value = data.items[peer, k], float(data.values[peer, k])
            old = q[item].copy()
            if objective == "implicit":
                error = value - 1 / (1 + np.exp(-(old @ p)))
                q[item] += 0.1 * (error * p - 0.01 * old)
                p += 0.1 * (error * old - 0.01 * p)
            else:
                error = value - (old[:2] @ p[:2] + old[2] + p[2])
                q[item] += 0.1 * (error * np.array([p[0], p[1], 1]) - 0.01 * old)
                p += 0.1 * (error * np.array([old[0], old[1], 1]) - 0.01 * np.array([p[0], p[1], 0]))
    np.testing.assert_allclose(models.item_factors, rows, atol=1e-5)  # peers 1, 3 and 5 did not move
    np.testing.assert_allclose(models.user_factors, users, atol=1e-5)
    assert scores(models, objective).shape == (6, 40)


def test_negatives_are_never_items_that_the_peer_has() -> None:
    histories = histories_of({"a": [(item, 1, 1) for item in range(3)]}, 3)  # everything is touched
    train = Training.of(histories, "implicit", 1)
    settings = SgdSettings(n_factors=2, learning_rate=0.1, reg=0.0, n_negatives=8)
    data = LocalData.of(train, rng())
    with_negatives, without = start(train, settings, rng(1)), start(train, settings, rng(1))
    local_pass(with_negatives, data, np.array([0]), settings, rng(2))
    local_pass(without, data, np.array([0]), replace(settings, n_negatives=0), rng(2))
    np.testing.assert_allclose(with_negatives.user_factors, without.user_factors, atol=1e-6)


def test_gossip_learning_merges_by_age() -> None:
    own, other = np.array([[0.0], [0.0], [8.0]]), np.array([[4.0], [4.0], [4.0]])
    merged, age = merge(own, np.array([1.0, 0, 0]), other, np.array([3.0, 0, 2]))
    assert merged.ravel().tolist() == [3.0, 2.0, 4.0]
    assert age.tolist() == [3.0, 0.0, 2.0]


def test_gossip_learning_sends_one_copy_and_its_ages_a_round() -> None:
    fitted = GossipLearning(SgdSettings(3, 0.05, 0.1)).fit(training("explicit", rounds=2), rng())
    assert fitted.sent_bytes == 40 * 4 * 4 + 40 * 4


def test_metropolis_weights_are_doubly_stochastic() -> None:
    links = [np.array([1, 2, 3]), np.array([0]), np.array([0, 3]), np.array([0, 2])]
    matrix = np.zeros((4, 4))
    for peer, (sources, weights) in enumerate(zip(*metropolis(links), strict=True)):
        matrix[peer, sources] = weights
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    np.testing.assert_allclose(matrix, matrix.T)
    assert (matrix >= 0).all()


def test_mix_is_a_matrix_product() -> None:
    copies = rng(1).normal(size=(3, 5, 2)).astype(np.float32)
    sources = [np.array([0, 2]), np.array([1]), np.array([0, 1, 2])]
    weights = [np.array([0.25, 0.75]), np.array([1.0]), np.full(3, 1 / 3)]
    matrix = np.array([[0.25, 0, 0.75], [0, 1, 0], [1 / 3] * 3])
    expected = np.einsum("pj,jic->pic", matrix, copies)
    mix(copies, sources, [one.astype(np.float32) for one in weights])
    np.testing.assert_allclose(copies, expected, atol=1e-6)


def test_epidemic_senders_are_distinct_others() -> None:
    sources = senders_of(6, 2, rng())
    assert [row[0] for row in sources] == list(range(6))
    assert sum(len(row) - 1 for row in sources) == 12
    assert all(len(set(row.tolist())) == len(row) for row in sources)


def test_traffic_counts_every_copy_sent() -> None:
    train, sgd = training("explicit", rounds=1), SgdSettings(3, 0.05, 0.1)
    assert EpidemicLearning(sgd, n_receivers=3).fit(train, rng()).sent_bytes == 3 * 40 * 4 * 4
    assert DPsgd(sgd, degree=30).fit(train, rng()).sent_bytes == 23 * 40 * 4 * 4  # with everyone


# --- the swarm's own model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_central_is_a_swarm_in_perfect_consensus(objective: Objective) -> None:
    train, learning, privacy = training(objective, rounds=7), SMALL[objective], PrivacyParameters()
    keys = train.histories.catalogue.keys
    learners = [Learner(learning, privacy, keys, SEED) for _ in range(train.n_people)]
    for person, learner in enumerate(learners):
        pairs = train.histories.of(person)
        learner.set_interactions(pairs.items, pairs.values, pairs.times)
        learner.swarm_size_estimate = train.n_people
    for done in range(7):
        if done % rounds_between_contributions(learning) == 0:
            for learner in learners:
                learner.contribute(rng())
                learner.state.probe[:] = 0  # all is mixed at once
        for name in ("gradient", "evidence", "gram"):
            mean = np.mean([getattr(learner.state, name) for learner in learners], axis=0)
            for learner in learners:
                getattr(learner.state, name)[...] = mean
        for learner in learners:
            learner.step()
    in_consensus = np.stack([learner.scores() for learner in learners])
    central = Central(learning, privacy, SEED).fit(train, rng()).scores
    np.testing.assert_allclose(central, in_consensus, rtol=2e-3, atol=2e-3)


def test_central_draws_the_noise_of_all_as_one() -> None:
    """As much as everybody's own would add up to: with a tiny clip norm nothing else is left."""
    train, learning = training("explicit", rounds=1), SMALL["explicit"]
    privacy = PrivacyParameters(noise_multiplier=1e6, clip_norm=1e-3, gram_clip_norm=2e-3)
    central, state = Central(learning, privacy, SEED), initial_state(learning, SEED, train.histories.catalogue.keys)
    drawn = [central._mean_contribution(state, train.histories, rng(seed)) for seed in range(50)]
    for name, norm in (("gradient", 1e-3), ("evidence", 1e-3), ("gram", 2e-3)):
        spread = np.std([getattr(one, name) for one in drawn])
        assert spread == pytest.approx(1e6 * norm / np.sqrt(train.n_people), rel=0.1), name


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_alone_is_what_the_device_measures(objective: Objective) -> None:
    train, learning, privacy = (
        training(objective, n_people=3),
        SMALL[objective],
        PrivacyParameters(noise_multiplier=1.0),
    )
    fitted = Alone(learning, privacy, SEED).fit(train, rng()).scores
    for person in range(3):
        pairs = train.histories.of(person)
        learner = Learner(learning, privacy, train.histories.catalogue.keys, SEED)
        learner.set_interactions(pairs.items, pairs.values)
        expected = alone_scores(learner, train.histories.catalogue.keys, SEED)
        np.testing.assert_allclose(fitted[person], expected, rtol=1e-3, atol=1e-4)
