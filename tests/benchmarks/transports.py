"""TLS and libp2p side by side: what a connection, a frame, a daemon and an installation cost (`make bench-transports`).

The two ends of a connection are two processes on loopback, so that neither waits for the other's interpreter; the transports take
turns, and of several runs the median counts. Three daemons run on this machine with MovieLens-1M's catalogue (bench.py). `--json`
keeps the figures; the table goes into docs/transports.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from daemons import cpu_time, make_device, memory_bytes, running
from figures import machine
from films import Films, load_films
from packaging.requirements import Requirement

from p2prec.config import TransportKind
from p2prec.identity import Identity
from p2prec.manifest import CatalogueReference, Manifest
from p2prec.transport.base import Connection, Transport
from p2prec.transport.choice import make_transport

HOST = "127.0.0.1"
DEADLINE_S = 60.0
SMALL_BYTES, LARGE_BYTES, BULK_BYTES = 1 << 10, 300_000, 1_000_000
N_CONNECTS, N_ROUND_TRIPS, N_BULK = 30, 200, 100
N_RUNS = 5
N_IDLE = 100
"""Connections held open to see what each weighs."""
SETTLE_S, WATCH_S = 45.0, 60.0
"""Daemons first measure their quality after 30 s."""

Row = tuple[str, str]
"""What was measured, and its unit."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The dialling end, in this process, and the echoing one, in another."""

    kind: TransportKind
    transport: Transport
    port: int
    pid: int

    async def connect(self) -> Connection:
        return await self.transport.dial(HOST, self.port, deadline_s=DEADLINE_S)

    def cpu_s(self) -> float:
        """Of both ends, in steps of 10 ms."""
        return time.process_time() + cpu_time(self.pid).own_s


def measure_connections(kind: TransportKind) -> dict[Row, float]:
    """What the transport itself costs, without a daemon."""
    with _echoing(kind) as (port, pid):
        return asyncio.run(_measure_connections(kind, port, pid))


async def _measure_connections(kind: TransportKind, port: int, pid: int) -> dict[Row, float]:
    ends = Ends(kind, make_transport(kind, Identity.generate(), _manifest(), None), port, pid)
    connection = await ends.connect()  # the first one pays for starting the thread
    found: dict[Row, float] = {}
    seconds, cpu_s = await _timed(ends, N_CONNECTS, lambda: _connect_and_close(ends))
    found["connect", "ms"] = 1000 * seconds
    found["CPU of a connect, both ends", "ms"] = 1000 * cpu_s
    for n_bytes, name in ((SMALL_BYTES, "1 KB"), (LARGE_BYTES, "300 KB")):
        frame = bytes(n_bytes)
        seconds, cpu_s = await _timed(ends, N_ROUND_TRIPS, lambda frame=frame: _round_trip(connection, frame))  # type: ignore[misc]
        found[f"round trip of {name}", "ms"] = 1000 * seconds
        if n_bytes == LARGE_BYTES:
            found["CPU of an exchange (300 KB each way), both ends", "ms"] = 1000 * cpu_s
    found["throughput, one way", "MB/s"] = await _throughput(connection)
    before = memory_bytes(pid, "VmRSS")
    held = [await ends.connect() for _ in range(N_IDLE)]
    await asyncio.sleep(1.0)
    found["memory of an idle connection, one end", "KB"] = (memory_bytes(pid, "VmRSS") - before) / N_IDLE / 1000
    del held
    await ends.transport.close()
    return found


async def _timed(ends: Ends, n_times: int, work: Callable[[], Coroutine[Any, Any, None]]) -> tuple[float, float]:
    """(median seconds, mean CPU seconds of both ends) of doing something once."""
    seconds = []
    cpu_before = ends.cpu_s()
    for _ in range(n_times):
        started = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), (ends.cpu_s() - cpu_before) / n_times


async def _connect_and_close(ends: Ends) -> None:
    """Counts as connected when the first frame has come back, as it does for the daemon."""
    connection = await ends.connect()
    await _round_trip(connection, b"hello")
    await connection.close()


async def _round_trip(connection: Connection, frame: bytes) -> None:
    await connection.send(frame, deadline_s=DEADLINE_S)
    await connection.receive(deadline_s=DEADLINE_S)


async def _throughput(connection: Connection) -> float:
    """Megabytes a second, as fast as the other end takes them."""
    started = time.perf_counter()

    async def send() -> None:
        for _ in range(N_BULK):
            await connection.send(bytes(BULK_BYTES), deadline_s=DEADLINE_S)

    sending = asyncio.create_task(send())
    for _ in range(N_BULK):
        await connection.receive(deadline_s=DEADLINE_S)
    await sending
    return N_BULK * BULK_BYTES / 1e6 / (time.perf_counter() - started)


