"""What protection costs a device in a private sum: python tests/benchmarks/private_sums.py [--people 943]

First the arithmetic of a sum over the pairs of 230 items (MovieLens-100K at epsilon 8), with and without what privacy adds (masks
and noise, keys, escrow, notes of what others held). Then everything, in a swarm of simulated peers of whom some die in each of
both sums: the CPU of a few of them, each with signatures and memory of its own, beside that of peers of an ordinary swarm with as
many items. Three minutes for 200 people, twenty for 943.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import numpy as np
from figures import machine
from msgspec.structs import replace

from p2prec.config import PeerSettings, TransportKind
from p2prec.data.catalogue import Catalogue
from p2prec.identity import Identity, peer_id_of
from p2prec.lab.gossip_sum import Crashes
from p2prec.lab.private_peers import SimulatedPrivateSwarm
from p2prec.lab.topology import random_views
from p2prec.manifest import CatalogueReference, Manifest, Promise, reference_catalogue
from p2prec.model.nearest import decode, encode
from p2prec.model.pairs import n_pairs, pair_statistic
from p2prec.peer.messages import Message
from p2prec.peer.private_peer import sizes_of
from p2prec.peer.private_sum import FINE_EXCHANGES, PrivateSum
from p2prec.peer.sum_messages import (
    InSum,
    Relays,
    SumAnswer,
    SumCommit,
    SumDecline,
    SumMessage,
    SumOffer,
    SumResolution,
    SumResolve,
)
from p2prec.peer.sum_peer import SumPeer
from p2prec.privacy.escrow import split
from p2prec.privacy.masks import MaskKey
from p2prec.privacy.plan import MEAN_PARTNERS, PAIRS, POPULARITY, PrivacyPlan
from p2prec.privacy.promise import make_promise, mixing_rounds
from p2prec.privacy.stream import NoiseStream
from p2prec.sim.world import SimulatedPeer, World
from p2prec.transport.base import Connection
from p2prec.transport.choice import make_transport
from p2prec.types import ItemKey, PeerId, SwarmId
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.seal import Seal
from p2prec.wire.session import Session
from p2prec.wire.signatures import Signatures
from p2prec.wire.sum_codec import SumCodec
from p2prec.wire.sum_kinds import SumKind

T = TypeVar("T")

N_ITEMS, SELECTED = 1682, 230
HISTORY = 100
DEGREE, EPSILON, DELTA = 4, 8.0, 1e-5
START, ROUND_S = 100, 10.0
"""When the first sum begins; an exchange interval of the daemon."""
CONTRIBUTING = 0.9
"""Of all people; most of those who die do so in the long time for enrolling, and contribute nothing."""
MEASURED = 24
"""Peers of the private swarm that are measured, as far as they live to the end."""
PLAIN_PEOPLE, PLAIN_MEASURED, PLAIN_ROUNDS = 24, 4, 60
"""Of the ordinary swarm; what a round costs a peer does not depend on how many others there are."""
KINDS = {
    "contributing": "contributing, passing on",
    "hearing": "hearing what is passed on",
    "frames": "frames of that by TLS",
    "waking": "knowing when to wake, more often",
    "guarding": "being a guardian",
    "connections": "connections",
    "ids": "ids of all others, once",
    "exchanges": "exchanges",
}
"""What a peer is busy with in a sum."""
EXCHANGE = (SumOffer, SumAnswer, SumCommit, SumDecline, SumResolve, SumResolution)
"""What a sum without protection would send as well."""
FRAME_BYTES, N_FRAMES = 2000, 2000
DEADLINE_S = 60.0


def timed(action: Callable[[], object], times: int) -> float:
    """Milliseconds of the fastest of five batches."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(times):
            action()
        best = min(best, (time.process_time() - started) / times)
    return 1e3 * best


# --- the arithmetic ---


