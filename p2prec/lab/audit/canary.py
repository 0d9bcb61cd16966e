"""Canaries: contributions of the largest size allowed, at the worst place, taken apart by an attacker who knows all else.

Every peer of a small swarm is a canary with a coordinate of its own, in which it contributes everything or nothing, by lot;
the noise of different coordinates is independent, so one swarm is as many experiments as it has peers (Steinke, Nasr &
Jagielski 2023, "Privacy auditing with one (1) training run"). The contributions are made by the code that the product runs,
from the first byte of noise to the value that is about to be mixed, and the attacker decides by the exact likelihood ratio.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from p2prec.manifest import LearningParameters, Manifest
from p2prec.model.state import ACCUMULATORS, ModelState, own_part
from p2prec.peer.contributor import Contributor
from p2prec.peer.learner import Learner
from p2prec.peer.private_sum import PrivateSum
from p2prec.privacy.ledger import Budget
from p2prec.privacy.plan import MEAN_PARTNERS, MIN_PARTNERS, PrivacyPlan, SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import DoubleArray, IndexArray, PeerId

N_PEERS = 60
"""Of a canary swarm: every one a canary."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What an attacker makes of canaries that took part, and of others that did not."""

    inside: DoubleArray
    outside: DoubleArray
    stated_epsilon: float
    """What the accountant says that all of it has cost."""


