"""python-zeroconf on one set of addresses: sockets, cache and answers are its; when to speak is `schedule`'s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from random import Random

import zeroconf
from zeroconf import (  # type: ignore[attr-defined]  # exported, but not declared so
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    Zeroconf,
    current_time_millis,
)
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from p2prec.discovery.addresses import announced_addresses
from p2prec.discovery.base import Announcement
from p2prec.discovery.record import SERVICE_TYPE, ServiceRecord, decode, encode_txt, service_label
from p2prec.discovery.schedule import announcement_delays, question_delays

log = logging.getLogger(__name__)

MAX_INCOMPLETE = 256
"""Names remembered whose port, text or address did not arrive with them."""
COMPLETE_AFTER_S = 3.0
"""How long the rest of a record may take to arrive by itself before it is asked for."""
MAX_KNOWN_ANSWERS = 64
"""Pointers to our services that a question names, 40 bytes each: two packets. Answers that are not given need no addresses to be
resolved either, of which a machine that carries a whole network of containers knows a thousand at a time."""
ENOUGH_TO_KNOW = (16, 0, 0)
"""A peer that knows more others than that does without its first, second, third question: it has whom to dial, and the rest
announce themselves again. A peer that is too busy to read what it hears must not ask for more."""

_TYPE_PTR = 12
_CLASS_IN = 1
_QUERY = 0x0000
_AUTHORITATIVE_ANSWER = 0x8400


def full_name(announcement: Announcement) -> str:
    """The name of a peer's service on the network."""
    return f"{service_label(announcement.peer_id, announcement.instance)}.{SERVICE_TYPE}"


