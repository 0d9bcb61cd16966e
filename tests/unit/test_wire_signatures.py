"""Signatures that are not verified twice, and those that are."""

from __future__ import annotations

import pytest

from p2prec.identity import Identity, Verifier
from p2prec.wire import signatures as module
from p2prec.wire.signatures import Signatures

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


def test_what_was_made_here_is_known_and_nothing_else() -> None:
    signatures, made = Signatures(), ALICE.sign(b"this")
    assert not signatures.are_known(made, b"this")
    signatures.made(made, b"this")
    assert signatures.are_known(made, b"this")
    assert not signatures.are_known(made, b"that")
    assert not signatures.are_known(BOB.sign(b"this"), b"this")


def test_as_many_are_remembered_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GOOD", 2)
    signatures = Signatures()
    for data in (b"1", b"2", b"3"):
        signatures.made(ALICE.sign(data), data)
    assert [signatures.are_known(ALICE.sign(data), data) for data in (b"1", b"2", b"3")] == [False, True, True]