def arithmetic() -> None:
    count, plan = n_pairs(SELECTED), PrivacyPlan.of(EPSILON, DELTA, 900).pairs
    swarm, own = SwarmId(bytes(32)), PeerId("own")
    partners = [(PeerId(f"partner{n}"), MaskKey()) for n in range(MEAN_PARTNERS)]
    items, expected = np.arange(0, SELECTED, 3), np.full(SELECTED, 0.1, np.float32)
    statistic = pair_statistic(items, np.arange(SELECTED), expected, SELECTED)

    def contribute() -> PrivateSum:
        key = MaskKey()
        keys = {peer: key.shared(other.public, swarm, 1, own, peer) for peer, other in partners}
        for secret in keys.values():
            split(secret, len(keys) - 1)
        value = PrivateSum(own, count, plan)
        value.contribute(statistic, keys, NoiseStream.private())
        return value

    mine = contribute()
    fine = contribute().contribution()
    received = dataclasses.replace(fine, value=encode(decode(fine.value, count)))
    values = np.zeros(count, np.float32)

    def plain_exchange() -> None:
        sent = encode(values)
        np.add(values, 0.5 * (decode(received.value, count) - decode(sent, count)), out=values)

    plain = timed(plain_exchange, 20)
    noted = timed(lambda: mine.apply(PeerId("partner0"), mine.outgoing(), received), 20)
    contributing = timed(contribute, 1)
    base = timed(lambda: pair_statistic(items, np.arange(SELECTED), expected, SELECTED), 5)
    print(f"contribution: {base:.2f} ms without, {contributing:.2f} ms with protection")
    print(f"exchange:     {plain:.2f} ms without, {noted:.2f} ms with notes for the dead")
    early, later = fine.value.payload_bytes / count, received.value.payload_bytes / count
    print(f"message:      {early:.3f} bytes a value in the first {FINE_EXCHANGES} exchanges, {later:.3f} afterwards")


# --- everything ---


