"""One peer's part in one private sum: a value that is mixed until everybody holds the mean, and loses nothing on the way.

The steps, in order (protocols/privacy-v8.md has the messages):

1. `contribute` puts the peer's own clipped statistic in, under its independent noise and the masks of its confirmed partners.
2. `outgoing`, `apply`: symmetric exchanges of the same two quantized vectors, applied by both sides or by neither.
3. `inherit` takes over from a crashed peer, `hand_over` and `receive` pass everything on at a graceful stop, `remove_mask`
   takes back the mask of a partner that never contributed.
4. `mean` is the result, once `is_settled`.

No clock, no global randomness. Whatever happens to other peers, this one's own noise is in its value before anything leaves
`outgoing`: faults can leave noise uncancelled in the result, they cannot take any away from a contribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2prec.model.nearest import Levels, decode, encode, is_encoded
from p2prec.peer.inheritance import Claim, Trace, WitnessBook
from p2prec.privacy.masks import mask
from p2prec.privacy.plan import SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray, PeerId

SETTLED = 0.35
"""Copies differ by at most this much of the planned noise of the mean: together sqrt(1 + 0.35^2 / 2) = 1.03 times it."""
FINE_EXCHANGES = 4
"""In so many exchanges of a peer it transmits sixteen bits a value instead of eight. A value is mostly masks then, and what
rounding keeps back is lost if the peer dies."""
MAX_FINE = 500_000
"""Sums of more values have eight bits throughout: a message has to fit into a frame."""
COPIES = 1
"""With so many neighbours a peer leaves what it knows of another whose link is gone."""
MAX_WEIGHT = 1e6
WEIGHT_STEP = 2.0**-32
"""Weights travel as multiples of this."""
_REMEMBERED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What an offer or an answer carries of one peer's value."""

    value: Levels
    """In units of `SumPlan.unit`."""
    weight: float
    """How much of a contribution is in it: 1 just after contributing, 0 in a peer that only helps to mix."""
    trace: Trace


