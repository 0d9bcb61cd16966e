"""The pump with real peers on an in-memory network: it carries messages, leaks nothing, and survives bugs and slow neighbours."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from peer_rig import CATALOGUE, MANIFEST

from p2prec.config import DaemonSettings, PeerSettings
from p2prec.daemon.pump import MAX_QUEUED_FRAMES, SHORTEST_WAIT_S, Pump
from p2prec.errors import TransportFailure
from p2prec.identity import Identity
from p2prec.peer.events import Event, NeighbourDown, NeighbourUp
from p2prec.peer.learner import Learner
from p2prec.peer.messages import Ping
from p2prec.peer.peer import Peer
from p2prec.sim.world import MemoryLedger
from p2prec.transport.memory import MemoryNetwork, MemoryTransport
from p2prec.wire.codec import Codec
from p2prec.wire.endpoint import Endpoint

SETTINGS = DaemonSettings(
    stop_deadline_s=0.5, peer=PeerSettings(tick_interval_s=0.01, dial_retry_s=0.05, dial_retry_max_s=0.2)
)
DEADLINE_S = 20.0


@dataclass
class Machine:
    """One peer, its transport and its pump, running."""

    pump: Pump
    peer: Peer
    transport: MemoryTransport
    events: list[Event]
    running: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        self.pump.stop()
        assert self.running is not None
        await asyncio.wait_for(self.running, DEADLINE_S)


@dataclass
class Machines:
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    machines: list[Machine] = field(default_factory=list)

    async def start(self, *, settings: DaemonSettings = SETTINGS, on_event: Any = None) -> Machine:
        seed = bytes([len(self.machines)]) * 32
        identity = Identity.from_seed(seed)
        rng = np.random.default_rng(len(self.machines))
        learner = Learner(MANIFEST.learning, MANIFEST.privacy, CATALOGUE.keys, bytes.fromhex(MANIFEST.seed))
        loop = asyncio.get_running_loop()
        peer = Peer(
            peer_id=identity.peer_id,
            instance=rng.bytes(16),
            manifest=MANIFEST,
            learner=learner,
            ledger=MemoryLedger(),
            settings=settings.peer,
            rng=rng,
            learning_rng=rng,
            random_bytes=rng.bytes,
            now=loop.time(),
        )
        codec = Codec(MANIFEST.learning, len(CATALOGUE.keys))
        endpoint = Endpoint(peer, identity, MANIFEST.swarm_id, codec, rng.bytes)
        host = f"10.0.0.{len(self.machines) + 1}"
        transport = self.network.transport(identity.peer_id, MANIFEST.swarm_id, host=host)
        events: list[Event] = []
        pump = Pump(endpoint, transport, settings, on_event or events.append)
        await transport.listen(host, 0, pump.accept)
        peer.listen_port = transport.listen_port
        machine = Machine(pump, peer, transport, events)
        machine.running = asyncio.create_task(pump.run())
        self.machines.append(machine)
        return machine

    def introduce(self, one: Machine, other: Machine) -> None:
        one.pump.sighted(other.peer.peer_id, None, other.transport.host, other.transport.listen_port, "mdns")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a condition of many objects
            await asyncio.sleep(0.005)


def run(test: Callable[[Machines], Awaitable[None]]) -> None:
    async def whole() -> None:
        machines = Machines()
        await test(machines)
        for machine in machines.machines:
            await machine.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        for machine in machines.machines:
            assert not machine.pump._links
            assert not machine.pump._tasks
            assert not machine.pump._serving

    asyncio.run(whole())


async def acquainted(machines: Machines, **how: Any) -> tuple[Machine, Machine]:
    one, other = await machines.start(**how), await machines.start()
    machines.introduce(one, other)
    await until(lambda: one.peer.neighbours and other.peer.neighbours)
    return one, other


def test_peers_meet_part_and_leave_nothing_behind() -> None:
    async def test(machines: Machines) -> None:
        one, other = await acquainted(machines)
        assert one.pump.link_traffic(one.peer.neighbours[0].number)[1] > 0
        await other.stop()
        await until(lambda: not one.peer.neighbours)
        assert [type(e) for e in one.events if isinstance(e, NeighbourUp | NeighbourDown)] == [
            NeighbourUp,
            NeighbourDown,
        ]
        assert next(e for e in one.events if isinstance(e, NeighbourDown)).reason == "leaving"
        await until(lambda: not one.pump._links)
        bytes_in, bytes_out = one.pump.traffic
        assert bytes_in > 0
        assert bytes_out > 0
        assert one.pump.internal_errors == 0

    run(test)


def test_many_connections_that_come_and_go_leak_nothing() -> None:
    async def test(machines: Machines) -> None:
        one = await machines.start()
        for i in range(50):
            stranger = machines.network.transport(Identity.from_seed(bytes([100 + i]) * 32).peer_id, MANIFEST.swarm_id)
            connection = await stranger.dial(one.transport.host, one.transport.listen_port, deadline_s=1.0)
            await connection.receive(deadline_s=DEADLINE_S)  # its hello
            await connection.close()
        await until(lambda: not one.pump._links)
        assert not one.pump._serving
        assert not one.peer.view.links

    run(test)


def test_a_neighbour_that_does_not_read_is_cut_off() -> None:
    async def test(machines: Machines) -> None:
        machines.network._capacity_bytes = 100
        one = await machines.start()
        stranger = machines.network.transport(Identity.from_seed(b"s" * 32).peer_id, MANIFEST.swarm_id)
        await stranger.dial(one.transport.host, one.transport.listen_port, deadline_s=1.0)
        await until(lambda: one.pump._links)
        (link,) = one.pump._links.values()
        for i in range(MAX_QUEUED_FRAMES + 10):
            one.pump._enqueue(link.number, bytes(1000))
            assert link.queue.qsize() <= MAX_QUEUED_FRAMES + 1, i
        await until(lambda: not one.pump._links)
        await stranger.close()

    run(test)


def test_a_burst_of_questions_is_answered_though_more_of_them_arrive_at_once_than_answers_may_wait() -> None:
    async def test(machines: Machines) -> None:
        one, other = await acquainted(machines)
        number = other.peer.neighbours[0].number
        session, connection = other.pump.endpoint._sessions[number], other.pump._links[number].connection
        received = connection.bytes_in
        pings = [session.encode(Ping(bytes(8))) for _ in range(2 * MAX_QUEUED_FRAMES - 4)]  # no more than its allowance
        for frame in pings:
            await connection.send(frame, deadline_s=DEADLINE_S)
        await until(lambda: connection.bytes_in >= received + sum(map(len, pings)))  # a pong is as long as a ping
        assert one.peer.neighbours
        assert not [event for event in one.events if isinstance(event, NeighbourDown)]

    run(test)


class Bug(Exception):
    """Stands for a programming error."""


def test_a_bug_in_serving_one_neighbour_costs_that_connection_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(machines: Machines) -> None:
        one, other = await acquainted(machines)
        third = await machines.start()
        machines.introduce(third, one)
        await until(lambda: len(one.peer.neighbours) == 2)
        victim = one.peer.view.neighbours[other.peer.peer_id].number
        received = one.peer.received

        def buggy(number: int, message: Any, now: float) -> None:
            if number == victim and isinstance(message, Ping):
                raise Bug("found by a test")
            received(number, message, now)

        monkeypatch.setattr(one.peer, "received", buggy)
        other.peer.neighbourhood._ping(other.peer.neighbours[0], other.pump.now)
        other.pump.carry_out()
        await until(lambda: victim not in one.pump._links)
        assert one.pump.internal_errors == 1
        assert third.peer.peer_id in one.peer.view.neighbours
        await until(lambda: len(one.peer.neighbours) == 2)  # and the connection comes back

    with caplog.at_level(logging.ERROR, "p2prec"):
        run(test)
    assert "found by a test" in caplog.text


def test_a_bug_in_a_tick_is_logged_and_survived(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(machines: Machines) -> None:
        one = await machines.start()
        tick, n_bugs = one.peer.tick, 3

        def buggy(now: float) -> None:
            nonlocal n_bugs
            if n_bugs:
                n_bugs -= 1
                raise Bug("found by a test")
            tick(now)

        monkeypatch.setattr(one.peer, "tick", buggy)
        other = await machines.start()
        machines.introduce(one, other)
        await until(lambda: one.peer.neighbours)
        assert one.pump.internal_errors == 3

    with caplog.at_level(logging.ERROR, "p2prec"):
        run(test)
    assert "found by a test" in caplog.text


def test_a_message_that_cannot_be_sent_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(machines: Machines) -> None:
        one, other = await acquainted(machines)
        (link,) = one.peer.neighbours
        one.peer.neighbourhood.send(link, Ping(b"too long for a token"))
        one.peer.neighbourhood.send(link, Ping(b"12345678"))
        heard: list[Any] = []
        received = other.peer.received
        monkeypatch.setattr(
            other.peer, "received", lambda n, message, now: (heard.append(message), received(n, message, now))
        )
        one.pump.carry_out()
        await until(lambda: heard)
        assert heard[0] == Ping(b"12345678")
        assert one.pump.internal_errors == 1
        assert not other.peer.refusals

    run(test)


def test_a_bug_in_the_event_handler_is_survived() -> None:
    def buggy(event: Event) -> None:
        raise Bug

    async def test(machines: Machines) -> None:
        one, _ = await acquainted(machines, on_event=buggy)
        assert one.pump.internal_errors >= 2
        assert one.peer.neighbours

    run(test)


@pytest.mark.parametrize("error", [TransportFailure("unreachable"), Bug("found by a test")])
def test_every_failed_dial_is_told_to_the_core(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or its address would count as being dialled for ever."""

    async def test(machines: Machines) -> None:
        one, other = await machines.start(), await machines.start()
        dial, failed = one.transport.dial, False

        async def failing(host: str, port: int, *, deadline_s: float) -> Any:
            nonlocal failed
            if not failed:
                failed = True
                raise error
            return await dial(host, port, deadline_s=deadline_s)

        monkeypatch.setattr(one.transport, "dial", failing)
        machines.introduce(one, other)
        await until(lambda: one.peer.neighbours)
        assert failed
        assert not one.peer.neighbourhood._dialling

    run(test)


