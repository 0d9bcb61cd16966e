"""Sealed boxes: shares of keys that a peer leaves with a mask partner, and its contribution as it leaves it with guardians.

All are ChaCha20-Poly1305 (RFC 8439). Shares are under a key that both partners have from X25519, fresh for the sum
(`p2prec.privacy.masks.MaskKey.sealing`); each of both directions has its nonce and is used once: a box is repeated, never sealed
anew. A contribution is under a key of its own, used once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from p2prec.model.nearest import from_bytes, to_bytes
from p2prec.peer.inheritance import Trace
from p2prec.peer.private_sum import Share, is_acceptable
from p2prec.privacy.escrow import MAX_SHARES
from p2prec.privacy.stream import KEY_BYTES
from p2prec.types import PeerId

MAX_BOX_BYTES = 12_288
"""96 partners with ids of 52 characters and shares of 32 bytes take 8,800."""
_MAX_ID_CHARACTERS = 64
CONTRIBUTION_OVERHEAD_BYTES = 64
"""More than a sealed contribution has beside its scales and levels."""

Shares = dict[PeerId, tuple[int, bytes]]
"""By the other partner of a mask: number and share (`p2prec.privacy.escrow`)."""


def seal(key: bytes, owner: PeerId, holder: PeerId, shares: Mapping[PeerId, tuple[int, bytes]]) -> bytes:
    """The box that `owner` leaves with `holder`, at most MAX_BOX_BYTES for MOST_PARTNERS shares."""
    plain = msgpack.packb([[other, number, share] for other, (number, share) in sorted(shares.items())])
    return ChaCha20Poly1305(key).encrypt(_nonce(owner, holder), plain, _parties(owner, holder))


def unseal(key: bytes, owner: PeerId, holder: PeerId, box: bytes, most: int) -> Shares:
    """What is in a box that `owner` left with `holder`. Raises ValueError for one that another key or another owner sealed, with
    more than `most` shares, or with shares that are none.
    """
    if len(box) > MAX_BOX_BYTES:
        raise ValueError("an escrow box is too large")
    try:
        plain = ChaCha20Poly1305(key).decrypt(_nonce(owner, holder), box, _parties(owner, holder))
        entries = msgpack.unpackb(plain, use_list=False, max_array_len=max(3, most), max_map_len=0, max_ext_len=0)
    except (InvalidTag, ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("an escrow box that cannot be opened") from error
    if not isinstance(entries, tuple) or not all(_is_entry(entry) for entry in entries):
        raise ValueError("an escrow box with something else inside")
    return {PeerId(other): (number, share) for other, number, share in entries}


def _is_entry(entry: object) -> bool:
    match entry:
        case (str() as other, int() as number, bytes() as share):
            return len(other) <= _MAX_ID_CHARACTERS and 1 <= number <= MAX_SHARES and len(share) == KEY_BYTES
    return False


def _nonce(owner: PeerId, holder: PeerId) -> bytes:
    return bytes(11) + (b"\0" if owner < holder else b"\1")


def _parties(owner: PeerId, holder: PeerId) -> bytes:
    return owner.encode() + b"\0" + holder.encode()


def seal_contribution(key: bytes, owner: PeerId, share: Share) -> bytes:
    """A contribution that nobody has seen yet, for its guardians. key: KEY_BYTES random bytes, used for nothing else."""
    plain = msgpack.packb([*to_bytes(share.value), share.trace.changes])
    return ChaCha20Poly1305(key).encrypt(bytes(12), plain, owner.encode())


def unseal_contribution(key: bytes, owner: PeerId, box: bytes, count: int) -> Share:
    """The contribution of `count` values in a box. Raises ValueError for another key or owner, or one that is none."""
    try:
        plain = ChaCha20Poly1305(key).decrypt(bytes(12), box, owner.encode())
        scales, levels, changes = msgpack.unpackb(plain, use_list=False)
        share = Share(from_bytes(scales, levels, count), 1.0, Trace(int(changes), None, 0))
    except (InvalidTag, ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError("a contribution that cannot be opened") from error
    if not is_acceptable(share, count):
        raise ValueError("a box with something else than a contribution")
    return share