@contextmanager
def _echoing(kind: TransportKind) -> Iterator[tuple[int, int]]:
    """The other end, in a process of its own: (port, process id)."""
    command = [sys.executable, __file__, "--echo", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.communicate()  # the end of its input ends it


async def _echo(kind: TransportKind) -> None:
    """Send every frame back; of those that only measure throughput, nothing."""

    async def serve(connection: Connection) -> None:
        while True:
            frame = await connection.receive(deadline_s=DEADLINE_S)
            await connection.send(b"" if len(frame) == BULK_BYTES else frame, deadline_s=DEADLINE_S)

    transport = make_transport(kind, Identity.generate(), _manifest(), None)
    await transport.listen(HOST, 0, serve)
    print(transport.listen_port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await transport.close()


def measure_daemons(kind: TransportKind, films: Films) -> dict[Row, float]:
    """Three daemons that know each other; figures of the one that dials both others."""
    manifest = films.manifest()
    with tempfile.TemporaryDirectory(prefix="p2prec-bench-") as name, ExitStack() as swarm:
        devices = [make_device(Path(name) / f"device-{n}", manifest, history) for n, history in enumerate(films.people)]
        fixed = ("--no-mdns", "--transport", kind)
        with running(devices[0], *fixed):
            pass  # the first start of all compiles
        others = [swarm.enter_context(running(device, *fixed)) for device in devices[1:]]
        named = [text for other in others for text in ("--peer", other.address)]
        daemon = swarm.enter_context(running(devices[0], *fixed, *named))
        time.sleep(SETTLE_S)
        before, began, rounds = daemon.cpu.own_s, time.monotonic(), daemon.device.status()["rounds"]
        time.sleep(WATCH_S)
        status, share = daemon.device.status(), (daemon.cpu.own_s - before) / (time.monotonic() - began)
        if status["neighbours"] != len(others) or status["rounds"] == rounds:
            raise RuntimeError(f"the daemons have not learned together: {status}")
        return {
            ("daemon: memory with two neighbours", "MB"): daemon.rss_bytes / 1e6,
            ("daemon: CPU until it is ready", "s"): daemon.ready.own_s,
            ("daemon: time until it is ready", "s"): daemon.ready_s,
            ("daemon: CPU at rounds of 10 s", "%"): 100 * share,
        }


def measure_installs() -> dict[TransportKind, dict[Row, float]]:
    """Bytes on disk of p2prec with everything that it requires, as installed here."""
    base, full = installed_files("p2prec", ""), installed_files("p2prec", "libp2p")
    return {
        kind: {("packages installed", ""): len(closure), ("install size", "MB"): sum(closure.values()) / 1e6}
        for kind, closure in ((TransportKind.TLS, base), (TransportKind.LIBP2P, full))
    }


def installed_files(name: str, extra: str) -> dict[str, int]:
    """Bytes of each distribution that `name[extra]` needs, by name; what is compiled to bytecode when it runs not counted."""
    sizes: dict[str, int] = {}
    waiting = [(name, extra)]
    while waiting:
        current, with_extra = waiting.pop()
        distribution = metadata.distribution(current)
        key = distribution.metadata["Name"].lower().replace("_", "-")
        if key in sizes and not with_extra:
            continue
        paths = [Path(str(file.locate())) for file in distribution.files or [] if file.suffix != ".pyc"]
        sizes[key] = sum(path.stat().st_size for path in paths if path.is_file())
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": with_extra}):
                waiting += [(requirement.name, one) for one in ("", *requirement.extras)]
    return sizes


def _manifest() -> Manifest:
    return Manifest(name="bench", catalogue=CatalogueReference(digest="00" * 32, n_items=1, data=""), seed="00" * 32)


def markdown(measured: dict[TransportKind, dict[Row, float]]) -> str:
    """The table of docs/transports.md."""
    lines = ["| | TLS 1.3 | libp2p | |", "|---|---:|---:|---:|"]
    for row in measured[TransportKind.TLS]:
        tls, libp2p = (measured[kind][row] for kind in (TransportKind.TLS, TransportKind.LIBP2P))
        name, unit = row
        lines.append(f"| {name} | {tls:.3g} {unit} | {libp2p:.3g} {unit} | x {libp2p / tls:.2g} |".replace("  ", " "))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds ml-1m/ratings.csv.gz and items.csv.gz")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--echo", type=TransportKind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo is not None:
        asyncio.run(_echo(options.echo))
        return
    films = load_films(options.data)
    print(films.source, ", ".join(f"{name} {value}" for name, value in machine().items()), sep="; ", end="\n\n")
    installs = measure_installs()
    runs = [{kind: measure_connections(kind) for kind in TransportKind} for _ in range(N_RUNS)]
    measured = {}
    for kind in TransportKind:
        connections = {row: statistics.median(run[kind][row] for run in runs) for row in runs[0][kind]}
        measured[kind] = {**connections, **measure_daemons(kind, films), **installs[kind]}
    print(markdown(measured))
    if options.json is not None:
        figures = {kind: {f"{name}, {unit}": v for (name, unit), v in rows.items()} for kind, rows in measured.items()}
        report = {"machine": machine(), "data": films.source, "figures": figures}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