def test_stopping_does_not_wait_for_a_neighbour_that_does_not_read() -> None:
    async def test(machines: Machines) -> None:
        machines.network._capacity_bytes = 100
        one = await machines.start()
        stranger = machines.network.transport(Identity.from_seed(b"s" * 32).peer_id, MANIFEST.swarm_id)
        await stranger.dial(one.transport.host, one.transport.listen_port, deadline_s=1.0)
        await until(lambda: one.pump._links)
        (link,) = one.pump._links.values()
        one.pump._enqueue(link.number, bytes(1000))
        one.pump._enqueue(link.number, bytes(1000))
        await one.stop()
        await stranger.close()

    run(test)


def test_stop_before_run_and_twice() -> None:
    async def test(machines: Machines) -> None:
        one = await machines.start()
        one.pump.stop()
        one.pump.stop()
        await one.stop()

    run(test)


def test_a_loop_that_stood_still_goes_on() -> None:
    """As after a suspended virtual machine: the clock has jumped by minutes."""

    async def test(machines: Machines) -> None:
        one, other = await acquainted(machines)
        loop = asyncio.get_running_loop()
        now = loop.time
        loop.time = lambda: now() + 600.0  # type: ignore[method-assign]
        rounds = one.peer.rounds
        await until(lambda: one.peer.rounds > rounds and one.peer.neighbours and other.peer.neighbours)

    run(test)


