"""What an attacker gets to see of all people of a data set, under each kind of protection, made by the product's own code."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from p2prec.lab.private_swarm import mask_graph, plan_of
from p2prec.manifest import PrivacyParameters, recommended
from p2prec.model.nearest import decode, encode
from p2prec.model.pairs import popularity_statistic
from p2prec.model.state import initial_state
from p2prec.peer.learner import Learner
from p2prec.peer.private_sum import PrivateSum
from p2prec.privacy.masks import mask
from p2prec.privacy.plan import SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray, IndexArray, PeerId

_SEED = bytes(32)


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One row a person, one column an item."""

    clear: FloatArray
    """What people contribute, before protection."""
    messages: FloatArray
    """The first message after it, less what colluding partners know of it."""
    silent: FloatArray
    """The same of people who contribute nothing, under noise of its own."""


def unprotected(histories: Sequence[IndexArray], n_items: int) -> Observed:
    """Contributions to the popularity, as they are."""
    clear = np.stack([popularity_statistic(items, n_items) for items in histories])
    return Observed(clear, decode(encode(clear), n_items), np.zeros_like(clear))


def alone(histories: Sequence[IndexArray], item_keys: Sequence[str], rng: np.random.Generator) -> Observed:
    """The first contributions of daemons as `p2prec swarm create` sets them up: noise of each peer alone, and little of it. What
    is compared is the evidence, which shows of each item whether it was touched.
    """
    learning, privacy = recommended("implicit")
    silent_privacy = structs.replace(privacy, noise_multiplier=0.0)
    nobody = np.empty(0, np.int64)
    start = initial_state(learning, _SEED, item_keys)

    def evidence(items: IndexArray, parameters: PrivacyParameters) -> FloatArray:
        learner = Learner(learning, parameters, item_keys, _SEED, state=start.copy())
        learner.set_interactions(items, np.ones(len(items), np.float32))
        learner.contribute(rng)
        return learner.state.evidence.copy()

    clear = np.stack([evidence(items, silent_privacy) for items in histories])
    seen = np.stack([evidence(items, privacy) for items in histories])
    return Observed(clear, seen, np.stack([evidence(nobody, privacy) for _ in histories]))


def protected(
    histories: Sequence[IndexArray],
    n_items: int,
    epsilon: float,
    delta: float,
    colluders: int,
    rng: np.random.Generator,
) -> Observed:
    """Contributions to the popularity under a promise. colluders: of each person's mask partners, who tell their masks."""
    clear = np.stack([popularity_statistic(items, n_items) for items in histories])
    plan = plan_of(epsilon, delta, len(histories)).popularity
    return Observed(
        clear, _messages(clear, plan, colluders, rng), _messages(np.zeros_like(clear), plan, colluders, rng)
    )


def _messages(statistics: FloatArray, plan: SumPlan, colluders: int, rng: np.random.Generator) -> FloatArray:
    n, count = statistics.shape
    pairs, _ = mask_graph(n, rng)
    ids = [PeerId(f"person{person:06d}") for person in range(n)]
    keys: list[dict[PeerId, bytes]] = [{} for _ in range(n)]
    for one, other in pairs.tolist():
        keys[one][ids[other]] = keys[other][ids[one]] = secrets.token_bytes(32)
    seen = np.empty_like(statistics)
    for person in range(n):
        own = PrivateSum(ids[person], count, plan)
        own.contribute(statistics[person], keys[person], NoiseStream.private())
        seen[person] = decode(own.outgoing().value, count) * np.float32(plan.unit)
        for partner in list(keys[person])[:colluders]:
            seen[person] -= mask(keys[person][partner], ids[person], partner, count, plan.mask_std)
    return seen
