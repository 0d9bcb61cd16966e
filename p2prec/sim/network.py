"""A simulated network: ordered connections with latency that can be cut, and a clock that jumps from event to event."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from p2prec.types import PeerId


class Host(Protocol):
    """One machine's receiving side (`p2prec.sim.world.SimulatedPeer`)."""

    @property
    def peer_id(self) -> PeerId: ...

    def opened(self, link: int, remote_id: PeerId, host: str, *, outbound: bool, port: int) -> None: ...

    def frame_received(self, link: int, frame: bytes) -> None: ...

    def closed(self, link: int, reason: str) -> None: ...

    def dial_failed(self, host: str, port: int, reason: str) -> None: ...


class Clock:
    """Virtual time in seconds. Events at the same time run in the order in which they were scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._order), action))

    def run_until(self, time: float) -> None:
        """Run every event up to and including `time`."""
        while self._events and self._events[0][0] <= time:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = time


@dataclass(slots=True, eq=False)
class _End:
    """One side of a connection."""

    host: str
    link: int
    last_arrival: float = 0.0


@dataclass(slots=True, eq=False)
class _Wire:
    """One connection."""

    ends: tuple[_End, _End]
    up: bool = True


@dataclass
class Network:
    """Hosts by name. Frames arrive in order or the connection breaks: what TCP promises, no more."""

    clock: Clock
    rng: np.random.Generator
    latency_s: tuple[float, float] = (0.001, 0.02)
    """Uniform range of one-way delays."""
    frame_tap: Callable[[str, str, bytes], bytes | None] | None = None
    """Sees (sender host, receiver host, frame) and returns what arrives; None loses the frame and with it the connection."""
    frames: int = 0
    frame_bytes: int = 0
    _hosts: dict[str, Host] = field(default_factory=dict)
    _wires: dict[tuple[str, int], _Wire] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _cut: set[frozenset[str]] = field(default_factory=set)

    def attach(self, name: str, host: Host) -> None:
        self._hosts[name] = host

    def dial(self, source: str, target: str, port: int) -> None:
        def arrive() -> None:
            dialler, accepter = self._hosts.get(source), self._hosts.get(target)
            if dialler is None:
                return
            if accepter is None or frozenset((source, target)) in self._cut:
                dialler.dial_failed(target, port, "unreachable")
                return
            wire = _Wire((_End(source, next(self._numbers)), _End(target, next(self._numbers))))
            for end in wire.ends:
                self._wires[end.host, end.link] = wire
            accepter.opened(wire.ends[1].link, dialler.peer_id, source, outbound=False, port=0)
            dialler.opened(wire.ends[0].link, accepter.peer_id, target, outbound=True, port=port)

        self.clock.at(self.clock.now + 2 * self._delay(), arrive)

    def send(self, source: str, link: int, frame: bytes) -> None:
        wire = self._wires.get((source, link))
        if wire is None or not wire.up:
            return
        far = wire.ends[1] if wire.ends[0].link == link else wire.ends[0]
        self.frames += 1
        self.frame_bytes += len(frame)
        arrived = self.frame_tap(source, far.host, frame) if self.frame_tap else frame
        if arrived is None:
            self._break(wire, "connection reset")
            return
        far.last_arrival = max(far.last_arrival, self.clock.now + self._delay())

        def arrive() -> None:
            host = self._hosts.get(far.host)
            if wire.up and host is not None and (far.host, far.link) in self._wires:
                host.frame_received(far.link, arrived)

        self.clock.at(far.last_arrival, arrive)

    def close(self, source: str, link: int) -> None:
        """Close from one side; the other learns of it after what was sent before."""
        wire = self._wires.pop((source, link), None)
        if wire is None:
            return
        far = wire.ends[1] if wire.ends[0].link == link else wire.ends[0]
        far.last_arrival = max(far.last_arrival, self.clock.now + self._delay())
        self.clock.at(far.last_arrival, lambda: self._end(far, "closed by the other side"))

    def crash(self, name: str) -> None:
        """A host dies; what is in flight to it is lost, what it sent arrives, and its neighbours see a reset."""
        self._hosts.pop(name, None)
        for host, link in [key for key in self._wires if key[0] == name]:
            self.close(host, link)

    def partition(self, one: set[str], other: set[str]) -> None:
        """Cut every path between two groups: connections break at once, new ones fail."""
        for a, b in itertools.product(one, other):
            self._cut.add(frozenset((a, b)))
        for wire in {id(w): w for w in self._wires.values()}.values():
            if frozenset((wire.ends[0].host, wire.ends[1].host)) in self._cut:
                self._break(wire, "connection reset")

    def heal(self) -> None:
        self._cut.clear()

    def _break(self, wire: _Wire, reason: str) -> None:
        wire.up = False
        for end in wire.ends:
            self.clock.at(self.clock.now, lambda end=end: self._end(end, reason))  # type: ignore[misc]

    def _end(self, end: _End, reason: str) -> None:
        host = self._hosts.get(end.host)
        if self._wires.pop((end.host, end.link), None) is not None and host is not None:
            host.closed(end.link, reason)

    def _delay(self) -> float:
        low, high = self.latency_s
        return low + (high - low) * self.rng.random()
