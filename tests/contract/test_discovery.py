"""Discovery over real multicast on the loopback interface: peers of one process and of others, swarms apart, goodbyes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface

import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from p2prec.discovery import mdns, responder
from p2prec.discovery.base import Announcement, Sighting, Trouble
from p2prec.discovery.mdns import MdnsDiscovery
from p2prec.discovery.probe import hears_itself
from p2prec.discovery.record import SERVICE_TYPE, service_label
from p2prec.types import PeerId, SwarmId

DEADLINE_S = 20.0
# Drawn anew: two runs of these tests on one machine must not meet.
SWARM = SwarmId(os.urandom(32))
OTHER_SWARM = SwarmId(os.urandom(32))


def _multicast_on_loopback() -> bool:
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind(("", 0))
            loopback = socket.inet_aton("127.0.0.1")
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + loopback)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
            receiver.settimeout(2)
            sender.sendto(b"probe", ("224.0.0.251", receiver.getsockname()[1]))
            return receiver.recv(16) == b"probe"
    except OSError:
        return False


pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not _multicast_on_loopback(), reason="multicast does not work on this machine's loopback"),
]


def announcement(number: int, *, swarm: SwarmId = SWARM, start: int = 0, port: int | None = None) -> Announcement:
    """Peer `number` in its `start`-th life."""
    peer_id = PeerId("12D3KooW" + "1" * 40 + "".join("23456789AB"[int(digit)] for digit in f"{number:04}"))
    instance = bytes([start]) * 12 + number.to_bytes(4, "big")
    return Announcement(swarm, peer_id, instance[::-1], port or 4000 + number, "127.0.0.1")


class Ear:
    """Records what one peer is told, and waits for it with a deadline."""

    def __init__(self) -> None:
        self.sightings: list[Sighting] = []
        self.gone: list[Sighting] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_sighting(self, sighting: Sighting) -> None:
        self.sightings.append(sighting)
        self._wake()

    def on_gone(self, sighting: Sighting) -> None:
        self.gone.append(sighting)
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.ensure_future(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)

    def ports(self) -> set[int]:
        return {sighting.port for sighting in self.sightings}


@asynccontextmanager
async def discovery(**options: object) -> AsyncIterator[MdnsDiscovery]:
    opened = MdnsDiscovery(interfaces=["127.0.0.1"], **options)  # type: ignore[arg-type]
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()


def announce(where: MdnsDiscovery, announcements: Iterable[Announcement]) -> list[Ear]:
    ears = []
    for one in announcements:
        ears.append(Ear())
        where.announce(one, ears[-1].on_sighting, ears[-1].on_gone)
    return ears


def test_peers_of_one_process_and_of_another_meet() -> None:
    async def scenario() -> None:
        async with discovery() as first, discovery() as second:
            ears = announce(first, [announcement(1), announcement(2)]) + announce(second, [announcement(3)])
            for own, ear in zip((4001, 4002, 4003), ears, strict=True):
                await ear.until(lambda ear=ear, own=own: ear.ports() >= {4001, 4002, 4003} - {own})
                assert own not in ear.ports()
            sighting = ears[2].sightings[0]
            assert sighting.host == "127.0.0.1"
            assert sighting in [
                Sighting(one.peer_id, one.instance, "127.0.0.1", one.port) for one in (announcement(1), announcement(2))
            ]

    asyncio.run(scenario())


def test_swarms_do_not_mix() -> None:
    async def scenario() -> None:
        async with discovery() as where:
            ears = announce(where, [announcement(1), announcement(2, swarm=OTHER_SWARM), announcement(3)])
            await ears[0].until(lambda: 4003 in ears[0].ports())
            await ears[2].until(lambda: 4001 in ears[2].ports())
            # What is announced last is known to have been heard; the other swarm's record came before it.
            assert [ear.ports() for ear in ears] == [{4003}, set(), {4001}]

    asyncio.run(scenario())


def test_a_late_comer_is_told_at_once_what_is_known() -> None:
    async def scenario() -> None:
        async with discovery() as where:
            [first, second] = announce(where, [announcement(1), announcement(2)])
            await first.until(lambda: bool(first.sightings))
            await second.until(lambda: bool(second.sightings))
            [late] = announce(where, [announcement(3)])
            assert late.ports() == {4001, 4002}

    asyncio.run(scenario())


def test_goodbyes_are_told_for_one_peer_and_at_close() -> None:
    async def scenario() -> None:
        async with discovery() as first:
            [ear] = announce(first, [announcement(1)])
            async with discovery() as second:
                announce(second, [announcement(2), announcement(3)])
                await ear.until(lambda: ear.ports() >= {4002, 4003})
                await second.withdraw(announcement(2))
                await ear.until(lambda: [gone.port for gone in ear.gone] == [4002])
            await ear.until(lambda: [gone.port for gone in ear.gone] == [4002, 4003])

    asyncio.run(scenario())


def test_a_copied_identity_is_reported_to_itself() -> None:
    async def scenario() -> None:
        async with discovery() as first, discovery() as second:
            [ear] = announce(first, [announcement(1, start=1)])
            announce(second, [announcement(1, start=2, port=4999)])
            await ear.until(lambda: bool(ear.sightings))
            assert ear.sightings[0].peer_id == announcement(1).peer_id
            assert ear.sightings[0].instance == announcement(1, start=2).instance

    asyncio.run(scenario())


def test_close_is_within_its_deadline_for_many_peers_and_idempotent() -> None:
    async def scenario() -> None:
        opened = MdnsDiscovery(interfaces=["127.0.0.1"])
        await opened.start()
        ears = announce(opened, [announcement(number) for number in range(25)])
        await ears[-1].until(lambda: len(ears[-1].ports()) == 24)
        async with asyncio.timeout(3.0):
            await opened.close(deadline_s=1.0)
            await opened.close(deadline_s=1.0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("n_others", "expected"),
    [
        (0, [True, False, False, False]),
        (1, [True, False]),
        (16, [True, False]),
        (17, [False]),
        (63, [False]),
        (64, [True]),
    ],
)
def test_who_knows_enough_does_not_ask(n_others: int, expected: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question is for few, the next two are for those who know nobody at all, later ones for everybody. Answers come
    to the asker alone at first, and where the known ones do not fit the question.
    """
    questions: list[bool] = []
    monkeypatch.setattr(responder.Responder, "_known_pointers", lambda _: [None] * (1 + n_others))
    monkeypatch.setattr(responder.Responder, "_ask", lambda _, known, *, to_us_alone: questions.append(to_us_alone))

    async def scenario() -> None:
        ended = asyncio.Event()

        def delays(_: object) -> Iterator[float]:
            yield from (0.0, 0.0, 0.0, 0.0)
            ended.set()
            yield 3600.0

        monkeypatch.setattr(responder, "question_delays", delays)
        async with discovery() as where:
            announce(where, [announcement(1)])
            await asyncio.wait_for(ended.wait(), DEADLINE_S)
        assert questions == expected

    asyncio.run(scenario())