def test_a_deadline_that_is_all_but_reached_does_not_keep_the_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(machines: Machines) -> None:
        one = await machines.start()
        ticks: list[float] = []
        monkeypatch.setattr(one.peer, "tick", ticks.append)
        monkeypatch.setattr(one.peer, "next_deadline", lambda: one.pump.now + 1e-12)
        await until(lambda: len(ticks) >= 20)
        assert ticks[-1] - ticks[0] >= (len(ticks) - 1) * 0.9 * SHORTEST_WAIT_S

    run(test)


def test_what_is_received_may_bring_the_next_tick_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(machines: Machines) -> None:
        settings = DaemonSettings(stop_deadline_s=0.5, peer=PeerSettings(tick_interval_s=1000.0))
        one = await machines.start(settings=settings)
        ticks, due = [0], [math.inf]

        def tick(now: float) -> None:
            ticks[0] += 1
            due[0] = now + 1000.0

        monkeypatch.setattr(one.peer, "tick", tick)
        monkeypatch.setattr(one.peer, "next_deadline", lambda: due[0])
        await until(lambda: ticks[0] == 1)
        one.pump.carry_out()
        await asyncio.sleep(0)
        assert ticks[0] == 1
        due[0] = one.pump.now
        one.pump.carry_out()
        await until(lambda: ticks[0] == 2)

    run(test)
