"""Signatures that are not verified twice, and those that are."""

from __future__ import annotations

import pytest

from p2prec.identity import SIGNATURE_BYTES, Identity, Verifier
from p2prec.wire import signatures as module
from p2prec.wire.signatures import Signatures, StandIns

ALICE, BOB = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is verified from now on."""
    verified: list[bytes] = []

    class Counting(Verifier):
        def is_valid(self, signature: bytes, data: bytes) -> bool:
            verified.append(data)
            return super().is_valid(signature, data)

    monkeypatch.setattr(module, "Verifier", Counting)
    return verified


def test_a_good_one_is_verified_once_and_a_bad_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    verified, signatures = counted(monkeypatch), Signatures()
    good, bad = ALICE.sign(b"this"), BOB.sign(b"this")
    assert signatures.are_valid(ALICE.peer_id, good, b"this")
    assert signatures.are_valid(ALICE.peer_id, good, b"this")
    assert len(verified) == 1
    for _ in range(2):
        assert not signatures.are_valid(ALICE.peer_id, bad, b"this")
        assert not signatures.are_valid(ALICE.peer_id, good, b"that")
    assert len(verified) == 5


def test_as_many_are_remembered_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    verified, signatures = counted(monkeypatch), Signatures()
    monkeypatch.setattr(module, "MAX_GOOD", 2)
    for data in (b"1", b"2", b"3", b"2", b"3", b"1"):
        assert signatures.are_valid(ALICE.peer_id, ALICE.sign(data), data)
    assert verified == [b"1", b"2", b"3", b"1"]


def test_a_stand_in_is_as_long_as_a_signature_and_good_for_one_message_and_key() -> None:
    stand_ins = StandIns(b"key")
    made = stand_ins.sign(b"this")
    assert len(made) == SIGNATURE_BYTES
    assert stand_ins.is_valid(made, b"this")
    assert not stand_ins.is_valid(made, b"that")
    assert not StandIns(b"other").is_valid(made, b"this")
    assert not stand_ins.is_valid(ALICE.sign(b"this"), b"this")
