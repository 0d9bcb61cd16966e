"""The neighbourhood: whom this peer knows, dials, greets, pings and parts with. What they exchange is `p2prec.peer.peer`'s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from p2prec.config import PeerSettings
from p2prec.errors import RemoteMisbehaviour
from p2prec.peer.book import AddressBook
from p2prec.peer.double import DoubleWatch
from p2prec.peer.events import (
    Action,
    Dial,
    DialFailed,
    Disconnect,
    Event,
    IdentityConflict,
    IdentityConflictOver,
    MessageRefused,
    NeighbourDown,
    NeighbourUp,
    PeerBanned,
    PeerSighted,
    Send,
)
from p2prec.peer.messages import (
    Close,
    CloseReason,
    Hello,
    Message,
    PeerAddress,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Refusal,
    is_host_literal,
    is_loopback,
)
from p2prec.peer.view import Allowance, Link, View
from p2prec.types import PeerId

OFFERS_PER_ROUND = 4.0
"""Offers of each part of the tables that one neighbour may send per round interval on average; an honest one sends about one
over all its neighbours."""
OFFER_BURST = 8.0
"""Offers at once, times the number of parts: an honest peer with a single neighbour sends it all parts one after the other."""
MESSAGES_PER_ROUND = 16.0
"""Messages of any kind, for each part, that one neighbour may send per round interval on average; an honest one sends three
or four."""
MESSAGE_BURST = 64.0
"""Messages at once, times the number of parts."""
REUNIONS = 2
"""Times the wanted number of neighbours: beyond it lost ones are not dialled again. Rotation brings a full view back to size."""
PEERS_PER_REQUEST = 32
PEERS_SERVED_EVERY_S = 10.0


class Neighbourhood:
    """Keeps the view filled and honest. It writes actions and events; the peer that owns it hands them to the driver."""

    def __init__(
        self,
        *,
        peer_id: PeerId,
        instance: bytes,
        settings: PeerSettings,
        round_interval_s: float,
        n_parts: int,
        rng: np.random.Generator,
        random_bytes: Callable[[int], bytes],
        now: float,
        on_met: Callable[[Link], None],
        on_lost: Callable[[PeerId], None],
    ) -> None:
        """on_met: called with the link of a peer that has just become a neighbour; on_lost: with the id of one whose link, and
        with it whatever was under way on it, has ended."""
        self.peer_id = peer_id
        self.book = AddressBook(peer_id, settings)
        self.view = View(peer_id)
        self.refusals: Counter[str] = Counter()
        self.double = DoubleWatch(settings)
        self.leaving = False
        self.is_steady = False
        """Whether no neighbour is exchanged for another: in a private sum a link that ends is a suspicion to everybody."""
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self._instance = instance
        self._settings = settings
        self._interval_s = round_interval_s
        self._n_parts = n_parts
        self._rng = rng
        self._random_bytes = random_bytes
        self._on_met = on_met
        self._on_lost = on_lost
        self._dialling: dict[tuple[str, int], PeerId | None] = {}
        self._next_rotation = now + settings.rotate_every_s
        self._next_peers_request = now

    # --- discovery and connections ---

    def sighted(self, peer_id: PeerId, instance: bytes | None, host: str, port: int, source: str, now: float) -> None:
        """Discovery found a peer. `instance` is known from mDNS only."""
        if peer_id == self.peer_id:
            # Our own announcement, or our double's. Only a handshake tells: a record may outlive its daemon by minutes.
            if instance != self._instance and self.double.may_look(now):
                self._dial(host, port, peer_id)
            return
        if self.book.sight(peer_id, host, port, source, now):
            self.events.append(PeerSighted(peer_id, host, port, source))

    def dial_failed(self, host: str, port: int, reason: str, now: float) -> None:
        peer_id = self._dialling.pop((host, port), None)
        retry_s = self.book.dial_failed(host, port, peer_id, now)
        self.events.append(DialFailed(host, port, reason, retry_s))

    def opened(
        self, number: int, remote_id: PeerId, host: str, *, outbound: bool, port: int, hello: Hello, now: float
    ) -> None:
        """A connection exists and its other end is proven. `port`: where we dialled (outbound only); `hello`: our first words."""
        if outbound:
            expected = self._dialling.pop((host, port), None)
            if expected not in (None, remote_id):
                self.book.dial_failed(host, port, expected, now)  # somebody else lives at that address now
        parts = self._n_parts
        link = Link(
            number,
            remote_id,
            host,
            outbound,
            opened_at=now,
            last_heard=now,
            offers=Allowance(OFFER_BURST * parts, OFFERS_PER_ROUND * parts / self._interval_s, now),
            messages=Allowance(MESSAGE_BURST * parts, 1.0 + MESSAGES_PER_ROUND * parts / self._interval_s, now),
            dialled_port=port if outbound else 0,
        )
        self.view.links[number] = link
        self.send(link, hello)
        if self.book.is_banned(remote_id, now):
            self._drop(link, CloseReason.MISBEHAVIOUR, "banned for a while")
        elif self.leaving:
            self._drop(link, CloseReason.LEAVING)

    def closed(self, number: int, reason: str, now: float) -> None:
        """A connection ended without our doing."""
        link = self.view.links.get(number)
        if link is not None:
            if link.hello is None and link.outbound:
                # TLS 1.3 tells a refused client only now: this is a failed dial, with the same patience.
                retry_s = self.book.dial_failed(link.host, link.dialled_port, link.remote_id, now)
                self.events.append(DialFailed(link.host, link.dialled_port, reason, retry_s))
            self._forget(link, reason, broken=True)

    def refused(self, number: int, error: RemoteMisbehaviour, now: float) -> None:
        """A message on this link broke the protocol (found by the wire layer or by this core)."""
        link = self.view.links.get(number)
        if link is None:
            return
        self.refusals[error.reason] += 1
        link.refusals += 1
        self.events.append(MessageRefused(link.remote_id, error.reason, str(error)))
        if error.fatal or link.refusals >= self._settings.refusals_before_ban:
            if link.remote_id != self.peer_id:
                self.book.ban(link.remote_id, now + self._settings.ban_s, now)
                self.events.append(PeerBanned(link.remote_id, self._settings.ban_s))
            self._drop(link, CloseReason.MISBEHAVIOUR, str(error))

    def leave(self, now: float) -> None:
        """Say goodbye to everybody; afterwards the driver flushes and closes."""
        self.leaving = True
        for link in list(self.view.links.values()):
            self._drop(link, CloseReason.LEAVING)

    # --- time ---

    def excuse(self, late_s: float) -> None:
        """Time in which this peer itself stood still (suspended, overloaded) counts against nobody's deadline."""
        if late_s < self._settings.tick_interval_s:
            return
        for link in self.view.links.values():
            link.opened_at += late_s
            if link.ping_sent_at is not None:
                link.ping_sent_at += late_s

    def look_after(self, now: float) -> None:
        """Deadlines, pings, dials and rotation; due at every tick."""
        self._look_after_links(now)
        self._look_after_view(now)

    def _look_after_links(self, now: float) -> None:
        settings = self._settings
        for link in list(self.view.links.values()):
            if link.hello is None:
                if now - link.opened_at >= settings.hello_deadline_s:
                    self.book.hold_off(link.remote_id, now + settings.dial_retry_max_s)
                    self._drop(link, CloseReason.MISBEHAVIOUR, "no hello")
            elif link.ping_sent_at is not None:
                if now - link.ping_sent_at >= settings.ping_deadline_s:
                    self._forget(link, "no answer to ping", broken=True)
                    self.actions.append(Disconnect(link.number))
            elif now - link.last_heard >= settings.ping_after_s:
                self._ping(link, now)
        if self.double.expire(now):
            self.events.append(IdentityConflictOver())
        address = self.double.due(now)
        if address is not None:
            self._dial(*address, self.peer_id)

    def _look_after_view(self, now: float) -> None:
        settings, view = self._settings, self.view
        engaged = {*view.neighbours, *(p for p in self._dialling.values() if p)}
        engaged.update(link.remote_id for link in view.links.values())
        for static in self.book.static:
            who = static.peer_id
            if static.dial_after <= now and (who is None or (who not in engaged and self.book.may_dial(who, now))):
                static.dial_after = now + settings.dial_retry_s
                self._dial(static.host, static.port, who)
        wanted = settings.target_neighbours - len(engaged - self.book.missed.keys())  # those may be gone for good
        if wanted <= 0 and now >= self._next_rotation and not self.is_steady:
            self._rotate(now, engaged)
        # Who was lost is met again even where others have taken the place: two halves of a swarm that could not reach each other,
        # each with as many neighbours as it wants within itself, would otherwise stay apart when they can.
        room = min(REUNIONS * settings.target_neighbours, settings.max_neighbours) - len(engaged)
        lost = self.book.missing(now, engaged, min(room, settings.dials_per_tick))
        engaged.update(known.peer_id for known in lost)
        others = min(wanted, settings.dials_per_tick) - len(lost)
        for known in (*lost, *self.book.choose(now, engaged, others, self._rng)):
            known.dial_after = now + settings.dial_retry_s
            self._dial(*known.addresses[0], known.peer_id)
        if now >= self._next_peers_request:
            link = view.random_neighbour(self._rng)
            if link is not None:  # without one, the first neighbour is asked at once
                self._next_peers_request = now + settings.peers_request_every_s
                link.peers_requested = True
                self.send(link, PeersRequest(PEERS_PER_REQUEST))

    def _rotate(self, now: float, engaged: set[PeerId]) -> None:
        """Part with one neighbour if somebody else could take its place; the next tick dials."""
        self._next_rotation = now + self._settings.rotate_every_s * (0.5 + float(self._rng.random()))
        outbound = frozenset(p for p, link in self.view.neighbours.items() if not link.outbound)
        link = self.view.random_neighbour(self._rng, exclude=outbound)
        if link is not None and self.book.choose(now, engaged, 1, self._rng):
            self.book.hold_off(link.remote_id, now + self._settings.rotate_every_s)
            self._drop(link, CloseReason.ROTATED)

    def _dial(self, host: str, port: int, peer_id: PeerId | None) -> None:
        if (host, port) not in self._dialling:
            self._dialling[host, port] = peer_id
            self.actions.append(Dial(host, port, peer_id))

    # --- messages ---

    def handle(self, link: Link, message: Message, now: float) -> bool:
        """Take a message that is about the neighbourhood; False for one that is not. Raises RemoteMisbehaviour."""
        match message:
            case Hello():
                self._on_hello(link, message, now)
            case Close():
                self._on_close(link, message, now)
            case _ if link.hello is None:
                raise RemoteMisbehaviour(Refusal.UNEXPECTED, "a message before hello", fatal=True)
            case Ping(token):
                self.send(link, Pong(token))
            case Pong():
                if link.superseded:
                    self._doubled_neighbour(link, now)
            case PeersRequest(limit):
                self._on_peers_request(link, limit, now)
            case Peers():
                self._on_peers(link, message, now)
            case _:
                return False
        return True

    def _on_hello(self, link: Link, hello: Hello, now: float) -> None:
        if link.hello is not None:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "a second hello")
        link.hello = hello
        if link.remote_id == self.peer_id:
            if hello.instance != self._instance:
                self._met_double(link, now)
            elif link.outbound:  # our own address, said to be somebody's
                self.book.dial_failed(link.host, link.dialled_port, None, now)
            self._drop(link, CloseReason.DUPLICATE_CONNECTION)
            return
        if link.outbound:
            self.book.met(link.remote_id, *link.listen_address, now)
            link.peers_requested = True  # if it is full, it says who else there is before it closes
        rival = self.view.neighbours.get(link.remote_id)
        if rival is None and len(self.view.neighbours) >= self._settings.max_neighbours:
            if not link.outbound:
                # Where a whole swarm knows the same few addresses, most who come are turned away: they must learn of others.
                self._tell_peers(link, PEERS_PER_REQUEST)
            self._drop(link, CloseReason.TOO_MANY)
            return
        if rival is not None and rival.hello is not None and rival.hello.instance != hello.instance:
            # A restarted peer, or one identity on two machines: only an answer on the old link can tell.
            rival.superseded = True
            self._on_lost(rival.remote_id)
            self.view.neighbours[link.remote_id] = link
            self._ping(rival, now)
        else:
            loser = self.view.admit(link)
            if loser is not None:
                self._on_lost(loser.remote_id)
                self._drop(loser, CloseReason.DUPLICATE_CONNECTION)
        if self.view.neighbours.get(link.remote_id) is not link:
            return
        if not link.outbound:
            self.book.met(link.remote_id, *link.listen_address, now)
        if rival is None:
            self.events.append(NeighbourUp(link.remote_id, link.host, link.outbound, len(self.view.neighbours)))
        self._on_met(link)

    def _met_double(self, link: Link, now: float) -> None:
        """Our own identity answers elsewhere, proven by its key: stop exchanging, or two devices would spend one budget."""
        if self.double.met(*link.listen_address, now):
            self.events.append(IdentityConflict(link.host, proven=True))

    def _doubled_neighbour(self, old: Link, now: float) -> None:
        """A neighbour's identity is alive on two links with different instances: tell each where the other is, to see itself."""
        current = self.view.neighbours.get(old.remote_id)
        if current is None or current is old:
            old.superseded = False
            return
        for link, other in ((old, current), (current, old)):
            host, port = other.listen_address
            if port and is_host_literal(host):
                self.send(link, Peers((PeerAddress(link.remote_id, host, port),)))
            detail = f"this identity also runs at {host}: run 'p2prec identity renew' on one of the two machines"
            self._drop(link, CloseReason.DUPLICATE_IDENTITY, detail)
        self.book.hold_off(old.remote_id, now + self._settings.conflict_s)

    def _on_close(self, link: Link, close: Close, now: float) -> None:
        settings = self._settings
        hold_off_s = {
            CloseReason.LEAVING: settings.dial_retry_s,
            CloseReason.DUPLICATE_CONNECTION: settings.dial_retry_s,
            CloseReason.TOO_MANY: settings.rotate_every_s,  # places come free by rotation
            CloseReason.MISBEHAVIOUR: settings.ban_s,
            CloseReason.DUPLICATE_IDENTITY: settings.conflict_s,
            CloseReason.ROTATED: settings.rotate_every_s,
        }[close.reason]
        self.book.hold_off(link.remote_id, now + hold_off_s)
        if close.reason is CloseReason.DUPLICATE_IDENTITY and link.remote_id != self.peer_id and self.double.heard(now):
            self.events.append(IdentityConflict(close.detail, proven=False))
        self._forget(link, close.reason.name.lower().replace("_", " "))
        self.actions.append(Disconnect(link.number))

    def _on_peers_request(self, link: Link, limit: int, now: float) -> None:
        if now - link.peers_served_at < PEERS_SERVED_EVERY_S:
            return
        link.peers_served_at = now
        self._tell_peers(link, limit)

    def _tell_peers(self, link: Link, limit: int) -> None:
        """Send addresses of at most `limit` of our own neighbours."""
        addresses = [
            PeerAddress(other.remote_id, other.host, other.hello.listen_port)
            for other in self.view.neighbours.values()
            if other is not link and other.hello and other.hello.listen_port and is_host_literal(other.host)
        ]
        chosen = self._rng.permutation(len(addresses))[:limit]
        self.send(link, Peers(tuple(addresses[i] for i in chosen)))

    def _on_peers(self, link: Link, peers: Peers, now: float) -> None:
        about_us = all(address.peer_id == self.peer_id for address in peers.addresses)  # a double was seen there
        if not link.peers_requested and not about_us:
            raise RemoteMisbehaviour(Refusal.UNEXPECTED, "addresses that nobody asked for")
        link.peers_requested = link.peers_requested and about_us
        for address in peers.addresses:
            if is_loopback(address.host) and not is_loopback(link.host):
                continue  # its machine is not ours: dialling it would knock on our own services
            self.sighted(PeerId(address.peer_id), None, address.host, address.port, "exchange", now)

    # --- small parts ---

    def _ping(self, link: Link, now: float) -> None:
        link.ping_sent_at = now
        self.send(link, Ping(self._random_bytes(8)))

    def send(self, link: Link, message: Message) -> None:
        self.actions.append(Send(link.number, message))

    def _drop(self, link: Link, reason: CloseReason, detail: str = "") -> None:
        if link.hello is not None:  # before both hellos, nothing else can be signed
            self.send(link, Close(reason, detail[:200]))
        self.actions.append(Disconnect(link.number))
        self._forget(link, reason.name.lower().replace("_", " "))

    def _forget(self, link: Link, reason: str, *, broken: bool = False) -> None:
        """broken: nobody has said goodbye."""
        if self.view.remove(link):
            if broken:
                self.book.miss(link.remote_id)
            self._on_lost(link.remote_id)
            self.events.append(NeighbourDown(link.remote_id, reason, len(self.view.neighbours)))
