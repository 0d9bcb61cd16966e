"""One peer of a swarm with a promise, sans I/O: both private sums in turn, and the agreement on items between them
(protocols/privacy-v8.md).

All times are seconds since 1970 (UTC), as the promise says them. `p2prec.peer.peer.Peer` drives it and carries what it returns:
messages to neighbours, in order. Nothing that depends on the person leaves before `SumPeer` has put all noise in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np

from p2prec.manifest import Promise
from p2prec.model.pairs import (
    POPULARITY_ITEMS,
    VOID_ABOVE,
    expected_popularity,
    n_pairs,
    n_selected,
    pair_noise,
    popularity_noise,
    popularity_of,
)
from p2prec.peer.agreement import Agreement
from p2prec.peer.deaths import DeathWatch
from p2prec.peer.gathering import Gathering
from p2prec.peer.post import Post, Sealer
from p2prec.peer.sum_copies import Copies
from p2prec.peer.sum_messages import (
    DIRECT,
    ENTERED,
    ROUTED,
    Alive,
    Claimed,
    Gone,
    InSum,
    Letter,
    Outgoing,
    Relays,
    Result,
    ResultRequest,
    Selection,
    SumDecline,
    SumOffer,
    Suspected,
)
from p2prec.peer.sum_outcome import SumOutcome
from p2prec.peer.sum_peer import SumPeer
from p2prec.peer.sum_times import Timetable
from p2prec.privacy.plan import PAIRS, POPULARITY, SUMS, PrivacyPlan, SumPlan
from p2prec.privacy.stream import NoiseStream
from p2prec.types import FloatArray, IndexArray, PeerId, SwarmId

HOPS_IN_A_NOTICE = 20
"""What is passed on waits for at most a notice divided by this at each peer."""
EARLY_S = 60.0
"""Before a sum begins its messages are taken already: clocks differ."""
LATEST_ENROLMENT = 0.8
"""Of the time for it: who starts later takes no part, since not everybody would hear of it."""
LOOKS, STOOD_STILL = 0.3, 0.5
"""Of a notice: how soon a peer ticks that waits for contradictions and hears nothing; after how long it may have missed some."""
LEAST_WEIGHT = 0.1
"""A copy with less of the contributions in it is none."""

LinkMessage = InSum | Relays
Outbox = list[tuple[PeerId, LinkMessage]]
"""Messages to neighbours, in order."""


def sizes_of(promise: Promise, n_items: int) -> tuple[dict[int, int], int]:
    """The number of values in each sum, and how many items are counted in pairs: the same for the whole swarm."""
    plan = PrivacyPlan.of(promise.epsilon, promise.delta, promise.n_people)
    selected = n_selected(n_items, promise.n_people, plan.pairs.mu)
    return {POPULARITY: n_items, PAIRS: n_pairs(selected)}, selected


def timetable(promise: Promise, number: int) -> Timetable:
    """Of the sum with this number, 1 or 2."""
    return Timetable(
        start=promise.start_of(number),
        enrol_s=promise.enrol_s,
        contribute_s=promise.contribute_s,
        recover_s=promise.recover_s,
        end_s=promise.end_s,
        again_s=promise.again_s,
        exchange_s=promise.exchange_s,
        notice_s=promise.notice_s,
        answer_s=promise.answer_s,
    )


class PrivatePeer:
    """Call `tick` by `next_deadline`, and `received`, `met`, `lost` as it happens. `results` has what is known so far."""

    def __init__(
        self,
        *,
        own_id: PeerId,
        swarm_id: SwarmId,
        promise: Promise,
        n_items: int,
        popularity_statistic: Callable[[], FloatArray],
        pair_statistic: Callable[[IndexArray, FloatArray], FloatArray],
        record: Callable[[int], None],
        sealer: Sealer,
        rng: np.random.Generator,
        random_bytes: Callable[[int], bytes],
        now: float,
        noise: Callable[[], NoiseStream] = NoiseStream.private,
        results: Mapping[int, SumOutcome] | None = None,
        selected: IndexArray | None = None,
        enrol: Callable[[int], bool] | None = None,
    ) -> None:
        """popularity_statistic: (n_items,), asked once, when contributing to the first sum; pair_statistic: of (selected items,
        expected popularity of them), likewise in the second; record: writes the ledger row of a sum (1 or 2), durably, before
        anything else happens; it raises StoreError, and then nothing is contributed. rng: draws neighbours, nothing secret.
        results, selected: of an earlier run of this peer. enrol: notes, durably, that this peer enrols in a sum, and returns
        whether it is the first time (False also if it cannot tell): with it a peer that starts while others enrol may still take
        part. None: only who runs when a sum begins takes part in it.

        Raises ValueError for a promise that is none.
        """
        self.own_id, self.promise, self.n_items = own_id, promise, n_items
        self.objection: Callable[[], str] = lambda: ""
        """Why this peer is not to contribute now, in words; "" if nothing speaks against it."""
        plan = PrivacyPlan.of(promise.epsilon, promise.delta, promise.n_people)
        self._plans: dict[int, SumPlan] = {POPULARITY: plan.popularity, PAIRS: plan.pairs}
        self._counts, selection = sizes_of(promise, n_items)
        self._swarm_id, self._record, self._rng, self._noise = swarm_id, record, rng, noise
        self._note_enrolment = enrol
        self._popularity_statistic, self._pair_statistic = popularity_statistic, pair_statistic
        self._times = {number: timetable(promise, number) for number in SUMS}
        self._began = now
        self._hop_s = promise.notice_s / HOPS_IN_A_NOTICE
        self._post = Post(
            own_id,
            sealer,
            random_bytes,
            self._hop_s,
            self._is_news,
            self._letter_key,
            self._is_dead,
            self._gathering,
        )
        self._sums: dict[int, SumPeer] = {}
        """Those under way in which this peer takes part."""
        self._watches: dict[int, DeathWatch] = {}
        self._opened: set[int] = set()
        self._now = now
        """When anything was last done or heard."""
        self._to_say_gone: set[int] = set()
        self._agreement = Agreement(own_id, POPULARITY, selection)
        self._copies = Copies(promise, self._plans, self._counts, rng, self._is_void, results or {}, selected)
        self._participants: frozenset[PeerId] = frozenset()
        """Of the first sum, those who lived at its end."""
        self._neighbours: Collection[PeerId] = ()
        """As of the last tick; a dict view of the neighbourhood's, so always those of now."""
        self._due_anyway = now
        """When there is something to do whatever comes: as of the last tick, or now."""
        self._due: float | None = None
        """When to tick next, passing on apart; None: something has happened that may have changed it."""

    # --- what the driver may show ---

    @property
    def results(self) -> dict[int, SumOutcome]:
        """By the number of the sum, 1 and 2: what it came to. Grows, and changes otherwise never."""
        return self._copies.results

    @property
    def selected(self) -> IndexArray | None:
        """(n_selected,) the items that are counted in pairs, once agreed."""
        return self._copies.selected

    @property
    def pace_s(self) -> float:
        """About how often a neighbour has to be heard at most: its messages are counted by this."""
        return min(self.promise.exchange_s, self._hop_s)

    @property
    def is_under_way(self) -> bool:
        """Whether this peer takes part in a sum now."""
        return bool(self._sums)

    def sum_peer(self, number: int) -> SumPeer | None:
        """This peer's part in a sum that is under way; None before, after, and if it takes none."""
        return self._sums.get(number)

    # --- time ---

    @property
    def next_deadline(self) -> float:
        """When to call `tick` next, at the latest. Asked after everything that happens, which may bring it forward, and far more
        often.
        """
        if self._due is None:
            self._due = self._worked_out()
        # Whatever comes in until then is passed on together.
        passes_on = self._post.due(self._now)
        return passes_on if passes_on < self._due else self._due

    def _worked_out(self) -> float:
        due = self._due_anyway
        for one in self._sums.values():
            due = min(due, one.next_deadline)
        for watch in self._watches.values():
            if (at := watch.due()) < math.inf:
                # Just before it believes or says something this peer looks more often, so as to know that it has not stood still.
                notice_s = self.promise.notice_s
                due = min(due, at, max(at - notice_s, self._now + LOOKS * notice_s))
        return due

    def _plans_ahead(self) -> float:
        """When there is something to do that is brought forward by results and by whoever is met alone."""
        due = min(self._copies.next_deadline(self._sums), self._proposes_at())
        for number in SUMS:
            if number not in self._opened:
                due = min(due, self._opens(number))
            elif number in self._post.open_sums:
                due = min(due, self._closes(number))
        return due

    def tick(self, now: float, neighbours: Collection[PeerId]) -> Outbox:
        """Do what is due. neighbours: who can be reached now."""
        self._note_activity(now, is_cut_off=not neighbours)
        self._neighbours = neighbours
        can_go_on = any(one.can_go_on for one in self._sums.values())
        if self._due is not None and now < self._due and not can_go_on:
            return [*self._post.flush(neighbours, now)]  # most often
        self._due = None
        is_due = now >= self._due_anyway
        out = self._as_planned(now) if is_due else []
        for number, one in list(self._sums.items()):
            if one.is_due(now):
                out += self._dispatch(number, one.tick(now, self._eligible(one)))
            if now >= self._watches[number].due():
                out += self._watch(number, one, now)
            if one.is_over:
                self._finish(number, one, now)
                is_due = True
        if is_due:
            self._due_anyway = self._plans_ahead()
        return [*out, *self._post.flush(neighbours, now)]

    def _as_planned(self, now: float) -> Outbox:
        """What is due by `_plans_ahead`."""
        out: Outbox = []
        for number in SUMS:
            self._open_or_close(number, now)
            out += self._copies.ask(number, now, self._neighbours, self._sums)
        if now >= self._proposes_at():
            items = self._agreement.propose(self._popularity())
            self._post.send(None, PAIRS, Selection(items), self._now)
        return out

    def _note_activity(self, now: float, *, is_cut_off: bool = False) -> None:
        """Something is done or heard now; after a long silence contradictions may have been missed."""
        if is_cut_off or now - self._now > STOOD_STILL * self.promise.notice_s:
            self._due = None
            for watch in self._watches.values():
                watch.excuse(now)
        self._now = now

    def _opens(self, number: int) -> float:
        return self.promise.start_of(number) - EARLY_S

    def _closes(self, number: int) -> float:
        return self.promise.end_of(number) + 2 * self.promise.notice_s

    def _open_or_close(self, number: int, now: float) -> None:
        promise = self.promise
        if now >= self._closes(number):
            self._opened.add(number)
            self._post.close(number)
        elif now >= self._opens(number) and number not in self._opened:
            self._opened.add(number)
            self._post.open(number)
            if self._may_enrol(number, now):
                self._take_part(number)
            elif promise.start_of(number) < self._began < promise.end_of(number):
                self._to_say_gone.add(number)
        if number in self._to_say_gone and number in self._post.open_sums and self._neighbours:
            # An earlier run of this peer may have taken part: what it held died with it.
            self._to_say_gone.remove(number)
            self._post.send(None, number, Gone(), self._now)

    def _may_enrol(self, number: int, now: float) -> bool:
        """Whether this peer takes part in a sum that begins soon, or has begun: not if an earlier run of it may have, since
        others then have a key of that run.
        """
        if number in self.results:
            return False
        is_first = self._note_enrolment is not None and self._note_enrolment(number)
        start = self.promise.start_of(number)
        return self._began <= start or (is_first and now < start + LATEST_ENROLMENT * self.promise.enrol_s)

    def _take_part(self, number: int) -> None:
        statistic = self._popularity_statistic if number == POPULARITY else self._pairs_of_own
        self._sums[number] = SumPeer(
            self.own_id,
            self._swarm_id,
            number,
            self._plans[number],
            self.promise.n_people,
            self._counts[number],
            statistic,
            lambda: self._record(number),
            self._times[number],
            self._rng,
            self._noise,
            lambda: self.objection() or ("" if number == POPULARITY else self._agree()),
            lambda mean: self._is_void(number, mean, self._sums[number].value.planned_std),
        )
        self._watches[number] = DeathWatch(self.own_id, self._times[number], self._rng)

    def _eligible(self, one: SumPeer) -> list[PeerId]:
        return sorted(peer for peer in self._neighbours if peer in one.roster and not one.is_dead(peer))

    def _watch(self, number: int, one: SumPeer, now: float) -> Outbox:
        watch = self._watches[number]
        out: Outbox = []
        for suspicion in watch.suspicions(now):
            self._post.send(None, number, suspicion, self._now)
        for contradiction in watch.contradictions(now):
            self._post.send(None, number, contradiction, self._now)
        for dead in watch.dead(now):
            out += self._dispatch(number, one.peer_died(dead, now))
        return out

    # --- messages ---

    def received(self, neighbour: PeerId, message: LinkMessage, now: float) -> Outbox:
        """Handle a message of a neighbour. Raises RemoteMisbehaviour."""
        out: Outbox = []
        self._note_activity(now)
        if isinstance(message, Relays):
            for letter in self._post.receive(neighbour, message):
                if isinstance(letter.message, ENTERED):  # most of what is heard
                    self._on_entry(letter, now)
                else:
                    out += self._on_letter(letter, now)
            return out
        self._due = None
        number, inner = message.number, message.message
        one = self._sums.get(number)
        match inner:
            case ResultRequest():
                return list(self._copies.tell(neighbour, number, now))
            case Result():
                self._copies.take(neighbour, number, inner, self._sums)
                self._due_anyway = now
            case SumOffer() if one is None:
                return [(neighbour, InSum(number, SumDecline(inner.exchange)))]
            case _ if one is not None:
                return self._dispatch(number, one.receive(neighbour, inner, now))
        return []

    def _on_entry(self, letter: Letter, now: float) -> None:
        """Somebody has enrolled or contributed."""
        one = self._sums.get(letter.number)
        if one is not None:
            one.receive(letter.origin, letter.message, now, letter.proof)

    def _on_letter(self, letter: Letter, now: float) -> Outbox:
        number, message = letter.number, letter.message
        if isinstance(message, Selection):
            if number == PAIRS and (not self._participants or letter.origin in self._participants):
                self._agreement.hear(letter.origin, message.items)
            return []
        one, watch = self._sums.get(number), self._watches.get(number)
        if one is None or watch is None:
            return []
        self._due = None
        match message:
            case Suspected():
                self._on_suspected(number, message, now)
            case Claimed():
                # Whoever claims holds the peer for dead. Others do not take its word for it.
                self._on_suspected(number, Suspected(message.dead, watch.incarnation_of(message.dead)), now)
                return self._dispatch(number, one.receive(letter.origin, message, now, letter.proof))
            case Alive():
                watch.on_alive(letter.origin, message)
            case Gone():
                if letter.origin in one.roster:
                    watch.forget(letter.origin)
                    return self._dispatch(number, one.peer_died(letter.origin, now))
            case _:
                return self._dispatch(number, one.receive(letter.origin, message, now, letter.proof))
        return []

    def _letter_key(self, number: int, partner: PeerId) -> bytes | None:
        one = self._sums.get(number)
        return None if one is None else one.roster.letter_key(partner)

    def _is_dead(self, number: int, peer: PeerId) -> bool:
        one = self._sums.get(number)
        return one is not None and one.is_dead(peer)

    def _gathering(self, number: int) -> Gathering | None:
        """Of what is said in a sum now."""
        one, watch = self._sums.get(number), self._watches.get(number)
        return None if one is None or watch is None else one.gathering(self._now, watch.is_suspected)

    def _is_news(self, letter: Letter) -> bool:
        """Whether what is said to everybody has to be passed on: not if all who would hear it have heard as much from here. Each
        of the many who have met a dead peer says so.
        """
        one, watch = self._sums.get(letter.number), self._watches.get(letter.number)
        if one is None or watch is None:
            return True
        match letter.message:
            case Suspected():
                return not one.is_dead(letter.message.peer) and watch.is_news(letter.message)
            case Claimed():
                return one.is_news(letter.origin, letter.message)
        return True

    def _on_suspected(self, number: int, message: Suspected, now: float) -> None:
        one, watch = self._sums[number], self._watches[number]
        if message.peer not in one.roster or one.is_dead(message.peer) or one.declared_dead:
            return
        watch.on_suspected(message, now)
        for contradiction in watch.contradictions(now):
            self._post.send(None, number, contradiction, self._now)

    def _dispatch(self, number: int, messages: Outgoing) -> Outbox:
        """Send each the way it goes: on a link, or by post. What only a link can carry is lost if there is none."""
        out: Outbox = []
        for to, message in messages:
            if to is not None and to in self._neighbours and isinstance(message, DIRECT):
                out.append((to, InSum(number, message)))
            elif to is None or isinstance(message, ROUTED):
                self._post.send(to, number, message, self._now)
        return out

    def met(self, peer: PeerId, now: float) -> Outbox:
        """A peer has become a neighbour (again): it may have missed what was said to everybody."""
        self._due, self._due_anyway = None, now  # something may have waited for a neighbour
        for watch in self._watches.values():
            watch.met(peer)
        under_way = [number for number in self._post.open_sums if now < self.promise.end_of(number)]
        return list(self._post.catch_up(peer, now, under_way, every_s=self.promise.notice_s))

    def lost(self, peer: PeerId, now: float) -> Outbox:
        """The link to a neighbour has ended."""
        self._due = None
        self._post.lost(peer)
        out: Outbox = []
        for number, watch in self._watches.items():
            one = self._sums[number]
            if peer in one.roster and not one.is_dead(peer):
                watch.lost(peer, now)
                out += self._dispatch(number, one.link_lost(peer, self._eligible(one), now))
        return out

    def leave(self, now: float) -> Outbox:
        """Stop gracefully: a neighbour gets what this peer holds. With an exchange open it is as if it had crashed."""
        self._due = None
        out: Outbox = []
        for number, one in self._sums.items():
            eligible = self._eligible(one)
            if eligible and one.has_something:
                chosen = eligible[int(self._rng.integers(len(eligible)))]
                out += self._dispatch(number, one.leave(chosen))
        return out

    # --- which items ---

    def _popularity(self) -> FloatArray:
        return popularity_of(self.results[POPULARITY].mean)

    def _proposes_at(self) -> float:
        """When this peer is to propose; never if it has, if somebody before it did, or without a copy of its own."""
        agreement = self._agreement
        if PAIRS not in self._sums or agreement.has_proposed or self.selected is not None or not self._participants:
            return math.inf
        outcome = self.results.get(POPULARITY)
        if outcome is None or outcome.is_void:
            return math.inf
        times = self._times[PAIRS]
        at = times.start + agreement.place(self._participants) * times.notice_s
        if at >= times.start + times.contribute_s - times.notice_s:
            return math.inf
        return at if agreement.agreed(self._popularity) is None else math.inf

    def _agree(self) -> str:
        """Adopt the list that counts. Returns why this peer cannot count pairs, in words."""
        outcome = self.results.get(POPULARITY)
        if outcome is None:
            return "the first sum has no result here"
        if outcome.is_void:
            return "the first sum is void"
        if self.selected is None:
            self._copies.selected = self._agreement.agreed(self._popularity)
        return "" if self.selected is not None else "nobody has proposed a list of items that is plausible"

    @property
    def expected(self) -> FloatArray | None:
        """(n_selected,) the popularity by which this peer centres its history; None before the items are agreed on."""
        outcome = self.results.get(POPULARITY)
        if outcome is None or self.selected is None:
            return None
        return expected_popularity(
            popularity_of(outcome.mean), self.selected, outcome.noise_std * math.sqrt(POPULARITY_ITEMS)
        )

    def _pairs_of_own(self) -> FloatArray:
        expected = self.expected
        assert self.selected is not None
        assert expected is not None
        return self._pair_statistic(self.selected, expected)

    # --- the end ---

    def _is_void(self, number: int, mean: FloatArray, planned_std: float) -> bool:
        """Whether there is far more noise in a copy than planned."""
        found = popularity_noise(mean) if number == POPULARITY else pair_noise(mean, self._agreement.count)
        return found > VOID_ABOVE * planned_std

    def _finish(self, number: int, one: SumPeer, now: float) -> None:
        """A sum is over: keep what it came to, if this peer's copy is one."""
        if number == POPULARITY:
            self._participants = frozenset(peer for peer in one.roster if not one.is_dead(peer))
        outcome, is_good = None, False
        if one.value.weight > LEAST_WEIGHT and not one.declared_dead:
            mean, std = one.value.mean(), one.value.planned_std
            outcome = SumOutcome(mean, len(one.contributors), std, one.is_void, one.mixed_again)
            # A copy with too much noise is kept for want of a neighbour's.
            is_good = one.value.is_settled and not one.is_void and (number == POPULARITY or not self._agree())
        del self._sums[number], self._watches[number]
        self._copies.ended(number, outcome, now, is_good=is_good)