class Responder:
    """Announces services, answers for them, and reports those of others. Raises OSError when it cannot bind."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        on_record: Callable[[str, ServiceRecord], None],
        on_removed: Callable[[str], None],
        rng: Random,
    ) -> None:
        self._addresses = addresses
        self._rng = rng
        self._infos: dict[str, AsyncServiceInfo] = {}
        self._unannounced: list[AsyncServiceInfo] = []
        self._zeroconf = AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
        self._listener = _Listener(self._zeroconf.zeroconf, on_record, on_removed)
        self._zeroconf.zeroconf.async_add_listener(self._listener, None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._ask_for_ever())

    def publish(self, announcement: Announcement) -> None:
        """Answer for a service from now on, and announce it several times, together with those published at the same time.

        No name is probed first (a probe asks everybody for everything): they are unique by construction.
        """
        info = _service_info(announcement, self._addresses)
        if info.name in self._infos:
            return
        self._infos[info.name] = info
        self._zeroconf.zeroconf.registry.async_add(info)
        self._unannounced.append(info)
        if len(self._unannounced) == 1:
            self._spawn(self._announce())

    async def withdraw(self, name: str) -> None:
        """Say goodbye for one service."""
        info = self._infos.pop(name, None)
        if info is not None:
            await self._zeroconf.async_unregister_service(info)

    async def ask_for_incomplete(self, now: float) -> None:
        """Ask for what did not arrive with a name: one question for each, a few at a time."""
        await self._listener.ask_for_incomplete(now)

    async def close(self, *, goodbye: bool, deadline_s: float) -> None:
        """Stop; `goodbye`: tell the others."""
        for task in self._tasks:
            task.cancel()
        self._zeroconf.zeroconf.async_remove_listener(self._listener)
        if not goodbye:
            for info in self._infos.values():
                self._zeroconf.zeroconf.registry.async_remove(info)
        try:
            async with asyncio.timeout(deadline_s):
                await self._zeroconf.async_close()
        except TimeoutError:
            self._zeroconf.zeroconf.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def until_closed() -> None:
            with suppress(zeroconf.Error):  # raised only when closed before it was started
                await work

        task = asyncio.create_task(until_closed())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self) -> None:
        await self._zeroconf.zeroconf.async_wait_for_start()
        batch: list[AsyncServiceInfo] = []
        for delay_s in announcement_delays(self._rng):
            await asyncio.sleep(delay_s)
            batch += self._unannounced
            self._unannounced = []
            batch = [info for info in batch if self._infos.get(info.name) is info]
            if batch:
                self._zeroconf.zeroconf.async_send(_announcement_of(batch))

    async def _ask_for_ever(self) -> None:
        await self._zeroconf.zeroconf.async_wait_for_start()
        for number, delay_s in enumerate(question_delays(self._rng)):
            await asyncio.sleep(delay_s)
            known = self._known_pointers()
            n_others = len(known) - len(self._infos)
            if number < len(ENOUGH_TO_KNOW) and n_others > ENOUGH_TO_KNOW[number]:
                continue
            self._ask(known, to_us_alone=number == 0 or len(known) > MAX_KNOWN_ANSWERS)

    def _known_pointers(self) -> list[DNSPointer]:
        now_ms = current_time_millis()
        cached = self._zeroconf.zeroconf.cache.get_all_by_details(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN)
        return [record for record in cached if isinstance(record, DNSPointer) and not record.is_stale(now_ms)]

    def _ask(self, known: Sequence[DNSPointer], *, to_us_alone: bool) -> None:
        """Ask who is there. `to_us_alone`: each answers us (RFC 6762, 5.4); otherwise those not in `known` answer everybody.

        Reading a list of known answers costs everybody more than it spares the one who would get the answers.
        """
        question = DNSQuestion(SERVICE_TYPE, _TYPE_PTR, _CLASS_IN)
        question.unicast = to_us_alone
        packet = DNSOutgoing(_QUERY, multicast=True)
        packet.add_question(question)
        if not to_us_alone:
            now_ms = current_time_millis()
            history = self._zeroconf.zeroconf.question_history
            if history.suppresses(question, now_ms, set(known)):
                return  # somebody has just asked the same, and the answers come to us as well
            history.add_question_at_time(question, now_ms, set(known))
            for pointer in known:
                packet.add_answer_at_time(pointer, now_ms)
        self._zeroconf.zeroconf.async_send(packet)


class _Listener(RecordUpdateListener):
    """Sees every record that arrives and reports the whole of a service, once all its parts are there."""

    def __init__(
        self,
        zc: Zeroconf,
        on_record: Callable[[str, ServiceRecord], None],
        on_removed: Callable[[str], None],
    ) -> None:
        self._zeroconf = zc
        self._on_record = on_record
        self._on_removed = on_removed
        self._touched: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._incomplete: dict[str, float] = {}

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """zeroconf's call before it takes records over: note whose they are. now: milliseconds."""
        for update in records:
            record = update.new
            if isinstance(record, DNSPointer):
                if record.name.lower() != SERVICE_TYPE:
                    continue
                if record.is_expired(now):
                    self._removed[record.alias] = None
                elif update.old is None:
                    self._touched[record.alias] = None
            elif update.old is None and not record.is_expired(now):
                # Its SRV and TXT records carry a service's name, its address that of the host: the same label.
                label = record.name.partition(".")[0]
                self._touched[f"{label}.{SERVICE_TYPE}"] = None

    def async_update_records_complete(self) -> None:
        """zeroconf's call when its cache holds them."""
        removed, self._removed = self._removed, {}
        touched, self._touched = self._touched, {}
        for name in removed:
            self._incomplete.pop(name, None)
            self._on_removed(name.lower())
        for name in touched.keys() - removed.keys():
            self._look_at(name)

    async def ask_for_incomplete(self, now: float) -> None:
        due = [name for name, since in self._incomplete.items() if now - since >= COMPLETE_AFTER_S][:8]
        for name in due:
            del self._incomplete[name]
        infos = [AsyncServiceInfo(SERVICE_TYPE, name) for name in due]
        found = await asyncio.gather(*(info.async_request(self._zeroconf, 1500) for info in infos))
        for info, complete in zip(infos, found, strict=True):
            if complete:
                self._report(info)

    def _look_at(self, name: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if info.load_from_cache(self._zeroconf):
            self._incomplete.pop(name, None)
            self._report(info)
        elif len(self._incomplete) < MAX_INCOMPLETE and self._is_pointed_to(name):
            self._incomplete.setdefault(name, asyncio.get_running_loop().time())

    def _is_pointed_to(self, name: str) -> bool:
        return self._zeroconf.cache.current_entry_with_name_and_alias(SERVICE_TYPE, name) is not None

    def _report(self, info: AsyncServiceInfo) -> None:
        label = info.name.removesuffix(f".{SERVICE_TYPE}")
        record = decode(label, info.port, info.properties, info.parsed_addresses())
        if record is not None:
            self._on_record(info.name.lower(), record)


def _service_info(announcement: Announcement, addresses: Sequence[str]) -> AsyncServiceInfo:
    label = service_label(announcement.peer_id, announcement.instance)
    return AsyncServiceInfo(
        SERVICE_TYPE,
        full_name(announcement),
        port=announcement.port,
        properties=encode_txt(announcement),
        server=f"{label}.local.",
        parsed_addresses=list(announced_addresses(announcement.host, addresses)),
    )


def _announcement_of(infos: Iterable[AsyncServiceInfo]) -> DNSOutgoing:
    """An unasked answer with everything about these services: name, port, text and addresses travel together, so that nobody
    has to ask about one. zeroconf cuts it into packets of one Ethernet frame each."""
    packet = DNSOutgoing(_AUTHORITATIVE_ANSWER, multicast=True)
    for info in infos:
        for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
            packet.add_answer_at_time(record, 0)
    return packet