class Watch:
    """The CPU of one simulated peer, by what it does: each way into its core is timed."""

    def __init__(self, peer: SimulatedPeer) -> None:
        self.peer = peer
        self.cpu_s: Counter[str] = Counter()
        self.n_charged: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        """Relayed and other frames, sent and received."""
        self._busy_with: list[str] = []
        self._began = 0.0
        core, endpoint = peer.peer, peer.endpoint
        self._wrap(core, "tick", self._of_tick)
        self._wrap(core, "next_deadline", lambda *_: "waking")
        self._wrap(core.neighbourhood, "look_after", lambda *_: "neighbours")
        self._wrap(core._exchanger, "expire", lambda *_: "neighbours")
        self._wrap(endpoint, "frame_received", lambda link, frame, now: self._of_frame(frame))
        self._wrap(endpoint, "opened", lambda *_: "connections")
        self._wrap(endpoint, "closed", lambda *_: "connections")

    def _wrap(self, thing: Any, name: str, kind: Callable[..., str]) -> None:
        inner = getattr(thing, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            return self.charged(kind(*args) if not kwargs else kind(), lambda: inner(*args, **kwargs))

        setattr(thing, name, outer)

    def charged(self, kind: str, action: Callable[[], T]) -> T:
        """What the action returns. Its CPU is charged to this kind, and not to what it is part of."""
        if self._busy_with:
            self._charge(self._busy_with[-1])
        self._busy_with.append(kind)
        self.n_charged[kind] += 1
        self._began = time.process_time()
        try:
            return action()
        finally:
            self._charge(self._busy_with.pop())

    def _charge(self, kind: str) -> None:
        self.cpu_s[kind] += time.process_time() - self._began
        self._began = time.process_time()

    def correct(self) -> None:
        """Take away what the measuring itself has charged to each kind."""
        nothing, times = "nothing", 20_000
        for _ in range(times):
            self.charged(nothing, lambda: None)
        each = self.cpu_s.pop(nothing) / times
        del self.n_charged[nothing]
        for kind, n_charged in self.n_charged.items():
            self.cpu_s[kind] -= n_charged * each

    def _of_tick(self, now: float) -> str:
        """Once a second a peer looks after its neighbours, whether there is something to do in a sum or not."""
        core = self.peer.peer
        is_due = core.private is None or now >= core.private.next_deadline - core.unix_offset_s
        return "contributing" if is_due else "neighbours"

    def _of_frame(self, frame: bytes) -> str:
        _, kind, _, payload, _ = msgpack.unpackb(frame)
        if kind == MessageType.RELAYS:
            self.frames["relayed"] += 1
            return "hearing"
        self.frames["others"] += 1
        if kind != MessageType.IN_SUM:
            return "exchanges"
        number = msgpack.unpackb(payload)[1]
        return "exchanges" if SumKind(number).name in {one.__name__[3:].upper() for one in EXCHANGE} else "guarding"

    def of_message(self, message: Message) -> str:
        if isinstance(message, Relays):
            self.frames["relayed"] += 1
            return "contributing"
        self.frames["others"] += 1
        guards = isinstance(message, InSum) and not isinstance(message.message, EXCHANGE)
        return "guarding" if guards else "exchanges"


def watch_offers(watches: Sequence[Watch]) -> None:
    """What is offered in an exchange is made in a tick, and by sums of which each peer has two."""
    by_peer = {watch.peer.peer_id: watch for watch in watches}
    offer = SumPeer._offer

    def offer_watched(one: SumPeer, neighbours: list[PeerId], now: float) -> tuple[PeerId, SumMessage]:
        watch = by_peer.get(one.own_id)
        if watch is None:
            return offer(one, neighbours, now)
        return watch.charged("exchanges", lambda: offer(one, neighbours, now))

    SumPeer._offer = offer_watched  # type: ignore[method-assign]


def watch_encoding(watches: Sequence[Watch]) -> None:
    """What is sent is encoded and signed by sessions, of which each peer has many."""
    by_codec = {id(watch.peer.endpoint._codec): watch for watch in watches}
    encode_frame = Session.encode

    def encode_watched(session: Session, message: Message) -> bytes:
        watch = by_codec.get(id(session._codec))
        if watch is None:
            return encode_frame(session, message)
        return watch.charged(watch.of_message(message), lambda: encode_frame(session, message))

    Session.encode = encode_watched  # type: ignore[method-assign]


def tick_like_a_daemon(peer: SimulatedPeer) -> None:
    """Once a second, which most simulated peers of a private swarm do without."""
    core = peer.peer
    core._settings = replace(core._settings, tick_interval_s=PeerSettings().tick_interval_s)
    core._next_tick = peer.world.clock.now
    peer._arm(core._next_tick)


def give_own_memory(peer: SimulatedPeer, identity: Identity) -> None:
    """A codec and signatures that no other peer has verified anything for."""
    manifest = peer.world.manifest
    assert manifest.promise is not None
    sums = SumCodec(*sizes_of(manifest.promise, N_ITEMS), N_ITEMS)
    peer.endpoint._codec = Codec(manifest.learning, N_ITEMS, sums)
    peer.private._post._sealer = Seal(identity, manifest.swarm_id, sums, Signatures())


def private_swarm(people: int, crash: float, rng: np.random.Generator) -> tuple[list[Watch], Promise, dict[str, Any]]:
    """Both sums, by the daemon's own timetable. Returns those measured that lived, the promise, and what the sums came to."""
    histories = [np.sort(rng.permutation(N_ITEMS)[:HISTORY]).astype(np.int64) for _ in range(people)]
    swarm = SimulatedPrivateSwarm(
        histories,
        N_ITEMS,
        EPSILON,
        DELTA,
        rng,
        views=random_views(people, DEGREE, rng),
        crashes=Crashes(crash),
        promise=make_promise(EPSILON, DELTA, int(CONTRIBUTING * people), START, ROUND_S),
    )
    peers = [runs[0] for runs in swarm._runs[:MEASURED]]
    for peer in peers:
        give_own_memory(peer, peer.endpoint._identity)
    watches = [Watch(peer) for peer in peers]
    watch_encoding(watches)
    watch_offers(watches)
    for peer in peers:
        tick_like_a_daemon(peer)
    swarm.learn(lambda share: print(f"\r{share:4.0%}", end="", file=sys.stderr, flush=True))
    print("\r", end="", file=sys.stderr)
    living = [watch for watch, runs in zip(watches, swarm._runs, strict=False) if len(runs) == 1]
    sums = {POPULARITY: swarm.popularity_sum, PAIRS: swarm.pair_sum}
    return living, swarm.promise, {"noise_over_curator": {number: one.noise_ratio for number, one in sums.items()}}


def plain_swarm(rng: np.random.Generator) -> list[Watch]:
    """PLAIN_ROUNDS of an ordinary swarm, frames really signed."""
    catalogue = Catalogue(tuple(ItemKey(str(i)) for i in range(N_ITEMS)), tuple(str(i) for i in range(N_ITEMS)))
    manifest = Manifest(
        name="bench", catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS), seed=rng.bytes(32).hex()
    )
    world = World(manifest, catalogue, settings=PeerSettings())
    world.stand_ins = None  # type: ignore[assignment]
    peers = [
        world.add(f"peer{n}", items, np.ones(HISTORY, np.float32), np.arange(HISTORY, dtype=np.float64))
        for n in range(PLAIN_PEOPLE)
        for items in [np.sort(rng.permutation(N_ITEMS)[:HISTORY]).astype(np.int64)]
    ]
    world.run(60.0)
    watches = [Watch(peer) for peer in peers[:PLAIN_MEASURED]]
    watch_encoding(watches)
    rounds = [peer.peer.rounds for peer in peers[:PLAIN_MEASURED]]
    while min(peer.peer.rounds - was for peer, was in zip(peers, rounds, strict=False)) < PLAIN_ROUNDS:
        world.run(10.0)
    for watch, was in zip(watches, rounds, strict=True):
        watch.frames["rounds"] = watch.peer.peer.rounds - was
    return watches


