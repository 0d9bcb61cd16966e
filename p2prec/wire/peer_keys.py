"""Peers as their public keys, on the wire, and as ids, everywhere else. The same ones come again and again, both ways."""

from __future__ import annotations

from typing import Any

from p2prec.identity import PUBLIC_KEY_BYTES, peer_id_of, public_bytes_of
from p2prec.types import PeerId
from p2prec.wire.fields import binary

_REMEMBERED = 1 << 16
_keys: dict[PeerId, bytes] = {}
_peers: dict[bytes, PeerId] = {}


def key_of(peer: PeerId) -> bytes:
    """The public key in a peer id. Raises ValueError if it is none."""
    return _keys.get(peer) or _remember(peer, public_bytes_of(peer))[1]


def peer_of(key: Any) -> PeerId:
    """The peer with this public key, from outside. Raises RemoteMisbehaviour ("malformed")."""
    return peer_of_key(binary(key, "peer", PUBLIC_KEY_BYTES))


def peer_of_key(key: bytes) -> PeerId:
    """The peer with this public key of PUBLIC_KEY_BYTES."""
    return _peers.get(key) or _remember(peer_id_of(key), key)[0]


def _remember(peer: PeerId, key: bytes) -> tuple[PeerId, bytes]:
    if len(_keys) >= _REMEMBERED:
        _keys.clear()
        _peers.clear()
    _keys[peer], _peers[key] = key, peer
    return peer, key
