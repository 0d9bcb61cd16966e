"""Ed25519 signatures that need not be verified twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from p2prec.identity import Verifier
from p2prec.types import PeerId

MAX_VERIFIERS = 4096
MAX_GOOD = 1 << 17


class Signatures:
    """Parsed keys, and signatures that were found good a while ago. Peers of one process (a simulation) may share one."""

    def __init__(self) -> None:
        self._verifiers: OrderedDict[PeerId, Verifier] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def are_known(self, signature: bytes, signed: bytes) -> bool:
        """Whether this very signature was found good before, or was made here."""
        return _name(signature, signed) in self._good

    def are_valid(self, origin: PeerId, signature: bytes, signed: bytes) -> bool:
        """Whether `signature` is the origin's over `signed`."""
        name = _name(signature, signed)
        if name in self._good:
            return True
        if not self._verifier(origin).is_valid(signature, signed):
            return False
        self._note(name)
        return True

    def made(self, signature: bytes, signed: bytes) -> None:
        """A peer of this process has made this signature, with its own key: it is valid."""
        self._note(_name(signature, signed))

    def _note(self, name: bytes) -> None:
        self._good[name] = None
        if len(self._good) > MAX_GOOD:
            self._good.popitem(last=False)

    def _verifier(self, peer: PeerId) -> Verifier:
        verifier = self._verifiers.pop(peer, None) or Verifier(peer)
        self._verifiers[peer] = verifier
        if len(self._verifiers) > MAX_VERIFIERS:
            self._verifiers.popitem(last=False)
        return verifier


def _name(signature: bytes, signed: bytes) -> bytes:
    return hashlib.sha256(signature + signed).digest()
