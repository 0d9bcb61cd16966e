"""What a device learns together with others, as the daemon sees it: how far it is, how good, and saved.

There are two kinds: the tables of an ordinary swarm, here, and what two private sums come to (`p2prec.daemon.promise`).
"""

from __future__ import annotations

from typing import Protocol

from p2prec.daemon.snapshot import to_stored
from p2prec.peer.learner import Learner
from p2prec.peer.peer import Peer
from p2prec.peer.quality import Quality, measure
from p2prec.storage.store import Store
from p2prec.types import FloatArray, IndexArray, SwarmId


class SharedModel(Protocol):
    """Either kind."""

    @property
    def version(self) -> int:
        """Grows with whatever changes recommendations."""
        ...

    @property
    def is_there(self) -> bool:
        """Whether anything was learned from others yet."""
        ...

    def quality(self, test_items: IndexArray, alone: FloatArray) -> Quality:
        """Of this device's own recommendations, once it `is_there`.

        test_items: (k,) held out, k >= 1; alone: (n_items,) scores of a model trained on the own interactions only.
        """
        ...

    def save(self) -> None:
        """Durable on return, unless nothing has changed. Raises StoreError."""
        ...


class GossipModel:
    """The tables that an ordinary swarm learns by gossip."""

    def __init__(self, learner: Learner, peer: Peer, store: Store, swarm_id: SwarmId) -> None:
        self._learner, self._peer, self._store, self._swarm_id = learner, peer, store, swarm_id
        self._saved: tuple[int, int, int] | None = None
        """Rounds, exchanges and age behind the last snapshot: an unchanged model is not written again."""

    @property
    def version(self) -> int:
        return self._peer.rounds

    @property
    def is_there(self) -> bool:
        return self._peer.rounds > 0

    def quality(self, test_items: IndexArray, alone: FloatArray) -> Quality:
        return measure(self._learner, test_items, alone)

    def save(self) -> None:
        behind = (self._peer.rounds, self._peer.exchanges, self._learner.age)
        if behind != self._saved:
            self._store.save_model(to_stored(self._learner.state, self._swarm_id))
            self._saved = behind
