"""Noise that cancels: what two mask partners add to their contributions with opposite signs.

Who is whose partner is decided by a hash of both ids and of the public randomness of the sum, for each pair by itself: a pair
is one if the hash is below `mean_partners / n_people`. So no number of invented peers can take the place of an honest
partner; they only add masks that the observer knows, on top of those it does not. Both partners agree on a key by X25519,
fresh for every sum, and HKDF binds it to the swarm, the sum and both ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2prec.privacy.stream import KEY_BYTES, NoiseStream
from p2prec.types import FloatArray, PeerId, SwarmId

PUBLIC_KEY_BYTES = 32
_PAIR = b"p2prec mask pair 1"
_KEY = b"p2prec mask key 1"
_SEALING = b"p2prec escrow key 1"
_LETTERS = b"p2prec letter key 1"


def are_partners(
    swarm_id: SwarmId, epoch: int, one: PeerId, other: PeerId, mean_partners: float, n_people: int
) -> bool:
    """Whether two peers mask each other in this sum; the same for both, and for anybody who checks.

    mean_partners: how many partners a peer has on average among `n_people` peers; more peers have more.
    """
    return bool(partners_among(swarm_id, epoch, one, (other,), mean_partners, n_people))


def partners_among(
    swarm_id: SwarmId, epoch: int, one: PeerId, others: Iterable[PeerId], mean_partners: float, n_people: int
) -> list[PeerId]:
    """Those of the others with whom a peer masks in this sum, in their order: `are_partners` of many."""
    label, own = _of_sum(_PAIR, swarm_id, epoch), one.encode()
    below = -(-int(mean_partners * 2**64) // n_people)
    found = []
    for other in others:
        coin = int.from_bytes(hashlib.sha256(label + _pair(own, other.encode())).digest()[:8], "big")
        if coin < below and other != one:
            found.append(other)
    return found


class MaskKey:
    """One peer's secret for one sum. The public half goes to everybody in the roster; a new one for every sum."""

    def __init__(self, secret: X25519PrivateKey | None = None) -> None:
        """secret: a new one, unless the protocol's test vectors are made."""
        self._secret = secret or X25519PrivateKey.generate()
        self.public = self._secret.public_key().public_bytes_raw()
        """PUBLIC_KEY_BYTES bytes."""
        self._secrets: dict[bytes, bytes] = {}
        """By the other's public key: what both have in common, of which several keys are made."""

    def shared(self, public: bytes, swarm_id: SwarmId, epoch: int, own: PeerId, other: PeerId) -> bytes:
        """The key of the mask shared with `other`, KEY_BYTES bytes. Raises ValueError for a public key that is none (a wrong
        length, or a point of low order, which would make the secret known to everybody).
        """
        return self._derived(_KEY, public, swarm_id, epoch, own, other)

    def sealing(self, public: bytes, swarm_id: SwarmId, epoch: int, own: PeerId, other: PeerId) -> bytes:
        """The key for what both tell each other in confidence, KEY_BYTES bytes. It says nothing about the mask's key, nor the
        other way round: that one may have to be put together in public. Raises ValueError as `shared` does.
        """
        return self._derived(_SEALING, public, swarm_id, epoch, own, other)

    def letters(self, public: bytes, swarm_id: SwarmId, epoch: int, own: PeerId, other: PeerId) -> bytes:
        """The key by which both show that what they tell each other is theirs, KEY_BYTES bytes; apart from the others, as
        `sealing` is. Raises ValueError as `shared` does.
        """
        return self._derived(_LETTERS, public, swarm_id, epoch, own, other)

    def _derived(self, label: bytes, public: bytes, swarm_id: SwarmId, epoch: int, own: PeerId, other: PeerId) -> bytes:
        if len(public) != PUBLIC_KEY_BYTES:
            raise ValueError(f"a mask key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
        if public not in self._secrets:
            self._secrets[public] = self._secret.exchange(X25519PublicKey.from_public_bytes(public))
        info = _context(label, swarm_id, epoch, own, other)
        return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._secrets[public])


def mask(key: bytes, own: PeerId, other: PeerId, count: int, std: float) -> FloatArray:
    """What `own` adds for its partner `other`: (count,) float32, N(0, std^2); the other adds the same with the opposite sign."""
    sign = std if own < other else -std
    return (sign * NoiseStream(key).gaussian(count)).astype(np.float32)


def _context(label: bytes, swarm_id: SwarmId, epoch: int, one: PeerId, other: PeerId) -> bytes:
    """An encoding in which no two different inputs look alike: fixed lengths but for the ids, which hold no zero byte."""
    return _of_sum(label, swarm_id, epoch) + _pair(one.encode(), other.encode())


def _of_sum(label: bytes, swarm_id: SwarmId, epoch: int) -> bytes:
    return label + swarm_id + epoch.to_bytes(8, "big")


def _pair(one: bytes, other: bytes) -> bytes:
    return one + b"\0" + other if one < other else other + b"\0" + one
