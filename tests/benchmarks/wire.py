"""What one exchange costs on the wire and in the transport, piece by piece, in one process over loopback.

Run by `make bench`, or alone: `python tests/benchmarks/wire.py [--data FOLDER]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, show
from films import load_films

from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.peer.learner import Learner
from p2prec.peer.messages import Offer
from p2prec.transport.base import Connection
from p2prec.transport.tls import TlsTransport
from p2prec.wire.codec import Codec
from p2prec.wire.session import Session

N_MESSAGES = 100
N_HANDSHAKES = 30
N_ROUND_TRIPS = 100
DEADLINE_S = 10.0


def wire_figures(item_keys: Sequence[str], manifest: Manifest) -> list[Figure]:
    """Informative: no targets."""
    rng = np.random.default_rng(0)
    learner = Learner(manifest.learning, manifest.privacy, item_keys, bytes.fromhex(manifest.seed))
    learner.contribute(rng)
    tables = learner.outgoing(0, rng)
    sender, receiver = _established_sessions(manifest, len(item_keys))
    offer = Offer(bytes(16), 1, tables)
    frames: list[bytes] = []
    encode_s = _median_s(lambda: frames.append(sender.encode(offer)), N_MESSAGES)
    waiting = iter(frames)
    decode_s = _median_s(lambda: receiver.decode(next(waiting)), N_MESSAGES)
    apply_s = _median_s(lambda: learner.apply(tables, tables, 1.0), N_MESSAGES)
    figures = [
        Figure("offer", len(frames[0]) / 1000, "kB", note=_what_is_sent(len(item_keys), manifest)),
        Figure("quantize the tables", 1000 * _median_s(lambda: learner.outgoing(0, rng), N_MESSAGES), "ms"),
        Figure("encode and sign an offer", 1000 * encode_s, "ms"),
        Figure("verify and decode an offer", 1000 * decode_s, "ms"),
        Figure("apply an exchange", 1000 * apply_s, "ms"),
    ]
    return figures + asyncio.run(_transport_figures(manifest, frames[0]))


def _what_is_sent(n_items: int, manifest: Manifest) -> str:
    learning = manifest.learning
    part = "" if learning.n_parts == 1 else f", the first of {learning.n_parts} parts"
    packed = f"{learning.factors_per_byte} and {learning.gradients_per_byte} values a byte"
    return f"{n_items:,} items, d = {learning.n_factors}, {packed}{part}"


def _established_sessions(manifest: Manifest, n_items: int) -> tuple[Session, Session]:
    """Both ends of one connection, HELLO done."""
    one, other = Identity.generate(), Identity.generate()
    codec = Codec(manifest.learning, n_items)
    ends = [
        Session(own, manifest.swarm_id, remote.peer_id, codec, session_nonce=os.urandom(16), instance=os.urandom(16))
        for own, remote in ((one, other), (other, one))
    ]
    hellos = [end.encode(end.hello(listen_port=0, age_rounds=0, agent="bench")) for end in ends]
    ends[0].decode(hellos[1])
    ends[1].decode(hellos[0])
    return ends[0], ends[1]


async def _transport_figures(manifest: Manifest, offer: bytes) -> list[Figure]:
    """Mutual TLS 1.3 on loopback; both ends in this process, so the times are of both."""
    server, client = TlsTransport(Identity.generate(), manifest), TlsTransport(Identity.generate(), manifest)
    try:
        await server.listen("127.0.0.1", 0, _echo)
        handshakes = []
        for _ in range(N_HANDSHAKES):
            started = time.perf_counter()
            connection = await client.dial("127.0.0.1", server.listen_port, deadline_s=DEADLINE_S)
            handshakes.append(time.perf_counter() - started)
            await connection.close()
        connection = await client.dial("127.0.0.1", server.listen_port, deadline_s=DEADLINE_S)
        small, large = [await _round_trips(connection, frame) for frame in (bytes(1024), offer)]
    finally:
        await client.close()
        await server.close()
    return [
        Figure(
            "connect, mutual TLS 1.3", 1000 * statistics.median(handshakes), "ms", note="TCP and handshake, both ends"
        ),
        Figure("round trip of 1 kB", 1000 * small, "ms"),
        Figure("round trip of an offer", 1000 * large, "ms", note=f"{len(offer) / 1000:.0f} kB each way"),
    ]


async def _echo(connection: Connection) -> None:
    while True:
        await connection.send(await connection.receive(deadline_s=DEADLINE_S), deadline_s=DEADLINE_S)


async def _round_trips(connection: Connection, frame: bytes) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(N_ROUND_TRIPS):
        started = time.perf_counter()
        await connection.send(frame, deadline_s=DEADLINE_S)
        await connection.receive(deadline_s=DEADLINE_S)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _median_s(work: Callable[[], Any], n_times: int) -> float:
    seconds = []
    for _ in range(n_times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds ml-1m/ratings.csv.gz and items.csv.gz")
    films = load_films(parser.parse_args().data)
    print(films.source)
    show("Wire and transport", wire_figures(films.catalogue.keys, films.manifest()))


if __name__ == "__main__":
    main()
