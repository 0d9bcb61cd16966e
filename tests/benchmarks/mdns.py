"""What discovery by multicast costs when many peers of one network start together.

    sudo python tests/benchmarks/mdns.py --peers 100            # Linux, as root: a network namespace for each peer

Every peer is a machine of its own on a bridged network (its own port 5353), but all run in this one process, so that its CPU time
is the whole swarm's. Peers start within `--within` seconds. Printed: when all had found all, and for each peer the datagrams that
reached it, those that its socket had no room for, and the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from lan import Lan

from p2prec.daemon.accounting import network_usage
from p2prec.discovery.base import Announcement, Sighting
from p2prec.discovery.mdns import MdnsDiscovery
from p2prec.types import PeerId, SwarmId

_CLONE_NEWNET = 0x40000000
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SWARM = SwarmId(bytes(32))


class Machine:
    """One peer's discovery, on one machine of the network."""

    def __init__(self, lan: Lan, number: int) -> None:
        self._lan = lan
        self._number = number
        self.discovery = MdnsDiscovery(interfaces=[lan.address(number)], address_poll_s=3600.0)
        self.met: set[str] = set()
        self.complete_at: float | None = None

    async def start(self, n_peers: int) -> None:
        tail = _BASE58[self._number // 58] + _BASE58[self._number % 58]
        announcement = Announcement(
            SWARM, PeerId("12D3KooW" + "1" * 42 + tail), self._number.to_bytes(16, "big"), 4000 + self._number
        )

        def sighted(sighting: Sighting) -> None:
            self.met.add(sighting.peer_id)
            if len(self.met) == n_peers - 1 and self.complete_at is None:
                self.complete_at = time.monotonic()

        self.discovery.announce(announcement, sighted, lambda _: None)
        # Sockets belong to the namespace in which they are made: before the discovery's task first waits for anything.
        with inside(self._lan, self._number):
            await self.discovery.start()
            await asyncio.sleep(0)

    def network(self) -> dict[str, int]:
        with inside(self._lan, self._number):
            found = network_usage(Path(f"/proc/self/task/{os.getpid()}/net"))
        assert found is not None
        return found


@contextmanager
def inside(lan: Lan, number: int) -> Iterator[None]:
    """Run the block's system calls on one machine of the network."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{lan.name}-{number}", os.O_RDONLY)
    try:
        if setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        setns(home, _CLONE_NEWNET)
        os.close(there)
        os.close(home)


async def measure(lan: Lan, n_peers: int, within_s: float, seconds: float, seed: int) -> dict[str, Any]:
    machines = [Machine(lan, number) for number in range(1, n_peers + 1)]
    rng = random.Random(seed)
    began, cpu_began = time.monotonic(), time.process_time()
    starts = sorted((rng.uniform(0, within_s), machine) for machine in machines) if within_s else []
    for start_s, machine in starts or [(0.0, machine) for machine in machines]:
        await asyncio.sleep(max(0.0, began + start_s - time.monotonic()))
        await machine.start(n_peers)
    started = time.monotonic()
    while time.monotonic() - started < seconds and any(machine.complete_at is None for machine in machines):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    found_all_s = [m.complete_at - started for m in machines if m.complete_at is not None]
    cpu_found = time.process_time()
    await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
    cpu_ended = time.process_time()
    counts = [machine.network() for machine in machines]
    report = {
        "peers": n_peers,
        "complete": len(found_all_s),
        "found_all_s": round(max(found_all_s, default=0.0), 1),
        "cpu_s_until_found": round(cpu_found - cpu_began, 2),
        "cpu_s": round(cpu_ended - cpu_began, 2),
        **{name: round(sum(one[name] for one in counts) / n_peers, 1) for name in counts[0] if "datagrams" in name},
    }
    await asyncio.gather(*(machine.discovery.close() for machine in machines))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=100, help="2 to 250")
    parser.add_argument("--within", type=float, default=0.0, metavar="S", help="start them spread over so many seconds")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look after the last start")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lan = Lan(arguments.peers)
    try:
        lan.build()
        print(
            json.dumps(asyncio.run(measure(lan, arguments.peers, arguments.within, arguments.seconds, arguments.seed)))
        )
    finally:
        lan.remove()


if __name__ == "__main__":
    main()
