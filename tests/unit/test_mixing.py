"""What a peer tells of those that speak another transport, and that they are few, whoever announces what."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from p2prec.config import TransportKind
from p2prec.daemon.mixing import FORGET_AFTER_S, MAX_LISTED, OtherTransports
from p2prec.errors import UsageError
from p2prec.identity import Identity
from p2prec.manifest import CatalogueReference, Manifest
from p2prec.transport.choice import make_transport
from p2prec.transport.mismatch import FIRST_WORDS, NO_TLS_HERE, spoken_by
from p2prec.transport.tls import TlsTransport
from p2prec.types import PeerId

TLS, LIBP2P = TransportKind.TLS, TransportKind.LIBP2P


def test_nothing_to_tell_at_first() -> None:
    others = OtherTransports(TLS)
    assert others.warning(0.0) is None
    assert others.listed(0.0) == []


def test_announced_peers_count_until_they_are_gone() -> None:
    others = OtherTransports(TLS)
    for number in range(5):
        others.announced(LIBP2P, PeerId(f"peer-{number}"), f"10.0.0.{number}", 4001, now=float(number))
    warning = others.warning(10 * FORGET_AFTER_S)
    assert warning is not None
    assert warning.startswith(
        "5 peers of this swarm at 10.0.0.4, 10.0.0.3, 10.0.0.2, ... speak libp2p, and this peer tls"
    )
    for number in range(4):
        others.gone(PeerId(f"peer-{number}"))
    assert str(others.warning(0.0)).startswith("1 peer of this swarm at 10.0.0.4 speaks libp2p")
    others.gone(PeerId("peer-4"))
    assert others.warning(0.0) is None


@pytest.mark.parametrize(("age_s", "listed"), [(FORGET_AFTER_S - 1, 1), (FORGET_AFTER_S, 0)])
def test_those_that_were_only_met_are_forgotten_in_time(age_s: float, listed: int) -> None:
    others = OtherTransports(LIBP2P)
    others.met(TLS, "10.0.0.1", 0, now=100.0)
    assert len(others.listed(100.0 + age_s)) == listed
    assert (others.warning(100.0 + age_s) is not None) == bool(listed)


def test_meeting_somebody_again_lists_it_once() -> None:
    others = OtherTransports(LIBP2P)
    for now in (1.0, 2.0):
        others.met(TLS, "10.0.0.1", 4001, now)
    (only,) = others.listed(2.0)
    assert (only.last_seen, only.peer_id, only.kind) == (2.0, None, TLS)
    assert str(others.warning(2.0)).startswith("somebody at 10.0.0.1 speaks tls, and this peer libp2p")


def test_a_flood_of_announcements_is_bounded() -> None:
    others = OtherTransports(TLS)
    for number in range(MAX_LISTED + 10):
        others.announced(LIBP2P, PeerId(str(number)), "10.0.0.1", 1, now=float(number))
    listed = others.listed(0.0)
    assert len(listed) == MAX_LISTED
    assert listed[-1].peer_id == "10"  # the longest unheard were forgotten


@pytest.mark.parametrize(
    ("first_bytes", "spoken"),
    [
        (FIRST_WORDS, LIBP2P),
        (FIRST_WORDS + b"\x07/noise\n", LIBP2P),
        (FIRST_WORDS[:-1], None),
        (b"\x16\x03\x01\x02\x00", TLS),
        (NO_TLS_HERE, TLS),
        (b"\x16", None),
        (b"\x17\x03\x03", None),
        (b"GET / HTTP/1.1", None),
        (b"", None),
    ],
)
def test_what_is_spoken_shows_in_the_first_bytes(first_bytes: bytes, spoken: TransportKind | None) -> None:
    assert spoken_by(first_bytes) is spoken


def test_the_transport_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = CatalogueReference(digest="00" * 32, n_items=1, data="")
    identity, manifest = Identity.generate(), Manifest(name="test", catalogue=catalogue, seed="00" * 32)
    assert isinstance(make_transport(TLS, identity, manifest, None), TlsTransport)

    real = builtins.__import__

    def without_libp2p(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("p2prec.transport.libp2p"):
            raise ModuleNotFoundError("No module named 'libp2p'", name="libp2p")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_libp2p)
    with pytest.raises(UsageError, match="No module named 'libp2p'") as refusal:
        make_transport(LIBP2P, identity, manifest, None)
    assert "p2prec[libp2p]" in refusal.value.remedy
