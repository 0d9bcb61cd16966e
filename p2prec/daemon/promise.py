"""One device's part in a promise: what it gives to both private sums, what it keeps of them, and what it recommends by.

The core (`p2prec.peer.private_peer`) runs the sums, and asks for a statistic or a ledger row when it needs one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from p2prec.daemon.history import History
from p2prec.daemon.log import logger
from p2prec.daemon.sum_ledger import SumLedger
from p2prec.daemon.sum_notes import SumNote, enrol_once, load_notes, save_notes
from p2prec.daemon.sum_results import SumResults, from_stored, to_stored
from p2prec.errors import StoreError
from p2prec.identity import Identity
from p2prec.manifest import Promise
from p2prec.metrics.ranking import ranking_scores
from p2prec.model.pairs import PairModel, pair_scores, pair_statistic, popularity_statistic
from p2prec.peer.private_peer import PrivatePeer, sizes_of
from p2prec.peer.quality import Quality, quality_of
from p2prec.peer.sum_peer import SumPeer
from p2prec.privacy.plan import SUMS
from p2prec.storage.store import Store
from p2prec.types import FloatArray, IndexArray, SwarmId
from p2prec.wire.seal import Seal
from p2prec.wire.sum_codec import SumCodec

STARTED_LATE = "this device was started, or started anew, after the others had begun"


def sum_codec(promise: Promise, n_items: int) -> SumCodec:
    """Of the messages of both sums."""
    return SumCodec(*sizes_of(promise, n_items), n_items)


class PromiseKeeper:
    """Its callbacks run on the event loop, between two messages."""

    def __init__(
        self,
        promise: Promise,
        swarm_id: SwarmId,
        n_items: int,
        store: Store,
        history: History,
        ledger: SumLedger,
        follow_history: Callable[[], None] = lambda: None,
    ) -> None:
        """follow_history: brings `history` up to date; raises StoreError.

        Results are read from the store; what is damaged there is dropped, and said.
        """
        self.promise, self.ledger = promise, ledger
        self.version = 0
        """Grows with every new result."""
        self._swarm_id, self._n_items, self._store, self._history = swarm_id, n_items, store, history
        self.notes = load_notes(store, swarm_id)
        """Of this device's part in each sum, for its owner."""
        self._follow_history = follow_history
        self._unsaved = False
        self._began = time.time()
        self.results = SumResults()
        self.model: PairModel | None = None
        """What to recommend by; None before the first sum."""
        self._private: PrivatePeer | None = None
        self._restore()

    def private_peer(self, identity: Identity, codec: SumCodec, rng: np.random.Generator) -> PrivatePeer:
        """The core's part, as of now. rng: draws neighbours, nothing secret."""
        self._began = time.time()
        self._private = PrivatePeer(
            own_id=identity.peer_id,
            swarm_id=self._swarm_id,
            promise=self.promise,
            n_items=self._n_items,
            popularity_statistic=self.popularity_statistic,
            pair_statistic=self.pair_statistic,
            record=self.record,
            sealer=Seal(identity, self._swarm_id, codec),
            rng=rng,
            random_bytes=os.urandom,
            now=self._began,
            results=self.results.outcomes,
            selected=self.results.selected,
            enrol=self.enrol,
        )
        return self._private

    # --- what the core asks for ---

    def popularity_statistic(self) -> FloatArray:
        """(n_items,) this person's vote, of norm at most 1, from the part of the history that is not held out."""
        return popularity_statistic(self._history.training.items, self._n_items)

    def pair_statistic(self, selected: IndexArray, expected: FloatArray) -> FloatArray:
        """(n_pairs,) of norm at most 1, about the agreed items."""
        return pair_statistic(self._history.training.items, selected, expected, self._n_items)

    def enrol(self, number: int) -> bool:
        """Whether this device may enrol in a sum that has begun: not if an earlier run of it has, or may have."""
        try:
            return self.ledger.is_open(number) and enrol_once(self._store, self._swarm_id, number)
        except StoreError as error:
            logger.error("%s", error)
            return False

    def record(self, number: int) -> None:
        """Write the ledger row of a sum. Raises StoreError, and then nothing may be sent.

        What was forgotten up to now is not contributed: the history is read anew before.
        """
        self._follow_history()
        self.ledger.record_sum(number)
        spent, promised = self.ledger.epsilon_spent, self.promise.epsilon
        logger.info("contributing to sum %d of 2: epsilon %.3g of %g is spent", number, spent, promised)

    # --- what it learns ---

    def follow(self) -> None:
        """Take over what the core knows by now, for the owner and for the next start. Raises StoreError."""
        private, notes = self._private, {}
        if private is None:
            return
        for number in SUMS:
            one = private.sum_peer(number)
            if one is not None:
                notes[number] = _note_of(one)
            elif self._missed(number) and number not in private.results:
                notes[number] = SumNote(sat_out=STARTED_LATE)
        for number, outcome in private.results.items():
            before = notes.get(number, self.notes.get(number, SumNote()))
            notes[number] = msgspec.structs.replace(before, enrolled=outcome.people, is_void=outcome.is_void)
        self.note(notes)
        selected = private.selected if len(private.results) == len(SUMS) else None
        self.learn(SumResults(dict(private.results), selected))

    def learn(self, results: SumResults) -> None:
        """Take over what the core knows by now, and save it. Raises StoreError when that failed: `save` tries again."""
        if results.n_known == self.results.n_known:
            return
        model = results.model()
        self.results, self.model = results, model
        self.version += 1
        self._unsaved = True
        assert model is not None
        what = f"{model.gains.size} directions of taste" if results.n_known > 1 else "what is popular"
        people = results.outcomes[results.n_known].people
        logger.info("sum %d of 2 is done: %s, from %d people", results.n_known, what, people)
        self._write()

    def note(self, notes: Mapping[int, SumNote]) -> None:
        """Remember what the core says of the sums under way. Raises StoreError when it could not be saved."""
        news = {number: note for number, note in notes.items() if self.notes.get(number) != note}
        if news:
            self.notes |= news
            save_notes(self._store, self._swarm_id, self.notes)

    def _missed(self, number: int) -> bool:
        """Whether this device was not there when others enrolled in a sum, and has not contributed in an earlier run."""
        if number in self.ledger.spent_on or self.notes.get(number, SumNote()).sat_out:
            return False
        return self.promise.start_of(number) < min(self._began, time.time())

    @property
    def is_there(self) -> bool:
        """Whether a sum has come to something."""
        return self.model is not None

    def quality(self, test_items: IndexArray, alone: FloatArray) -> Quality:
        """As of `p2prec.daemon.shared_model.SharedModel`."""
        assert self.model is not None
        own = self._history.training.items
        rankings = (pair_scores(self.model, own), self.model.popularity, alone)
        swarm, popularity, by_itself = (ranking_scores(scores, test_items, own) for scores in rankings)
        return quality_of(swarm, popularity, by_itself, len(test_items))

    # --- the store ---

    def save(self) -> None:
        """Write what the core knows by now, if there is something new; durable on return. Raises StoreError."""
        self.follow()
        self._write()

    def _write(self) -> None:
        if self._unsaved:
            self._store.save_model(to_stored(self.results, self._swarm_id))
            self._unsaved = False

    def _restore(self) -> None:
        try:
            self.results = from_stored(self._store.load_model(self._swarm_id), self._n_items)
            self.model = self.results.model()
        except (StoreError, ValueError, np.linalg.LinAlgError) as error:
            logger.warning("what the swarm had learned could not be used (%s): neighbours will be asked", error)
            self.results, self.model = SumResults(), None
            self._store.drop_model()


def _note_of(one: SumPeer) -> SumNote:
    sat_out = one.sat_out or ("the other devices took this one for dead" if one.declared_dead else "")
    return SumNote(len(one.roster), len(one.masked_with), sat_out, one.mixed_again)
