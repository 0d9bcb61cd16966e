"""One process of the demo: hosts several daemons on one event loop, reports on stdout, obeys stdin.

`python -m p2prec.demo.worker PLAN`. Every second it writes a line `{"progress": [...]}`; when it reads `finish` (or the end of
its input) it writes `{"final": [...]}`, stops its daemons and exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2prec.api.live import LiveAnswers
from p2prec.config import DaemonSettings
from p2prec.daemon import log
from p2prec.daemon.daemon import Daemon, load, open_daemon
from p2prec.daemon.process import rss_bytes
from p2prec.data.interactions import Interaction
from p2prec.demo.plan import HOLDOUT_FRACTION, PlannedPeer, WorkerPlan
from p2prec.discovery.mdns import MdnsDiscovery
from p2prec.peer.events import Event, PeerSighted
from p2prec.storage import invitation
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey

LOOPBACK = "127.0.0.1"
REPORT_EVERY_S = 1.0


@dataclass(slots=True)
class Hosted:
    """One daemon of this process."""

    planned: PlannedPeer
    daemon: Daemon
    answers: LiveAnswers
    sighted: Counter[str]
    """Peers heard of for the first time, by source."""
    all_sighted_s: float | None = None
    """Seconds from the process's start until it had heard of every other peer."""


def host(planned: PlannedPeer, plan: WorkerPlan, discovery: MdnsDiscovery) -> Hosted:
    """Give a person a device: state directory, swarm, history, daemon."""
    directory = StateDirectory.open(Path(plan.directory) / "peers" / f"{planned.number:04d}")
    directory.join(invitation.load(Path(plan.manifest_path)))
    loaded = load(directory)
    rows = zip(planned.items, planned.values, planned.times, strict=True)
    loaded.store.add_interactions(Interaction(ItemKey(item), "rating", value, when) for item, value, when in rows)
    settings = DaemonSettings(
        listen_host=LOOPBACK,
        quality_every_s=10.0,
        holdout_fraction=HOLDOUT_FRACTION,
        holdout_secret=planned.holdout_secret,
    )
    sighted: Counter[str] = Counter()

    def on_event(event: Event) -> None:
        if isinstance(event, PeerSighted):
            sighted[event.source] += 1

    daemon = open_daemon(loaded, settings, discovery, on_event)
    return Hosted(planned, daemon, LiveAnswers(daemon), sighted)


class Worker:
    """Runs the hosted daemons and talks to the parent."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._started = time.monotonic()
        self._hosted: list[Hosted] = []
        self._finish = asyncio.Event()

    async def run(self) -> None:
        discovery = MdnsDiscovery(interfaces=[LOOPBACK], on_trouble=self._trouble)
        await discovery.start()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), self._read)
        running = []
        for planned in self._plan.peers:
            hosted = host(planned, self._plan, discovery)
            self._hosted.append(hosted)
            running.append(asyncio.create_task(hosted.daemon.run()))
            await asyncio.sleep(0)
        reporting = asyncio.create_task(self._report_regularly())
        finishing = asyncio.create_task(self._finish.wait())
        await asyncio.wait([finishing, reporting, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done():
                task.result()  # a daemon that ended before it was asked to has failed
        reporting.cancel()
        for hosted in self._hosted:
            hosted.daemon.measure_quality()
        write({"final": [self._final(hosted) for hosted in self._hosted], **self._process()})
        for hosted in self._hosted:
            hosted.daemon.stop()
        await asyncio.gather(*running)
        await discovery.close()

    def _read(self) -> None:
        # Whatever the parent says, or its end, is the end.
        with contextlib.suppress(OSError):
            os.read(sys.stdin.fileno(), 64)
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._finish.set()

    def _trouble(self, trouble: object) -> None:
        if trouble is not None:
            print(f"discovery: {trouble}", file=sys.stderr)

    async def _report_regularly(self) -> None:
        while True:
            write({"progress": [self._progress(hosted) for hosted in self._hosted]})
            await asyncio.sleep(REPORT_EVERY_S)

    def _process(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"rss_bytes": rss_bytes(), "cpu_s": usage.ru_utime + usage.ru_stime}

    def _progress(self, hosted: Hosted) -> dict[str, Any]:
        daemon = hosted.daemon
        if hosted.all_sighted_s is None and daemon.peer.book.peers_seen >= self._plan.n_peers - 1:
            hosted.all_sighted_s = time.monotonic() - self._started
        return {
            "seen": daemon.peer.book.peers_seen,
            "neighbours": len(daemon.peer.neighbours),
            "rounds": daemon.peer.rounds,
            "ndcg": daemon.quality.ndcg_at_10 if daemon.quality else None,
        }

    def _final(self, hosted: Hosted) -> dict[str, Any]:
        final = {
            "number": hosted.planned.number,
            "name": hosted.planned.name,
            "status": hosted.answers.status(),
            "sighted": dict(hosted.sighted),
            "all_sighted_s": hosted.all_sighted_s,
        }
        if hosted.planned.number == self._plan.shown:
            final["recommendations"] = hosted.answers.recommend(10)["recommendations"]
        return final


def write(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    log.set_up("text")
    log.logger.setLevel("WARNING")
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerPlan)
    asyncio.run(Worker(plan).run())


if __name__ == "__main__":
    main()
