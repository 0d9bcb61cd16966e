"""Peers as keys, and as ids."""

from __future__ import annotations

import os

import pytest

from p2prec.identity import peer_id_of, public_bytes_of
from p2prec.types import PeerId
from p2prec.wire import peer_keys
from p2prec.wire.peer_keys import key_of, peer_of_key


def test_both_ways_lead_back_however_often_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_keys, "_REMEMBERED", 3)
    for key in [os.urandom(32) for _ in range(10)] * 2:
        peer = peer_id_of(key)
        assert peer_of_key(key) == peer
        assert key_of(peer) == key == public_bytes_of(peer)
        assert len(peer_keys._keys) <= 3
        assert len(peer_keys._peers) <= 3


def test_what_was_made_from_a_key_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(31) + b"\5"
    peer = peer_of_key(key)
    monkeypatch.setattr(peer_keys, "public_bytes_of", lambda peer: pytest.fail("worked out again"))
    assert key_of(peer) == key


def test_what_is_no_peer_has_no_key() -> None:
    with pytest.raises(ValueError, match="peer id"):
        key_of(PeerId("nobody"))
