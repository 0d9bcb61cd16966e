"""Discovery by multicast DNS (RFC 6762, 6763), on python-zeroconf.

One `MdnsDiscovery` a process: it announces each of the process's peers (the demo hosts 25), browses once, and hands each
sighting to the peers of the same swarm. It lives through the network: no interface yet, addresses that change, a port
5353 that another program holds. It tells `on_trouble`, retries, and never stops the daemon.

The network is kept quiet for hundreds of peers: `schedule` says when one speaks, `responder` speaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface
from random import Random

import zeroconf

from p2prec.discovery.addresses import best_address, local_interfaces, multicast_addresses
from p2prec.discovery.base import Announcement, OnGone, OnSighting, OnTrouble, Sighting, Trouble
from p2prec.discovery.record import ServiceRecord, encode_txt, swarm_label
from p2prec.discovery.responder import Responder, full_name

log = logging.getLogger(__name__)

MAX_KNOWN = 1024
"""Records remembered, to notice what is new and what is gone. The oldest makes room: a flood of false records costs
repeated sightings of true ones, not their loss."""
ADDRESS_POLL_S = 15.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
SELF_TEST_S = 10.0
"""After so long, a machine on which multicast works has heard its own announcement, even under load."""

_NO_INTERFACE = Trouble(
    "no network interface is up, so no peer can be discovered",
    "connect to a network; discovery resumes by itself",
)
_DEAF = Trouble(
    "multicast DNS is not heard on this machine, so no peer can be discovered",
    "allow UDP port 5353 in the firewall (p2prec doctor tells more), or name a peer: p2prec start --peer HOST:PORT",
)


@dataclass(frozen=True, slots=True)
class _Local:
    """A peer of this process, and whom to tell."""

    announcement: Announcement
    on_sighting: OnSighting
    on_gone: OnGone

    @property
    def name(self) -> str:
        return full_name(self.announcement)

    def hears(self, record: ServiceRecord) -> bool:
        """Whether the record is of the same swarm, and not this peer itself."""
        own = self.announcement
        itself = record.peer_id == own.peer_id and record.instance == own.instance
        return record.swarm == swarm_label(own.swarm_id) and not itself


class MdnsDiscovery:
    """Implements `p2prec.discovery.base.Discovery`. All methods and callbacks run in the event loop."""

    def __init__(
        self,
        *,
        interfaces: Sequence[str] | None = None,
        on_trouble: OnTrouble | None = None,
        address_poll_s: float = ADDRESS_POLL_S,
    ) -> None:
        """`interfaces`: IPv4 addresses on which to speak; None for all but loopback. 127.0.0.1 alone stays on the machine.
        `address_poll_s`: how often to look whether the machine's addresses changed."""
        self._interfaces = interfaces
        self._on_trouble = on_trouble
        self._address_poll_s = address_poll_s
        self._locals: dict[str, _Local] = {}
        self._network: tuple[IPv4Interface, ...] = ()
        self._known: dict[str, tuple[ServiceRecord, Sighting]] = {}
        self._responder: Responder | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._trouble: Trouble | None = None
        self._heard_own = False

    async def start(self) -> None:
        """Begin in the background."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="mdns")

    def announce(self, announcement: Announcement, on_sighting: OnSighting, on_gone: OnGone) -> None:
        """Announce a peer, and report to it others of its swarm. Raises UsageError."""
        encode_txt(announcement)  # raises for one that nobody could read
        local = _Local(announcement, on_sighting, on_gone)
        self._locals[local.name] = local
        for record, sighting in list(self._known.values()):
            if local.hears(record):
                _call(on_sighting, sighting)
        if self._responder is not None:
            self._responder.publish(announcement)

    async def withdraw(self, announcement: Announcement) -> None:
        """Say goodbye for one peer."""
        name = full_name(announcement)
        if self._locals.pop(name, None) is not None and self._responder is not None:
            await self._responder.withdraw(name)

    async def close(self, *, deadline_s: float = 1.0) -> None:
        """Say goodbye for all and stop."""
        self._locals.clear()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        with suppress(asyncio.CancelledError):
            await supervisor
        responder, self._responder = self._responder, None
        if responder is not None:
            await responder.close(goodbye=True, deadline_s=deadline_s)

    async def _supervise(self) -> None:
        """Keep a responder on the addresses that are up, for as long as this object is open."""
        retry_s = RETRY_FIRST_S
        while True:
            try:
                self._network = local_interfaces()
                addresses = multicast_addresses(self._network, self._interfaces)
                if await self._open(addresses):
                    retry_s = RETRY_FIRST_S
                    await self._watch(addresses)
                    await self._drop_responder()
                    continue
            except Exception as error:
                # Whatever it was, the peer goes on, with the neighbours that it has.
                log.exception("discovery failed")
                self._tell(Trouble(f"discovery failed: {error!r}", "it is tried again; please report the log"))
                await self._drop_responder()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_MAX_S)

    async def _open(self, addresses: tuple[str, ...]) -> bool:
        """Bind and announce on `addresses`; False, with the trouble told, when that cannot be done."""
        if not addresses:
            self._tell(_NO_INTERFACE)
            return False
        # After a change of network, everything counts as new: callers may need to dial again, by another address.
        self._known.clear()
        self._heard_own = False
        try:
            self._responder = responder = Responder(addresses, self._heard, self._lost, Random())
            for local in self._locals.values():
                responder.publish(local.announcement)
        except (OSError, zeroconf.Error) as error:
            await self._drop_responder()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            self._tell(
                Trouble(
                    f"multicast DNS cannot be used on {', '.join(addresses)}: {reason}",
                    "see p2prec doctor; or name a peer: p2prec start --peer HOST:PORT",
                )
            )
            return False
        log.debug("speaking multicast DNS on %s", ", ".join(addresses))
        return True

    async def _watch(self, addresses: tuple[str, ...]) -> None:
        """Return when the machine's addresses are no longer `addresses`; meanwhile mind what goes missing."""
        loop = asyncio.get_running_loop()
        opened = polled = loop.time()
        while True:
            await asyncio.sleep(min(self._address_poll_s, SELF_TEST_S))
            now = loop.time()
            if self._responder is not None:
                await self._responder.ask_for_incomplete(now)
            if self._locals and now - opened >= SELF_TEST_S:
                self._tell(None if self._heard_own or self._known else _DEAF)
            if now - polled >= self._address_poll_s:
                polled = now
                if multicast_addresses(local_interfaces(), self._interfaces) != addresses:
                    return

    async def _drop_responder(self) -> None:
        """Close without a goodbye: the same names are announced again at once, from other addresses."""
        responder, self._responder = self._responder, None
        if responder is not None:
            await responder.close(goodbye=False, deadline_s=1.0)

    def _heard(self, name: str, record: ServiceRecord) -> None:
        self._heard_own = self._heard_own or any(name == own.lower() for own in self._locals)
        known = self._known.pop(name, None)
        host = best_address(record.addresses, self._network)
        sighting = Sighting(record.peer_id, record.instance, host, record.port, record.transport)
        if known is None and len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = (record, sighting)
        if known is not None and known[1] == sighting:
            return
        for local in list(self._locals.values()):
            if local.hears(record):
                _call(local.on_sighting, sighting)

    def _lost(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is None:
            return
        record, sighting = known
        for local in list(self._locals.values()):
            if local.hears(record):
                _call(local.on_gone, sighting)

    def _tell(self, trouble: Trouble | None) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if self._on_trouble is not None:
            self._on_trouble(trouble)
        elif trouble is not None:
            log.warning("%s; %s", trouble.message, trouble.remedy)


def _call(callback: Callable[[Sighting], None], sighting: Sighting) -> None:
    try:
        callback(sighting)
    except Exception:
        # One peer's failure is not its neighbours'; and this may run inside asyncio's datagram callback.
        log.exception("a callback failed for the sighting of %s", sighting.peer_id)