def test_known_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "MAX_KNOWN", 3)

    async def scenario() -> None:
        async with discovery() as where:
            [ear] = announce(where, [announcement(1)])
            announce(where, [announcement(number) for number in range(2, 7)])
            await ear.until(lambda: ear.ports() >= {4002, 4003, 4004, 4005, 4006})
            assert len(where._known) == 3

    asyncio.run(scenario())


def test_foreign_and_false_records_are_ignored() -> None:
    async def scenario() -> None:
        true = announcement(2)
        label = service_label(true.peer_id, true.instance)
        false = [
            ServiceInfo(
                SERVICE_TYPE, f"printer.{SERVICE_TYPE}", port=80, server="printer.local.", properties={"v": "1"}
            ),
            ServiceInfo(
                SERVICE_TYPE, f"{label}.{SERVICE_TYPE}", port=80, server=f"{label}.local.", properties={"p": "x" * 200}
            ),
        ]
        stranger = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            async with discovery() as where:
                [ear] = announce(where, [announcement(1)])
                for info in false:
                    info.addresses = [socket.inet_aton("127.0.0.1")]
                    await stranger.async_register_service(info, cooperating_responders=True)
                announce(where, [announcement(3)])
                await ear.until(lambda: bool(ear.sightings))
                assert ear.ports() == {4003}
        finally:
            await stranger.async_close()

    asyncio.run(scenario())


