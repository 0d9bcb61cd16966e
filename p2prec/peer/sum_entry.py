"""How one peer's contribution enters a private sum: under all its noise, with the word of all its mask partners, and not without
enough others.

In order: the ledger row; the statistic, with noise and masks; sealed for guardians, and partners told; their answers;
`Contributes` to everybody; and once enough people have said so, in clear to guardians. Until then nobody has seen it, and if
anything is missing nobody ever will.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Set

import numpy as np

from p2prec.errors import StoreError
from p2prec.peer.escrow_box import seal_contribution
from p2prec.peer.private_sum import PrivateSum
from p2prec.peer.sum_messages import (
    Contributes,
    Deposit,
    Masked,
    MaskNoted,
    NotMasked,
    Outgoing,
    Sealed,
    Withdrawn,
)
from p2prec.peer.sum_roster import Roster
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.plan import COLLUDING, MIN_PARTNERS
from p2prec.privacy.stream import KEY_BYTES, NoiseStream
from p2prec.types import FloatArray, PeerId

GUARDIANS = 4
"""With whom a peer leaves its contribution before mixing: all of them have to die for it to be lost."""


class Entry:
    """One peer's."""

    def __init__(
        self,
        value: PrivateSum,
        roster: Roster,
        times: Timetable,
        n_people: int,
        *,
        statistic: Callable[[], FloatArray],
        record: Callable[[], None],
        noise: Callable[[], NoiseStream],
        objection: Callable[[], str],
        rng: np.random.Generator,
    ) -> None:
        """As of `p2prec.peer.sum_peer.SumPeer`."""
        self.sat_out = ""
        """Why this peer did not contribute; "" if it did, or may yet."""
        self.keys: dict[PeerId, bytes] = {}
        """By partner: keys of the masks in the value."""
        self.asked: frozenset[PeerId] = frozenset()
        """Partners with whom this peer had masked at first."""
        self.have_masked: set[PeerId] = set()
        """Partners that have said `Masked`."""
        self.contributors: set[PeerId] = set()
        """Who has contributed, this peer included, as far as it knows."""
        self._own_id, self._value, self._roster, self._times = roster.own_id, value, roster, times
        self._fewest = n_people + COLLUDING
        self._statistic, self._record, self._noise, self._objection = statistic, record, noise, objection
        self._rng = rng
        self._escrow: dict[PeerId, bytes] = {}
        self._is_due = False
        """Whether it has been time to contribute."""
        self._to_answer: set[PeerId] = set()
        self._unanswered: set[PeerId] = set()
        self._noted: set[PeerId] = set()
        self._sealed: Sealed | None = None
        """The own contribution as it entered, until it has been left with guardians."""
        self._masked_late: set[PeerId] = set()
        self._has_withdrawn = False
        self._to_deposit = False
        self._says_at = math.inf
        """When to say `Contributes`, once all partners have answered: at a beat, so that what all say is passed on together."""
        self._remind_at = times.start + times.contribute_s + times.answer_s

    @property
    def is_done(self) -> bool:
        """Whether this peer may mix: its contribution is in and safe, or it makes none."""
        return self._is_due and not self._unanswered and not self._to_deposit

    @property
    def is_stuck(self) -> bool:
        """Whether everything is there for this peer to show its contribution, but for the answers of a few partners."""
        return bool(self._unanswered) and len(self._noted) >= MIN_PARTNERS

    @property
    def can_go_on(self) -> bool:
        """Whether `tick` has something to do that waits for neighbours at most."""
        if self._sealed is not None:
            return True
        if not self._to_deposit or self._unanswered:
            return False
        if self._own_id not in self.contributors:
            return math.isinf(self._says_at)
        return len(self.contributors) >= self._fewest

    @property
    def due(self) -> float:
        """When partners are to be asked again, or this peer says that it contributes."""
        if self._unanswered:
            return self._remind_at
        return math.inf if self._own_id in self.contributors else self._says_at

    def contribute(self, now: float, dead: Set[PeerId], withdrawn: Set[PeerId]) -> Outgoing:
        """Before this nothing of the person is in the value; after it everything is under its noise. dead: whom nobody waits for;
        withdrawn: whom nobody masks with any more.
        """
        self._is_due = True
        late = now > self._times.start + self._times.contribute_s + self._times.notice_s
        asleep = "this device was not awake when contributions were due" if late else ""
        self.sat_out = asleep or self._objection() or self._roster.refusal() or self._recorded()
        if self.sat_out:
            # Partners are not to wait for this one's answers, which may never arrive where it is hard to reach.
            self._has_withdrawn = True
            return [(None, Withdrawn())]
        self.keys = {peer: key for peer, key in self._roster.keys().items() if peer not in withdrawn}
        self.asked = frozenset(self.keys)
        self._value.contribute(self._statistic(), self.keys, self._noise())
        self._to_deposit = True
        box_key = secrets.token_bytes(KEY_BYTES)
        box = seal_contribution(box_key, self._own_id, self._value.contribution())
        self._sealed = Sealed(box, self._roster.quorum(self._own_id))
        self._escrow = self._roster.escrow(self.keys, box_key)
        self._unanswered = set(self.keys) - dead
        return self._tell_masked(sorted(self._unanswered)) + self._answers()

    def _recorded(self) -> str:
        try:
            self._record()
        except StoreError as error:
            return f"the privacy ledger cannot be written ({error})"
        return ""

    def tick(self, now: float, neighbours: list[PeerId]) -> Outgoing:
        """Go on, as far as the others have."""
        return self._seal(neighbours) + self._remind(now) + self._deposit(now, neighbours)

    def _seal(self, neighbours: list[PeerId]) -> Outgoing:
        """Leave the contribution with guardians, encrypted, as soon as partners may hear of its masks."""
        if self._sealed is None or not neighbours:
            return []
        sealed, self._sealed = self._sealed, None
        return [(guardian, sealed) for guardian in self._guardians(neighbours)]

    def _remind(self, now: float) -> Outgoing:
        """Ask partners that have not answered again: what said so may have been lost with a peer on the way."""
        if not self._unanswered or now < self._remind_at:
            return []
        self._remind_at = now + self._times.answer_s
        return self._tell_masked(sorted(self._unanswered))

    def _deposit(self, now: float, neighbours: list[PeerId]) -> Outgoing:
        """Leave the contribution with guardians, once all partners have answered, and enough people have contributed: until then
        nobody has seen it, and the noise of fewer would not do.
        """
        if not self._to_deposit or self._unanswered:
            return []
        if len(self._noted) < MIN_PARTNERS:
            # Too few of those that had confirmed are there after all. Nothing has been shown, so nothing is.
            self.sat_out = f"only {len(self._noted)} mask partners have answered, {MIN_PARTNERS} are needed"
            self.withdraw()
            return [(None, Withdrawn())]
        out: Outgoing = []
        if self._own_id not in self.contributors:
            self._says_at = min(self._says_at, self._times.beat(now))
            if now < self._says_at:
                return []
            self.on_contributes(self._own_id)
            out = [(None, Contributes(self._roster.word))]
        if len(self.contributors) < self._fewest or not neighbours:
            return out
        self._to_deposit = False
        self._value.keep_contribution()
        return [
            *out,
            *((guardian, Deposit(self._value.contribution())) for guardian in self._guardians(neighbours)),
        ]

    def _guardians(self, neighbours: list[PeerId]) -> list[PeerId]:
        return [neighbours[index] for index in self._rng.permutation(len(neighbours))[:GUARDIANS].tolist()]

    def _tell_masked(self, partners: list[PeerId]) -> Outgoing:
        return [(peer, Masked(self._escrow[peer])) for peer in partners]

    # --- what partners say ---

    def on_contributes(self, peer: PeerId) -> None:
        if peer in self._roster:
            self.contributors.add(peer)
            self._value.expect(len(self.contributors))

    def on_masked(self, partner: PeerId) -> Outgoing:
        """It has masked with this peer: answer, now or when this one has contributed."""
        if self._roster.are_partners(self._own_id, partner):
            self._to_answer.add(partner)
            self.have_masked.add(partner)
        return self._answers()

    def _answers(self) -> Outgoing:
        if not self._is_due or self._has_withdrawn:
            return []  # `Withdrawn` answers all who ask
        waiting, self._to_answer = sorted(self._to_answer), set()
        return [(peer, MaskNoted() if peer in self.keys else NotMasked()) for peer in waiting]

    def on_noted(self, partner: PeerId) -> None:
        self._unanswered.discard(partner)
        self._noted.add(partner)

    def on_not_masked(self, partner: PeerId) -> None:
        """It has not: the mask is taken out again. Once it has answered, and the value may have been shown, the mask stays."""
        if partner in self._unanswered:
            self._unanswered.discard(partner)
            self.remove_masks([partner])

    def on_withdrawn(self, partner: PeerId) -> bool:
        """It has nothing in the sum. Whether this peer's mask with it is to be taken out at once: nobody has seen that yet. If it
        had answered before, the value may have been shown, and the mask goes with those of the absent.
        """
        is_awaited = partner in self._unanswered
        self._unanswered.discard(partner)
        return is_awaited

    def died(self, partner: PeerId) -> None:
        """Nobody waits for its answer; its mask stays."""
        self._unanswered.discard(partner)

    def late_mask(self, dead: PeerId) -> FloatArray | None:
        """(count,) what cancels the mask with this peer in a dead partner's contribution as it was sealed: this peer has none
        with it, and has said so, but what is sealed stays as it is. Given out once; None if there is nothing to cancel, and
        if this peer has withdrawn: then others take out all masks with it.
        """
        if self._has_withdrawn or dead not in self.have_masked or dead in self.keys or dead in self._masked_late:
            return None
        self._masked_late.add(dead)
        key = self._roster.key_with(dead)
        return None if key is None else self._value.mask_with(dead, key)

    # --- taking back ---

    def remove_masks(self, partners: list[PeerId]) -> None:
        for partner in partners:
            self.keys.pop(partner, None)
            self._value.remove_mask(partner)

    def withdraw(self) -> None:
        """This peer has nothing in the sum any more."""
        self._has_withdrawn = True
        self._value.drop()
        self.keys.clear()
        self._unanswered.clear()
        self._sealed, self._to_deposit, self._says_at = None, False, math.inf

    def close(self) -> None:
        """Mixing is over. What has not been shown by now never is."""
        if self._to_deposit:
            self.sat_out = f"only {len(self.contributors)} people have contributed, {self._fewest} are needed"
            self.withdraw()