class PrivateSum:
    """The value that one peer holds in one sum."""

    def __init__(self, own_id: PeerId, count: int, plan: SumPlan) -> None:
        """count: length of everybody's statistic."""
        self.own_id = own_id
        self.count = count
        self.plan = plan
        self.weight = 0.0
        self.changes = 0
        """How often the value has changed: what witnesses order their knowledge by."""
        self.met: set[PeerId] = set()
        """Partners, and their partners before this one: these have certainly contributed to what is mixed."""
        self._value = np.zeros(count, np.float32)
        self._masks: dict[PeerId, bytes] = {}
        self._previous: tuple[PeerId, int] | None = None
        self._witnessed: WitnessBook[tuple[Share, ...]] = WitnessBook()
        """Of each state the shares whose mean it is, but for what rounding kept back."""
        self._differences: list[float] = []
        self._exchanges = 0
        """Since mixing began."""
        self._handed_over = False
        self._contribution: FloatArray | None = None
        """The own contribution as it was before mixing, and what was corrected since; without one, that alone."""
        self._contributed = 0.0
        """Its weight."""

    # --- contributing ---

    def contribute(self, statistic: FloatArray, mask_keys: Mapping[PeerId, bytes], own: NoiseStream) -> None:
        """Put the peer's own statistic in. The ledger row is on disk before this is called.

        statistic: (count,) of norm at most 1 (the caller's duty; checked); mask_keys: of the confirmed partners; own: private.
        Raises ValueError for a second call, a longer statistic, or one that is too long.
        """
        if self._masks or self.weight:
            raise ValueError("a peer contributes to a sum once")
        norm = float(np.linalg.norm(statistic.astype(np.float64)))
        if statistic.shape != (self.count,) or not norm <= 1 + 1e-5:
            raise ValueError("a statistic must have the sum's length and a norm of at most 1")
        total = statistic + self.plan.independent_std * own.gaussian(self.count)
        for partner, key in mask_keys.items():
            total += self.mask_with(partner, key)
        self._value += (total / self.plan.unit).astype(np.float32)
        self._masks = dict(mask_keys)
        self.weight += 1.0
        self._changed()

    def remove_mask(self, partner: PeerId) -> bool:
        """Take back the mask of a partner whose contribution never entered the sum. False if there is none (any more)."""
        key = self._masks.pop(partner, None)
        if key is None or self._handed_over:
            return False
        self._shift(-self.mask_with(partner, key) / np.float32(self.plan.unit))
        return True

    def mask_with(self, partner: PeerId, key: bytes) -> FloatArray:
        """(count,) this peer's side of the mask with a partner, in units of a statistic."""
        return mask(key, self.own_id, partner, self.count, self.plan.mask_std)

    def keep_contribution(self) -> None:
        """Keep what is there now, before anything is mixed, for `restart`."""
        self._contribution, self._contributed = self._value.copy(), self.weight

    def correct(self, values: FloatArray) -> None:
        """Add (count,) values, in units of a statistic: what cancels the mask of a peer that cannot do so itself."""
        self._shift(values / np.float32(self.plan.unit))

    def _shift(self, values: FloatArray) -> None:
        self._value += values
        if self._contribution is not None:
            self._contribution += values
        elif not self._masks:
            self._contribution = values.copy()
        self._changed()

    # --- mixing ---

    def outgoing(self) -> Share:
        """What to transmit in the next offer or answer: in the first FINE_EXCHANGES with sixteen bits a value, then eight."""
        return self._share(fine=self._exchanges < FINE_EXCHANGES)

    def apply(self, partner: PeerId, sent: Share, received: Share) -> None:
        """Move halfway towards the partner; afterwards both hold the same, but for the rounding.

        sent: what this peer transmitted in the same exchange. Nothing may have changed since (`p2prec.peer.sum_exchange` sees
        to it); raises ValueError if something has.
        """
        if sent.trace.changes != self.changes:
            raise ValueError("the value has changed since it was offered")
        difference = decode(received.value, self.count) - decode(sent.value, self.count)
        self._value += np.float32(0.5) * difference
        self.weight += 0.5 * (received.weight - sent.weight)
        self.changes += 1
        self._exchanges += 1
        self._differences.append(float(np.sqrt(np.mean(difference**2))))
        del self._differences[:-_REMEMBERED]
        self._witnessed.exchanged(partner, received.trace, (sent, received), (received,))
        self.met |= {partner} if received.trace.previous is None else {partner, received.trace.previous}
        self._previous = partner, received.trace.changes + 1

    def contribution(self) -> Share:
        """What to leave with guardians before mixing begins, with sixteen bits a value."""
        return self._share(fine=True)

    def keep_deposit(self, peer: PeerId, share: Share) -> None:
        """Be a peer's guardian: remember its contribution as it was before mixing."""
        self._witnessed.deposited(peer, share.trace, (share,))

    def has_deposit(self, peer: PeerId) -> bool:
        """Whether this peer is another's guardian, and has its contribution in clear."""
        return self._witnessed.has_deposit(peer)

    # --- those who leave ---

    def claim(self, dead: PeerId) -> Claim | None:
        """What to announce when a peer is declared dead."""
        return self._witnessed.claim(dead, self.own_id)

    def pass_on(self, peer: PeerId) -> tuple[bool, Share] | None:
        """What this peer knows of another whose link is gone, if they have exchanged (or nearly so) a short while ago: whether at
        first hand, and its value with the trace that `WitnessBook.passed_on` takes.
        """
        known = self._witnessed.recent(peer)
        if known is None:
            return None
        changes, direct, shares = known
        holds_it = self._previous == (peer, changes)
        trace = Trace(changes, self.own_id, self.changes) if holds_it else Trace(changes, None, 0)
        value, weight = self._mean(shares)
        # What one message has told goes on as it came.
        levels = shares[0].value if len(shares) == 1 else self._encoded(value, fine=True)
        return direct, Share(levels, on_the_wire(weight), trace)

    def keep_passed_on(self, peer: PeerId, direct: bool, share: Share) -> None:
        """Remember what a neighbour has passed on."""
        self._witnessed.passed_on(peer, share.trace, direct, (share,))

    def inherit(self, dead: PeerId) -> None:
        """Add what the dead peer held: this peer's claim was the best one."""
        self._add(*self._mean(self._witnessed.take(dead)))

    def hand_over(self) -> Share:
        """Everything, for a neighbour, at a graceful stop. The rounding error is lost with this peer; it is far below the noise
        of one contribution. Nothing may be exchanged afterwards.
        """
        share = self._share(fine=True)
        self._value[:] = 0
        self.weight, self._handed_over = 0.0, True
        return share

    def receive(self, share: Share) -> None:
        """Take what a leaving neighbour hands over."""
        self._add(*self._mean((share,)))

    def drop(self) -> None:
        """This peer was declared dead and its value taken over by another: begin again with nothing."""
        self._value[:] = 0
        self.weight, self._masks, self._contribution, self._contributed = 0.0, {}, None, 0.0
        self._changed()

    def restart(self) -> None:
        """Mix again from the own contribution, if there was one; of others, only what they left with this peer is known now."""
        kept = self._contribution
        self._value[:] = 0 if kept is None else kept
        self.weight = self._contributed
        self._differences.clear()
        self._exchanges = 0
        self._witnessed.forget_exchanges()
        self._changed()

    # --- the result ---

    @property
    def planned_std(self) -> float:
        """Standard deviation of the noise in the mean that the plan aims at, in units of a statistic, for `weight` about 1."""
        return self.plan.independent_std / math.sqrt(max(1, self._people))

    def expect(self, n_contributions: int) -> None:
        """How many contributed, as far as known."""
        self._people = n_contributions

    _people = 1

    @property
    def is_settled(self) -> bool:
        """Whether the last few partners held what this peer holds, but for less than the noise that is meant to be there."""
        if len(self._differences) < _REMEMBERED:
            return False
        return max(self._differences) * self.plan.unit <= SETTLED * self.planned_std

    def mean(self) -> FloatArray:
        """(count,) the mean statistic of those who contributed, noise included. Raises ValueError before anything arrived."""
        if not self.weight > 0:
            raise ValueError("nothing has arrived yet")
        return (self._value * np.float32(self.plan.unit / self.weight)).astype(np.float32)

    # ---

    def _mean(self, shares: tuple[Share, ...]) -> tuple[FloatArray, float]:
        """(count,) values, and their weight."""
        total = np.zeros(self.count, np.float32)
        for share in shares:
            total += decode(share.value, self.count)
        return total / np.float32(len(shares)), sum(share.weight for share in shares) / len(shares)

    def _add(self, value: FloatArray, weight: float) -> None:
        self._value += value
        self.weight += weight
        self._changed()

    def _changed(self) -> None:
        """The value is no longer what the last partner holds."""
        self.changes += 1
        self._previous = None

    def _share(self, *, fine: bool) -> Share:
        previous, count = self._previous if self._previous is not None else (None, 0)
        return Share(
            self._encoded(self._value, fine=fine), on_the_wire(self.weight), Trace(self.changes, previous, count)
        )

    def _encoded(self, value: FloatArray, *, fine: bool) -> Levels:
        return encode(value, fine=fine and self.count <= MAX_FINE)


def on_the_wire(weight: float) -> float:
    """A weight as it is transmitted, exactly; both sides of an exchange move by the difference of these."""
    return max(0, round(weight / WEIGHT_STEP)) * WEIGHT_STEP


def is_acceptable(share: Share, count: int) -> bool:
    """Whether a received share can have come from an honest peer: the shape and bounds of its value, a weight between 0 and the
    people that a swarm can have. The caller refuses the message otherwise.
    """
    return is_encoded(share.value, count) and 0 <= share.weight <= MAX_WEIGHT and 0 <= share.trace.changes < 2**31