def cancelling(
    epsilon: float, delta: float, colluders: int, trials: int, rng: np.random.Generator
) -> dict[str, Scores]:
    """Canaries in both sums of a private swarm, with so many of the target's mask partners on the attacker's side. Two
    attackers: one that sees `everything`, and weighs it as the promised noise deserves; and a `neighbour`, who looks at the
    target's own messages and trusts that there is less noise than promised. trials: about so many canaries in all.
    """
    plan = PrivacyPlan.of(epsilon, delta, N_PEERS)
    found: dict[str, tuple[list[float], list[float]]] = {"everything": ([], []), "neighbour": ([], [])}
    for _ in range(-(-trials // N_PEERS)):
        present = rng.random(N_PEERS) < 0.5
        sums = [_one_sum(part, present, colluders, rng) for part in (plan.popularity, plan.pairs)]
        for name, (inside, outside) in found.items():
            scores = sums[0][name] + sums[1][name]
            inside += scores[present].tolist()
            outside += scores[~present].tolist()
    return {name: Scores(np.array(inside), np.array(outside), epsilon) for name, (inside, outside) in found.items()}


def _one_sum(plan: SumPlan, present: np.ndarray, colluders: int, rng: np.random.Generator) -> dict[str, DoubleArray]:
    """(N_PEERS,) score of each canary, by attacker."""
    pairs = _pairs(rng)
    ids = [PeerId(f"canary{peer:04d}") for peer in range(N_PEERS)]
    keys = {(int(a), int(b)): secrets.token_bytes(32) for a, b in pairs}
    seen = np.empty((N_PEERS, N_PEERS))
    for peer in range(N_PEERS):
        own = PrivateSum(ids[peer], N_PEERS, plan)
        statistic = np.zeros(N_PEERS, np.float32)
        statistic[peer] = present[peer]
        partners = {ids[a if b == peer else b]: key for (a, b), key in keys.items() if peer in (a, b)}
        own.contribute(statistic, partners, NoiseStream.private())
        seen[peer] = own.mean()  # the value itself: what rounding hides in the first message, later ones reveal
    ratios = np.empty(N_PEERS)
    for target in range(N_PEERS):
        helpers = [int(a if b == target else b) for a, b in pairs if target in (a, b)][:colluders]
        ratios[target] = _likelihood_ratio(plan, pairs, seen, target, helpers, keys, ids)
    return {"everything": ratios, "neighbour": np.diag(seen) * plan.mu**2}


def _likelihood_ratio(
    plan: SumPlan,
    pairs: IndexArray,
    seen: DoubleArray,
    target: int,
    helpers: list[int],
    keys: dict[tuple[int, int], bytes],
    ids: list[PeerId],
) -> float:
    """Of the column of the target's canary, by those who do not collude, the helpers' masks removed."""
    from p2prec.privacy.masks import mask

    honest = np.setdiff1d(np.arange(N_PEERS), helpers)
    column = seen[:, target].copy()
    laplacian = np.zeros((N_PEERS, N_PEERS))
    for a, b in pairs.tolist():
        if a in helpers or b in helpers:
            known = mask(keys[a, b], ids[a], ids[b], N_PEERS, plan.mask_std)[target]
            column[a] -= known
            column[b] += known
        else:
            laplacian[[a, b], [a, b]] += 1
            laplacian[[a, b], [b, a]] -= 1
    covariance = plan.mask_std**2 * laplacian + plan.independent_std**2 * np.eye(N_PEERS)
    unit = (honest == target).astype(np.float64)
    weights = np.linalg.solve(covariance[np.ix_(honest, honest)], unit)
    return float(weights @ column[honest] - 0.5 * weights @ unit)


def _pairs(rng: np.random.Generator) -> IndexArray:
    """Masks such that everybody has enough."""
    while True:
        pairs = np.argwhere(np.triu(rng.random((N_PEERS, N_PEERS)) < MEAN_PARTNERS / N_PEERS, 1))
        if np.bincount(pairs.ravel(), minlength=N_PEERS).min() >= MIN_PARTNERS:
            return pairs


class CountingLedger:
    """The ledger of an audit: it believes what it is told, as the real one does."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.contributions = 0

    @property
    def epsilon_spent(self) -> float:
        return self._budget.epsilon_after(self.contributions)

    @property
    def may_contribute(self) -> bool:
        return self._budget.allows(self.contributions)

    def record(self) -> int:
        self.contributions += 1
        return self.contributions


def independent(
    manifest: Manifest, item_keys: list[str], contributions: int, trials: int, rng: np.random.Generator
) -> Scores:
    """Canaries of the mechanism with noise of each peer alone, by the learner and contributor of the daemon; against its next
    neighbour, who sees the accumulators before and after each contribution.

    manifest: one under which every exchange is followed by a contribution (`canary_learning`), without a budget; its clip
    norms should be small, so that a canary's contribution is clipped: the worst case. item_keys: of a catalogue of any size.
    """
    inside: list[float] = []
    outside: list[float] = []
    stated, clean = 0.0, _clean_contribution(manifest, item_keys)
    for trial in range(trials):
        present = trial % 2 == 0
        learner = Learner(manifest.learning, manifest.privacy, item_keys, bytes.fromhex(manifest.seed))
        items = np.arange(len(item_keys) // 2) if present else np.empty(0, np.int64)
        learner.set_interactions(items, np.ones(len(items), np.float32))
        ledger = CountingLedger(Budget.of(manifest))
        contributor = Contributor(learner, ledger, manifest)
        ratio = 0.0
        for _ in range(contributions):
            _clear(learner.state)
            contributor.round_begins(rng)
            ratio += _alone_ratio(manifest, learner.state, clean)
            learner.exchanged()
        (inside if present else outside).append(ratio)
        stated = ledger.epsilon_spent
    return Scores(np.array(inside), np.array(outside), stated)


def _clear(state: ModelState) -> None:
    """Take out what was there before, as whoever saw the accumulators before and after each contribution can: what is there next
    is the new one alone.
    """
    state.contributions[...] = 0
    for name in ACCUMULATORS:
        getattr(state, name)[...] = 0
        getattr(state, own_part(name))[...] = 0


def _alone_ratio(manifest: Manifest, seen: ModelState, clean: ModelState) -> float:
    """How well what was just contributed matches what the canary contributes without noise."""
    privacy, ratio = manifest.privacy, 0.0
    for name, norm in (
        ("gradient", privacy.clip_norm),
        ("evidence", privacy.clip_norm),
        ("gram", privacy.gram_clip_norm),
    ):
        shown, expected = getattr(seen, name), getattr(clean, name)
        std = max(privacy.noise_multiplier * norm, 1e-12)
        ratio += float((expected * shown).sum() - 0.5 * (expected**2).sum()) / std**2
    return ratio


def _clean_contribution(manifest: Manifest, item_keys: list[str]) -> ModelState:
    silent = structs.replace(manifest.privacy, noise_multiplier=0.0)
    learner = Learner(manifest.learning, silent, item_keys, bytes.fromhex(manifest.seed))
    items = np.arange(len(item_keys) // 2)
    learner.set_interactions(items, np.ones(len(items), np.float32))
    learner.contribute(np.random.default_rng(0))
    return learner.state


def canary_learning() -> LearningParameters:
    """Parameters under which a contribution is due after every exchange."""
    return LearningParameters(n_factors=4, contribute_every_exchanges=1)
