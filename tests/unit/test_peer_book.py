"""The address book at its bounds: who is forgotten, who is dialled, and when."""

from __future__ import annotations

import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.peer.book import MAX_ADDRESSES_PER_PEER, AddressBook
from p2prec.types import PeerId

SETTINGS = PeerSettings(max_known_peers=8, dial_retry_s=5.0, dial_retry_max_s=60.0)
ME = PeerId("me")


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(ME, SETTINGS)


def fill(book: AddressBook, n: int, *, prefix: str = "p", source: str = "mdns", now: float = 0.0) -> list[PeerId]:
    peers = [PeerId(f"{prefix}{i}") for i in range(n)]
    for i, peer in enumerate(peers):
        book.sight(peer, "10.0.0.1", 4000 + i, source, now + i)
    return peers


def chosen(book: AddressBook, now: float, count: int = 99, exclude: tuple[PeerId, ...] = ()) -> set[PeerId]:
    return {known.peer_id for known in book.choose(now, exclude, count, np.random.default_rng(0))}


def test_a_peer_is_news_once(book: AddressBook) -> None:
    assert book.sight(PeerId("a"), "10.0.0.1", 1, "mdns", 0.0)
    assert not book.sight(PeerId("a"), "10.0.0.1", 1, "mdns", 1.0)
    assert book.peers_seen == 1


