"""Ed25519 signatures that need not be verified twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from p2prec.identity import Verifier
from p2prec.types import PeerId
from p2prec.wire.peer_keys import key_of

MAX_VERIFIERS = 4096
MAX_GOOD = 1 << 17


class Signatures:
    """Parsed keys, and signatures that were found good a while ago. Peers of one process (a simulation) may share one."""

    def __init__(self) -> None:
        self._verifiers: OrderedDict[PeerId, Verifier] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self.made = self.asked = 0
        """Relayed messages signed, and asked about: in a simulation by all its peers, each of which would have to verify."""

    def are_valid(self, origin: PeerId, signature: bytes, signed: bytes) -> bool:
        """Whether `signature` is the origin's over `signed`."""
        name = _name(signature, signed)
        if name in self._good:
            return True
        if not self._verifier(origin).is_valid(signature, signed):
            return False
        self._note(name)
        return True

    def _note(self, name: bytes) -> None:
        self._good[name] = None
        if len(self._good) > MAX_GOOD:
            self._good.popitem(last=False)

    def _verifier(self, peer: PeerId) -> Verifier:
        verifier = self._verifiers.pop(peer, None) or Verifier(key_of(peer))
        self._verifiers[peer] = verifier
        if len(self._verifiers) > MAX_VERIFIERS:
            self._verifiers.popitem(last=False)
        return verifier


class StandIns:
    """In the place of Ed25519 signatures of frames between peers of one process (a simulation), as long as these: hashes under a
    key that no message reveals, at a hundredth of the cost. What is signed names the sender.
    """

    def __init__(self, key: bytes) -> None:
        """key: 1 to 64 bytes."""
        self._key = key
        self.made = self.asked = 0
        """Frames signed, and verified."""

    def sign(self, signed: bytes) -> bytes:
        """64 bytes."""
        self.made += 1
        return self._signature(signed)

    def is_valid(self, signature: bytes, signed: bytes) -> bool:
        """Whether `sign` has made `signature` for `signed`."""
        self.asked += 1
        return signature == self._signature(signed)

    def _signature(self, signed: bytes) -> bytes:
        return hashlib.blake2b(signed, key=self._key).digest()


def _name(signature: bytes, signed: bytes) -> bytes:
    return hashlib.sha256(signature + signed).digest()
