"""Peers as their public keys, on the wire, and as ids, everywhere else. The same ones come again and again."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from p2prec.identity import PUBLIC_KEY_BYTES, peer_id_of, public_bytes_of
from p2prec.types import PeerId
from p2prec.wire.fields import binary

_REMEMBERED = 1 << 16


@lru_cache(maxsize=_REMEMBERED)
def key_of(peer: PeerId) -> bytes:
    """The public key in a peer id."""
    return public_bytes_of(peer)


def peer_of(key: Any) -> PeerId:
    """The peer with this public key, from outside. Raises RemoteMisbehaviour ("malformed")."""
    return peer_of_key(binary(key, "peer", PUBLIC_KEY_BYTES))


@lru_cache(maxsize=_REMEMBERED)
def peer_of_key(key: bytes) -> PeerId:
    """The peer with this public key of PUBLIC_KEY_BYTES."""
    return peer_id_of(key)
