"""Whatever is announced on the network, reading it neither raises nor lets through what could not have been announced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2prec.discovery.addresses import best_address
from p2prec.discovery.base import Announcement
from p2prec.discovery.record import decode, encode_txt, service_label
from p2prec.identity import peer_id_of
from p2prec.types import SwarmId

peers = st.builds(peer_id_of, st.binary(min_size=32, max_size=32))
announcements = st.builds(
    Announcement,
    swarm_id=st.binary(min_size=32, max_size=32).map(SwarmId),
    peer_id=peers,
    instance=st.binary(min_size=16, max_size=16),
    port=st.integers(1, 65535),
)
addresses = st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=20)), max_size=20)


def as_received(announcement: Announcement) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in encode_txt(announcement).items()}


@given(announcements)
def test_every_announcement_reads_back(announcement: Announcement) -> None:
    label = service_label(announcement.peer_id, announcement.instance)
    record = decode(label, announcement.port, as_received(announcement), ["192.0.2.1"])
    assert record is not None
    assert (record.peer_id, record.instance, record.port) == (
        announcement.peer_id,
        announcement.instance,
        announcement.port,
    )
    assert record.swarm == announcement.swarm_id.hex()[:16]


@given(
    st.text(max_size=70),
    st.one_of(st.none(), st.integers(-1, 70_000)),
    st.dictionaries(
        st.sampled_from([b"v", b"s", b"p", b"i", b"x"]), st.one_of(st.none(), st.binary(max_size=80)), max_size=5
    ),
    addresses,
)
def test_noise_is_ignored(label: str, port: int | None, txt: dict[bytes, bytes | None], candidates: list[str]) -> None:
    assert decode(label, port, txt, candidates) is None


@given(announcements, st.sampled_from([b"v", b"s", b"p", b"i"]), st.binary(max_size=80), addresses)
def test_an_altered_field_is_ignored_or_still_consistent(
    announcement: Announcement, key: bytes, value: bytes, candidates: list[str]
) -> None:
    label = service_label(announcement.peer_id, announcement.instance)
    record = decode(label, announcement.port, as_received(announcement) | {key: value}, candidates)
    if record is not None:
        assert service_label(record.peer_id, record.instance).lower() == label.lower()
        assert best_address(record.addresses, ()) in candidates