@pytest.mark.parametrize(("port", "kept"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_ports_that_nobody_can_listen_on_are_not_noted(book: AddressBook, port: int, kept: bool) -> None:
    assert book.sight(PeerId("a"), "10.0.0.1", port, "mdns", 0.0) is kept
    assert (PeerId("a") in book.peers) is kept


def test_the_own_identity_is_never_noted(book: AddressBook) -> None:
    assert not book.sight(ME, "10.0.0.1", 1, "mdns", 0.0)
    assert not book.peers


def test_a_full_book_forgets_the_longest_unseen(book: AddressBook) -> None:
    peers = fill(book, 8)
    assert set(book.peers) == set(peers)
    book.sight(peers[0], "10.0.0.1", 4000, "mdns", 50.0)
    book.sight(PeerId("new"), "10.0.0.1", 1, "mdns", 51.0)
    assert set(book.peers) == {*peers, PeerId("new")} - {peers[1]}
    assert book.peers_seen == 9


def test_hearsay_is_forgotten_before_peers_that_were_met(book: AddressBook) -> None:
    real = fill(book, 4)
    invented = fill(book, 500, prefix="x", source="exchange", now=100.0)
    assert set(real) <= set(book.peers)
    assert len(book.peers) == SETTINGS.max_known_peers
    assert invented[-1] in book.peers


def test_bans_survive_a_flood_of_invented_peers(book: AddressBook) -> None:
    book.ban(PeerId("villain"), until=600.0, now=0.0)
    fill(book, 500, prefix="x", now=1.0)
    assert book.is_banned(PeerId("villain"), 599.9)
    assert not book.is_banned(PeerId("villain"), 600.0)


def test_bans_hold_at_most_half_of_the_book(book: AddressBook) -> None:
    """Identities cost an attacker nothing: making many to be banned must not push everybody else out."""
    real = fill(book, 4)
    for i in range(100):
        book.ban(PeerId(f"x{i}"), until=600.0 + i, now=10.0)
    assert set(real[1:]) <= set(book.peers)
    assert sum(known.banned_until > 10.0 for known in book.peers.values()) <= SETTINGS.max_known_peers // 2 + 1
    assert book.is_banned(PeerId("x99"), 10.0)


def test_a_ban_that_is_over_protects_nobody_from_being_forgotten(book: AddressBook) -> None:
    for i in range(4):
        book.ban(PeerId(f"x{i}"), until=20.0, now=10.0)
    real = fill(book, 8, now=30.0)
    assert set(book.peers) == set(real)


def test_a_peer_keeps_few_addresses_and_hearsay_displaces_none(book: AddressBook) -> None:
    a = PeerId("a")
    for i in range(MAX_ADDRESSES_PER_PEER):
        book.sight(a, f"10.0.0.{i}", 1, "mdns", float(i))
    before = list(book.peers[a].addresses)
    assert before[0] == (f"10.0.0.{MAX_ADDRESSES_PER_PEER - 1}", 1)
    book.sight(a, "6.6.6.6", 1, "exchange", 9.0)
    assert book.peers[a].addresses == before
    assert book.peers[a].last_seen == MAX_ADDRESSES_PER_PEER - 1
    book.sight(a, "10.0.0.9", 1, "mdns", 9.0)
    assert book.peers[a].addresses == [("10.0.0.9", 1), *before[:-1]]


def test_failed_dials_back_off_to_a_limit_and_try_every_address(book: AddressBook) -> None:
    a = PeerId("a")
    book.sight(a, "10.0.0.1", 1, "mdns", 0.0)
    book.sight(a, "10.0.0.2", 2, "mdns", 0.0)
    waits = []
    now = 0.0
    for _ in range(6):
        host, port = book.peers[a].addresses[0]
        waits.append(book.dial_failed(host, port, a, now))
        assert chosen(book, now + waits[-1] - 0.01) == set()
        now += waits[-1]
        assert chosen(book, now) == {a}
        assert book.peers[a].addresses[0] != (host, port)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_new_address_or_a_meeting_ends_the_back_off(book: AddressBook) -> None:
    a = PeerId("a")
    book.sight(a, "10.0.0.1", 1, "mdns", 0.0)
    book.dial_failed("10.0.0.1", 1, a, 0.0)
    book.sight(a, "10.0.0.1", 1, "mdns", 1.0)
    assert chosen(book, 1.0) == set()  # the same address again is no reason to hope
    book.sight(a, "10.0.0.7", 1, "mdns", 1.0)
    assert chosen(book, 1.0) == {a}
    book.dial_failed("10.0.0.7", 1, a, 1.0)
    book.met(a, "10.0.0.7", 1, 2.0)
    assert chosen(book, 2.0) == {a}


def test_the_many_dead_do_not_crowd_out_the_living(book: AddressBook) -> None:
    dead = fill(book, 6)
    for i, peer in enumerate(dead):
        book.dial_failed("10.0.0.1", 4000 + i, peer, 0.0)
    living = fill(book, 2, prefix="living", now=100.0)
    assert chosen(book, 200.0, count=2) == set(living)
    assert chosen(book, 200.0, count=2, exclude=(living[0],)) > {living[1]}


def test_who_is_banned_or_held_off_is_not_dialled(book: AddressBook) -> None:
    a, b = fill(book, 2)
    book.ban(a, until=100.0, now=5.0)
    book.hold_off(b, until=50.0)
    book.hold_off(b, until=20.0)  # a shorter wait does not shorten it
    assert chosen(book, 49.9) == set()
    assert chosen(book, 50.0) == {b}
    assert chosen(book, 100.0) == {a, b}


def test_static_addresses_are_noted_once_and_back_off_alone(book: AddressBook) -> None:
    book.add_static("example.net", 4001)
    book.add_static("example.net", 4001)
    (static,) = book.static
    assert [book.dial_failed("example.net", 4001, None, 10.0) for _ in range(3)] == [5.0, 10.0, 20.0]
    assert static.dial_after == 30.0
    book.met(PeerId("a"), "example.net", 4001, 31.0)
    assert (static.peer_id, static.failures, static.dial_after) == (PeerId("a"), 0, 0.0)


def missing(book: AddressBook, now: float, count: int = 99, exclude: tuple[PeerId, ...] = ()) -> list[PeerId]:
    return [known.peer_id for known in book.missing(now, exclude, count)]


def test_neighbours_whose_links_broke_are_missed_until_they_are_met(book: AddressBook) -> None:
    one, two, three, _ = fill(book, 4)
    for peer in (one, two, three, one):
        book.miss(peer)
    book.miss(PeerId("never heard of"))
    assert missing(book, 10.0) == [one, three, two]
    assert missing(book, 10.0, count=1) == [one]
    assert missing(book, 10.0, count=-1) == []
    assert missing(book, 10.0, exclude=(three,)) == [one, two]
    book.met(three, "10.0.0.1", 4002, 11.0)
    assert missing(book, 12.0) == [one, two]


def test_the_missed_are_dialled_with_patience_until_one_of_them_is_met(book: AddressBook) -> None:
    one, two, three = fill(book, 3)
    for peer in (one, two):
        book.miss(peer)
        for _ in range(3):
            book.dial_failed("10.0.0.1", book.peers[peer].addresses[0][1], peer, 10.0)
    assert missing(book, 29.0) == []
    book.met(three, "10.0.0.1", 4002, 29.0)  # it was not missed: nothing new
    assert missing(book, 29.0) == []
    book.met(one, "10.0.0.1", 4000, 29.0)
    assert missing(book, 29.0) == [two]


def test_no_more_are_missed_than_a_view_has_places() -> None:
    book = AddressBook(ME, PeerSettings(max_neighbours=4))
    peers = fill(book, 6)
    for peer in peers:
        book.miss(peer)
    assert missing(book, 10.0) == peers[:1:-1]


def test_whoever_is_forgotten_is_not_missed(book: AddressBook) -> None:
    first, *_ = fill(book, 8)
    book.miss(first)
    book.sight(PeerId("new"), "10.0.0.1", 1, "mdns", 51.0)
    assert first not in book.peers
    assert missing(book, 60.0) == []
    book.met(PeerId("new"), "10.0.0.1", 1, 61.0)


def test_the_banned_are_missed_in_silence(book: AddressBook) -> None:
    (one,) = fill(book, 1)
    book.miss(one)
    book.ban(one, 100.0, 10.0)
    assert missing(book, 99.0) == []
    assert missing(book, 101.0) == [one]