def test_no_interface_is_told_and_mended_without_a_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    network: list[IPv4Interface] = []
    monkeypatch.setattr(mdns, "local_interfaces", lambda: tuple(network))
    monkeypatch.setattr(mdns, "RETRY_FIRST_S", 0.02)

    async def scenario() -> None:
        told: asyncio.Queue[Trouble | None] = asyncio.Queue()
        async with discovery(on_trouble=told.put_nowait) as where:
            [ear, _] = announce(where, [announcement(1), announcement(2)])
            trouble = await asyncio.wait_for(told.get(), DEADLINE_S)
            assert trouble is not None
            assert "no network interface" in trouble.message
            assert trouble.remedy
            network.append(IPv4Interface("127.0.0.1/8"))
            await ear.until(lambda: ear.ports() == {4002})

    asyncio.run(scenario())


def test_a_changed_address_is_announced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine moves from 127.0.0.1 to 127.0.0.2; a peer that listens everywhere must be found at the new address."""
    network = [IPv4Interface("127.0.0.1/8")]
    monkeypatch.setattr(mdns, "local_interfaces", lambda: tuple(network))

    async def scenario() -> None:
        moving = MdnsDiscovery(address_poll_s=0.05)
        await moving.start()
        try:
            async with discovery() as still:
                [ear] = announce(still, [announcement(1)])
                everywhere = announcement(2)
                announce(
                    moving,
                    [Announcement(SWARM, everywhere.peer_id, everywhere.instance, everywhere.port, "0.0.0.0")],
                )
                await ear.until(lambda: [sighting.host for sighting in ear.sightings] == ["127.0.0.1"])
                network[0] = IPv4Interface("127.0.0.2/8")
                await ear.until(lambda: ear.sightings[-1].host == "127.0.0.2")
                assert not ear.gone
        finally:
            await moving.close()

    asyncio.run(scenario())


def test_an_unforeseen_error_is_told_and_discovery_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([RuntimeError("unforeseen")])

    def local_interfaces() -> tuple[IPv4Interface, ...]:
        for error in answers:
            raise error
        return (IPv4Interface("127.0.0.1/8"),)

    monkeypatch.setattr(mdns, "local_interfaces", local_interfaces)
    monkeypatch.setattr(mdns, "RETRY_FIRST_S", 0.02)

    async def scenario() -> None:
        told: asyncio.Queue[Trouble | None] = asyncio.Queue()
        async with discovery(on_trouble=told.put_nowait) as where:
            [ear, _] = announce(where, [announcement(1), announcement(2)])
            trouble = await asyncio.wait_for(told.get(), DEADLINE_S)
            assert trouble is not None
            assert "unforeseen" in trouble.message
            await ear.until(lambda: ear.ports() == {4002})

    asyncio.run(scenario())


def test_a_callback_that_raises_does_not_deafen_the_others() -> None:
    async def scenario() -> None:
        def fail(_: Sighting) -> None:
            raise RuntimeError("the callback is broken")

        async with discovery() as where:
            where.announce(announcement(1), fail, fail)
            [ear] = announce(where, [announcement(2)])
            await ear.until(lambda: 4001 in ear.ports())
            announce(where, [announcement(3)])
            await ear.until(lambda: 4003 in ear.ports())

    asyncio.run(scenario())


def test_a_port_that_cannot_be_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(responder, "AsyncZeroconf", refuse)

    async def scenario() -> None:
        told: asyncio.Queue[Trouble | None] = asyncio.Queue()
        async with discovery(on_trouble=told.put_nowait):
            trouble = await asyncio.wait_for(told.get(), DEADLINE_S)
            assert trouble is not None
            assert "Address already in use" in trouble.message
            assert "--peer" in trouble.remedy

    asyncio.run(scenario())


def test_the_doctors_probe_hears_itself_where_multicast_works() -> None:
    assert hears_itself("127.0.0.1", deadline_s=DEADLINE_S)


def test_the_doctors_probe_says_when_an_interface_is_not_there() -> None:
    with pytest.raises(OSError):
        hears_itself("203.0.113.1", deadline_s=0.1)
