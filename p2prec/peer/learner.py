"""The learning half of a peer: one model and one person's interactions, without sockets, clock or global randomness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2prec.errors import UsageError
from p2prec.manifest import LearningParameters, PrivacyParameters
from p2prec.model.contribution import Contribution, absorb, draw_probe
from p2prec.model.quantize import (
    QuantizedTables,
    apply_exchange,
    other_share,
    quantize_state,
    table_shapes,
    valid,
    values_of,
)
from p2prec.model.recency import recency_ranks, recent_weights
from p2prec.model.rounding import is_transmittable
from p2prec.model.segments import contribute_segments
from p2prec.model.state import FIELDS, ModelState, factors_first, initial_state, served_factors
from p2prec.model.step import step
from p2prec.model.topk import scores, top_k
from p2prec.model.user import Explanation, explain, solve_user
from p2prec.privacy.clip import clip_to_norm
from p2prec.privacy.noise import add_gaussian
from p2prec.types import DoubleArray, FloatArray, IndexArray


class Learner:
    """Drives the kernels of `p2prec.model` for one peer.

    A round is: `contribute` where `due_to_contribute` (the caller writes the ledger first), any number of
    exchanges (`outgoing`, `apply`), `step`. Nothing that leaves `outgoing` depends on an interaction except through
    `contribute`, where it is clipped and noised.
    """

    def __init__(
        self,
        parameters: LearningParameters,
        privacy: PrivacyParameters,
        item_keys: Sequence[str],
        seed: bytes,
        state: ModelState | None = None,
    ) -> None:
        """seed: the manifest's 32 bytes; item_keys: the catalogue's keys in order. state: where to begin; None: at the
        swarm's common start.
        """
        self.parameters = parameters
        self.privacy = privacy
        self.swarm_size_estimate = 100.0
        """Peers in the swarm, as far as the caller can tell (`step` says what for)."""
        self._item_keys = item_keys
        self._seed = seed
        self._state = initial_state(parameters, seed, item_keys) if state is None else state
        self._items: IndexArray = np.empty(0, np.int64)
        self._values: FloatArray = np.empty(0, np.float32)
        self._ranks: FloatArray = np.empty(0, np.float32)
        self._user_factor: FloatArray | None = None
        self._exchanges: int | None = None
        """Since the last contribution. None: there was none."""

    @property
    def state(self) -> ModelState:
        """The live state. Take `state.copy()` for a snapshot."""
        return self._state

    @state.setter
    def state(self, state: ModelState) -> None:
        """Resume from a snapshot. Raises UsageError when it is not of this swarm's shape or has broken numbers."""
        for name in FIELDS:
            new, old = getattr(state, name), getattr(self._state, name)
            if new.shape != old.shape or new.dtype != old.dtype:
                raise UsageError(f"model snapshot: {name} is {new.dtype} {new.shape}, not {old.dtype} {old.shape}")
            if not np.isfinite(new).all():
                raise UsageError(f"model snapshot: {name} has values that are not finite")
        state.item_factors = factors_first(state.item_factors)
        state.average = factors_first(state.average)
        state.gradient = factors_first(state.gradient)
        state.own_gradient = factors_first(state.own_gradient)
        self._state = state
        self._user_factor = None

    @property
    def age(self) -> int:
        """Rounds of training behind the model."""
        return int(self._state.age)

    @property
    def n_items(self) -> int:
        return self._state.evidence.size

    @property
    def items(self) -> IndexArray:
        """(k,) int64, the items that the peer learns from."""
        return self._items

    @property
    def values(self) -> FloatArray:
        """(k,) float32, the ratings of `items`, or 1."""
        return self._values

    @property
    def user_factor(self) -> FloatArray:
        """(d,), or (d + 1,) with the user's bias; solved on first use, then as of the last `solve`."""
        if self._user_factor is None:
            self.solve()
        assert self._user_factor is not None
        return self._user_factor

    def set_interactions(self, items: IndexArray, values: FloatArray, times: DoubleArray | None = None) -> None:
        """Replace the person's interactions, at any time between rounds.

        items: (k,) distinct indices below n_items; values: (k,) float32, ratings or 1; times: (k,) finite, 0 where unknown,
        None: all unknown. Only their order is kept. k may be 0: such a peer contributes nothing but noise. Raises UsageError
        on anything else.
        """
        times = np.zeros(items.shape) if times is None else times
        if not items.shape == values.shape == times.shape or items.ndim != 1:
            raise UsageError("items, values and times must be lists of the same length")
        # Not np.unique: it imports numpy.ma, 7 MB of a device's memory for nothing.
        if items.size and (items.min() < 0 or items.max() >= self.n_items or np.bincount(items).max() > 1):
            raise UsageError("items must be distinct indices into the catalogue")
        if not np.isfinite(values).all() or not np.isfinite(times).all():
            raise UsageError("values and times must be finite")
        self._items = items.astype(np.int64, copy=True)
        self._values = values.astype(np.float32, copy=True)
        self._ranks = recency_ranks(times)
        self._user_factor = None

    def solve(self) -> None:
        """Bring the user factor up to date with the item factors and interactions, the latest first of all."""
        self._user_factor = solve_user(
            self.parameters, served_factors(self._state), self._items, self._values, self._recent_weights()
        )

    @property
    def due_to_contribute(self) -> bool:
        """Whether enough exchanges have mixed what was contributed last. A new peer's first is due at once."""
        wait = self.parameters.contribute_every_exchanges * self.parameters.n_parts
        return self._exchanges is None or self._exchanges >= wait

    def postpone_contribution(self) -> None:
        """Wait as long as if a contribution had just been made."""
        self._exchanges = 0

    def contribute(self, rng: np.random.Generator) -> None:
        """Blend the peer's clipped and noised contribution into its accumulators. Write the ledger row first."""
        own = self.own_contribution(rng)
        absorb(self.parameters, self._state, privatize(self.privacy, own, rng), draw_probe(rng))
        self._exchanges = 0

    def own_contribution(self, rng: np.random.Generator) -> Contribution:
        """What the person's interactions have to say, before clipping and noise: not to be let out."""
        return contribute_segments(
            self.parameters,
            self._state.item_factors,
            self._items,
            self._values,
            np.ones(self._items.size, np.float32),
            self._ranks,
            self.privacy.max_items_per_contribution,
            rng,
        )

    def outgoing(self, part: int, rng: np.random.Generator) -> QuantizedTables:
        """What to transmit in an exchange of a part of the tables. Keep it: `apply` needs the very same."""
        return quantize_state(self.parameters, self._state, part, rng)

    def accepts(self, tables: QuantizedTables) -> bool:
        """Whether tables from outside are of this swarm's shapes and within bounds."""
        if not 0 <= tables.part < self.parameters.n_parts:
            return False
        return valid(tables, table_shapes(self.parameters, self.n_items, tables.part))

    def apply(self, sent: QuantizedTables, received: QuantizedTables, other_age: float) -> None:
        """Make this side's move of an exchange. Tables from outside must have passed `accepts`."""
        own, other = (values_of(self.parameters, self.n_items, tables) for tables in (sent, received))
        apply_exchange(self.parameters, self._state, own, other, other_share(self.age, other_age))
        self.exchanged()

    def exchanged(self) -> None:
        """Count an exchange (for `due_to_contribute`); `apply` does so itself."""
        if self._exchanges is not None:
            self._exchanges += 1

    def step(self) -> bool:
        """Move the item factors along what the accumulators hold; ends the round.

        Returns False when the numbers broke (not finite, or too large to be transmitted): then the model begins anew from the
        common start, with age 0, so that the next exchange takes over a neighbour's.
        """
        step(self.parameters, self._state, self.swarm_size_estimate)
        if is_transmittable(self._state.item_factors):
            return True
        self._state = initial_state(self.parameters, self._seed, self._item_keys)
        self._user_factor = None
        return False

    def scores(self) -> FloatArray:
        """(n_items,) the predicted value of every item, for ranking."""
        return scores(self.parameters, served_factors(self._state), self.user_factor)

    def recommend(self, k: int) -> IndexArray:
        """The k best items that the person has not had, best first."""
        return top_k(self.scores(), k, self._items)

    def explain(self, item: int) -> Explanation:
        """What each of `items` adds to the score of `item`."""
        return explain(
            self.parameters, served_factors(self._state), self._items, self._values, item, self._recent_weights()
        )

    def _recent_weights(self) -> FloatArray:
        return recent_weights(self.parameters, self._ranks, np.ones(self._items.size, np.float32))


def privatize(
    privacy: PrivacyParameters, own: Contribution, rng: np.random.Generator, *, peer_axes: int = 0
) -> Contribution:
    """Clip a contribution's two parts to their norms and add Gaussian noise of `noise_multiplier` times those norms.

    Each part is one Gaussian mechanism of that multiplier: a contribution spends two releases.
    """
    gradient, evidence = clip_to_norm((own.gradient, own.evidence), privacy.clip_norm, peer_axes=peer_axes)
    (gram,) = clip_to_norm((own.gram,), privacy.gram_clip_norm, peer_axes=peer_axes)
    if privacy.noise_multiplier == 0:
        return Contribution(gradient, evidence, gram)
    std = privacy.noise_multiplier * privacy.clip_norm
    gram_std = privacy.noise_multiplier * privacy.gram_clip_norm
    return Contribution(
        add_gaussian(gradient, std, rng), add_gaussian(evidence, std, rng), add_gaussian(gram, gram_std, rng)
    )
