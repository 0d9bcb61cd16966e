"""Service records and addresses: what is announced reads back, and nothing else does."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from p2prec.config import TransportKind
from p2prec.discovery.addresses import announced_addresses, best_address, multicast_addresses
from p2prec.discovery.base import Announcement
from p2prec.discovery.record import MAX_ADDRESSES, MAX_TXT_BYTES, decode, encode_txt, service_label
from p2prec.errors import UsageError
from p2prec.types import PeerId, SwarmId

PEER = PeerId("12D3KooW" + "AbcdEfgh" * 5 + "2345")
INSTANCE = bytes(range(16))
SWARM = SwarmId(bytes(range(32)))
LABEL = service_label(PEER, INSTANCE)


def announcement(**changes: object) -> Announcement:
    fields: dict[str, object] = {"swarm_id": SWARM, "peer_id": PEER, "instance": INSTANCE, "port": 4001}
    return Announcement(**(fields | changes))  # type: ignore[arg-type]


def txt(**changes: str) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in (encode_txt(announcement()) | changes).items()}


def test_label_fits_a_dns_label_and_ends_in_the_instance() -> None:
    assert f"{PEER[-16:]}-00010203" == LABEL
    assert len(LABEL) <= 63


def test_an_announcement_reads_back() -> None:
    record = decode(LABEL, 4001, txt(), ["192.0.2.7", "2001:db8::7"])
    assert record is not None
    assert (record.peer_id, record.instance, record.port) == (PEER, INSTANCE, 4001)
    assert record.swarm == SWARM.hex()[:16]
    assert record.addresses == ("192.0.2.7", "2001:db8::7")


@pytest.mark.parametrize("kind", list(TransportKind))
def test_the_transport_reads_back(kind: TransportKind) -> None:
    fields: dict[bytes, bytes | None] = {
        key.encode(): value.encode() for key, value in encode_txt(announcement(transport=kind)).items()
    }
    record = decode(LABEL, 4001, fields, ["192.0.2.7"])
    assert record is not None
    assert record.transport is kind


def test_a_record_without_transport_is_of_tls() -> None:
    old = {key: value for key, value in txt().items() if key != b"t"}
    record = decode(LABEL, 4001, old, ["192.0.2.7"])
    assert record is not None
    assert record.transport is TransportKind.TLS


def test_dns_names_compare_without_case_and_unknown_keys_are_ignored() -> None:
    assert decode(LABEL.lower(), 4001, txt() | {b"later": None}, ["192.0.2.7"]) is not None


@pytest.mark.parametrize(("port", "readable"), [(None, False), (0, False), (1, True), (65535, True), (65536, False)])
def test_ports_are_bounded(port: int | None, readable: bool) -> None:
    assert (decode(LABEL, port, txt(), ["192.0.2.7"]) is not None) is readable


@pytest.mark.parametrize("excess", [0, 1])
def test_texts_are_bounded(excess: int) -> None:
    used = sum(len(key) + len(value or b"") for key, value in txt().items())
    padding = b"x" * (MAX_TXT_BYTES - used - 1 + excess)
    assert (decode(LABEL, 4001, txt() | {b"z": padding}, ["192.0.2.7"]) is None) is bool(excess)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "2"},
        {"v": ""},
        {"s": "0001"},
        {"s": "X" * 16},
        {"p": PEER[:-1]},
        {"p": PEER[:-1] + "0"},
        {"p": PEER + "2"},
        {"p": "12D3KooW" + "B" * 44},
        {"i": "00" * 15},
        {"i": "ff" * 16},
        {"i": "\u00e9" * 32},
        {"t": "quic"},
        {"t": ""},
    ],
)
def test_malformed_or_contradicting_texts_are_ignored(changes: dict[str, str]) -> None:
    assert decode(LABEL, 4001, txt(**changes), ["192.0.2.7"]) is None


def test_a_missing_field_is_ignored() -> None:
    for key in (b"v", b"s", b"p", b"i"):
        fields = txt()
        del fields[key]
        assert decode(LABEL, 4001, fields, ["192.0.2.7"]) is None
        assert decode(LABEL, 4001, fields | {key: None}, ["192.0.2.7"]) is None


@pytest.mark.parametrize("address", ["224.0.0.251", "0.0.0.0", "240.0.0.1", "fe80::1", "example.org", ""])
def test_addresses_that_cannot_be_dialled_are_left_out(address: str) -> None:
    assert decode(LABEL, 4001, txt(), [address]) is None
    record = decode(LABEL, 4001, txt(), [address, "192.0.2.7"])
    assert record is not None
    assert record.addresses == ("192.0.2.7",)


def test_only_so_many_addresses_are_looked_at() -> None:
    record = decode(LABEL, 4001, txt(), [f"192.0.2.{n}" for n in range(1, MAX_ADDRESSES + 2)])
    assert record is not None
    assert len(record.addresses) == MAX_ADDRESSES


@pytest.mark.parametrize(
    "changes", [{"peer_id": "me"}, {"instance": b"short"}, {"port": 0}, {"port": 65536}, {"host": "localhost"}]
)
def test_what_could_not_be_read_back_is_not_announced(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot announce"):
        encode_txt(announcement(**changes))


LOOPBACK = IPv4Interface("127.0.0.1/8")
HOME = IPv4Interface("192.168.1.5/24")
BRIDGE = IPv4Interface("172.17.0.1/16")


def test_loopback_is_spoken_on_only_when_alone_or_asked_for() -> None:
    assert multicast_addresses([LOOPBACK, HOME], None) == ("192.168.1.5",)
    assert multicast_addresses([LOOPBACK], None) == ("127.0.0.1",)
    assert multicast_addresses([], None) == ()
    assert multicast_addresses([LOOPBACK, HOME], ["127.0.0.1"]) == ("127.0.0.1",)
    assert multicast_addresses([LOOPBACK, HOME], ["192.168.1.5", "10.0.0.1"]) == ("192.168.1.5",)
    assert multicast_addresses([HOME], ["127.0.0.1"]) == ()


def test_a_peer_is_announced_where_it_listens() -> None:
    assert announced_addresses("0.0.0.0", ["192.168.1.5", "172.17.0.1"]) == ("192.168.1.5", "172.17.0.1")
    assert announced_addresses("::", ["192.168.1.5"]) == ("192.168.1.5",)
    assert announced_addresses("127.0.0.1", ["192.168.1.5"]) == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        (["172.17.0.1", "192.168.1.6"], "192.168.1.6"),  # everybody's container bridge against the common network
        (["10.8.0.2", "192.168.1.6"], "192.168.1.6"),
        (["2001:db8::6", "10.8.0.2"], "10.8.0.2"),
        (["172.17.0.1", "2001:db8::6"], "2001:db8::6"),
        (["172.17.0.3"], "172.17.0.3"),
        (["192.168.1.5", "172.17.0.1"], "192.168.1.5"),  # a peer on this very machine
        (["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_reachable_address_is_preferred(candidates: list[str], best: str) -> None:
    assert best_address(candidates, [LOOPBACK, HOME, BRIDGE]) == best
