"""Several machines on one local network, on this one: network namespaces joined by a bridge. Needs root and `ip`."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass, field

_numbers = itertools.count()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Lan:
    """Machine n has the address 10.77.0.n and nothing else to talk to."""

    machines: int
    name: str = field(default_factory=lambda: f"p2prec-{os.getpid()}-{next(_numbers)}")

    def build(self) -> None:
        """Raises OSError or CalledProcessError where this may not be done."""
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        ip("-n", self.name, "link", "set", "bridge", "up")
        for number in range(1, self.machines + 1):
            machine, port = f"{self.name}-{number}", f"port{number}"
            ip("netns", "add", machine)
            ip("link", "add", port, "netns", self.name, "type", "veth", "peer", "name", "eth0", "netns", machine)
            ip("-n", self.name, "link", "set", port, "master", "bridge", "up")
            ip("-n", machine, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            ip("-n", machine, "link", "set", "lo", "up")
            ip("-n", machine, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for name in (self.name, *(f"{self.name}-{number}" for number in range(1, self.machines + 1))):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def address(self, number: int) -> str:
        return f"10.77.0.{number}"

    def on_machine(self, number: int) -> list[str]:
        """What to put in front of a command that is to run there."""
        return ["ip", "netns", "exec", f"{self.name}-{number}"]

    def plug(self, number: int, *, into_switch: bool) -> None:
        """Pull the machine's cable out of the switch, or put it back; the machine itself does not notice."""
        where = ("master", "bridge") if into_switch else ("nomaster",)
        ip("-n", self.name, "link", "set", f"port{number}", *where)