def frame_cost() -> float:
    """Milliseconds of CPU of sending or receiving a frame by TLS."""

    async def measure() -> float:
        manifest = Manifest(
            name="bench", catalogue=CatalogueReference(digest="00" * 32, n_items=1, data=""), seed="00" * 32
        )

        async def serve(connection: Connection) -> None:
            while True:
                await connection.send(await connection.receive(deadline_s=DEADLINE_S), deadline_s=DEADLINE_S)

        one, other = (make_transport(TransportKind.TLS, Identity.generate(), manifest, None) for _ in range(2))
        await one.listen("127.0.0.1", 0, serve)
        connection = await other.dial("127.0.0.1", one.listen_port, deadline_s=DEADLINE_S)
        started = time.process_time()
        for _ in range(N_FRAMES):
            await connection.send(bytes(FRAME_BYTES), deadline_s=DEADLINE_S)
            await connection.receive(deadline_s=DEADLINE_S)
        spent = time.process_time() - started
        await other.close()
        await one.close()
        return spent

    return 1e3 * asyncio.run(measure()) / (4 * N_FRAMES)


def mean(watches: Sequence[Watch], what: Callable[[Watch], float]) -> float:
    return float(np.mean([what(watch) for watch in watches]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=200, help="of the private swarm, 60 or more (default: 200)")
    parser.add_argument("--crash", type=float, default=0.1, help="share that dies in each sum (default: 0.1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    # Looking for garbage among hundreds of peers would be charged to the few that are measured; a device has one.
    gc.disable()
    arithmetic()
    rng = np.random.default_rng(0)
    a_frame = frame_cost()
    plain = plain_swarm(rng)
    private, promise, came_to = private_swarm(options.people, options.crash, rng)
    # Once more afterwards: the machine may have become slower or faster.
    plain += plain_swarm(rng)
    for watch in (*plain, *private):
        watch.correct()
    a_round = 1e3 * mean(plain, lambda one: sum(one.cpu_s.values()) / one.frames["rounds"])
    a_round += a_frame * mean(plain, lambda one: one.frames["others"] / one.frames["rounds"])
    kinds = sorted({kind for one in private for kind in one.cpu_s})
    cpu_ms = {kind: 1e3 * mean(private, lambda one, kind=kind: one.cpu_s[kind]) / 2 for kind in kinds}  # type: ignore[misc]
    relayed = mean(private, lambda one: one.frames["relayed"]) / 2
    cpu_ms["frames"] = a_frame * relayed
    # Simulated peers remember in common what a device works out by itself, once for both sums.
    cpu_ms["ids"] = options.people * timed(lambda: peer_id_of(bytes(range(32))), 1000) / 2
    rounds, mixing = promise.end_s / ROUND_S, mixing_rounds(options.people)
    whole = sum(cpu_ms.values()) / rounds
    # What an ordinary swarm does all the time as well: look after neighbours, and know when to wake for that and for exchanges.
    cpu_ms.pop("neighbours")
    cpu_ms["waking"] -= rounds * 1e3 * mean(plain, lambda one: one.cpu_s["waking"] / one.frames["rounds"])
    protection = sum(ms for kind, ms in cpu_ms.items() if kind != "exchanges")
    report = {
        "machine": machine(),
        "people": options.people,
        "crash": options.crash,
        "measured_peers": len(private),
        "rounds_of_a_sum": rounds,
        "of_which_needed_to_mix": mixing,
        "cpu_ms_of_a_sum": cpu_ms,
        "frames_of_a_sum": relayed,
        "ordinary_round_ms": a_round,
        "protection_over_ordinary_round": protection / rounds / a_round,
        "protection_over_ordinary_round_while_mixing": protection / mixing / a_round,
        "whole_sum_over_ordinary_rounds": whole / a_round,
        **came_to,
    }
    print(f"a frame by TLS, either end: {a_frame:.3f} ms; a round of an ordinary swarm: {a_round:.1f} ms")
    print(f"a sum of {options.people} people, CPU of a peer (mean of {len(private)} that lived, over both sums):")
    for kind, text in KINDS.items():
        print(f"  {text:28} {cpu_ms.get(kind, 0.0):8.1f} ms")
    print(f"  {relayed:.0f} frames of relayed messages, sent and received")
    print(
        f"all but the exchanges: {protection / rounds:.2f} ms for each of the {rounds:.0f} rounds' time that a sum takes, "
        f"{protection / rounds / a_round:.0%} of an ordinary round;\n"
        f"for each of the {mixing} rounds that it takes to mix: {protection / mixing:.2f} ms, {protection / mixing / a_round:.0%}"
    )
    print(
        f"with all that it does: {whole:.2f} ms a round's time, {whole / a_round:.0%} of what an ordinary swarm takes in it"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
