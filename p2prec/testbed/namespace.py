"""A container's network, disturbed from outside: the container needs no rights and no tools for it.

Needs root on the machine that the containers run on, and its `nsenter`, `iptables`, `tc` and `ip`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from p2prec.errors import P2PRecError, UsageError

LINK = "eth0"
TOOLS = ("nsenter", "iptables", "tc", "ip")
DEADLINE_S = 20.0


def require_rights() -> None:
    """Raises UsageError where networks of containers cannot be disturbed."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        reason = f"there is no {missing[0]}" if missing else "this is not root"
        raise UsageError(
            f"faults of the network cannot be made: {reason}",
            remedy="run this as root on the machine of the container engine; faults of CPU, restarts and clocks need no rights",
        )


class Network:
    """The network namespace of one process. Raises P2PRecError when that is this process's own: never cut that off."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        try:
            theirs, ours = ((proc / str(which) / "ns" / "net").readlink() for which in (pid, "self"))
        except OSError as error:
            raise P2PRecError(
                f"the network of process {pid} cannot be reached; does the engine run elsewhere?"
            ) from error
        if theirs == ours:
            raise P2PRecError(f"process {pid} shares this machine's network; it is left alone")
        self._enter = ["nsenter", "--target", str(pid), "--net"]

    def lose(self, probability: float) -> None:
        """Lose a share of the packets that arrive."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", f"{probability:g}"]
        self._run("iptables", "-A", "INPUT", "-i", LINK, *chance, "-j", "DROP")

    def refuse(self, addresses: Iterable[str]) -> None:
        """Lose whatever comes from these addresses."""
        for address in addresses:
            self._run("iptables", "-A", "INPUT", "-i", LINK, "-s", address, "-j", "DROP")

    def delay(self, delay_ms: int, jitter_ms: int, narrow_kbit: int) -> bool:
        """Let packets that leave wait; False when the kernel cannot (no netem), and the link was made narrow instead."""
        netem = ("netem", "delay", f"{delay_ms}ms", f"{jitter_ms}ms")
        if self._tries("tc", "qdisc", "replace", "dev", LINK, "root", *netem):
            return True
        narrow = ("tbf", "rate", f"{narrow_kbit}kbit", "burst", "16kb", "latency", "2s")
        self._run("tc", "qdisc", "replace", "dev", LINK, "root", *narrow)
        return False

    def link(self, *, up: bool) -> None:
        """Connect or disconnect."""
        self._run("ip", "link", "set", LINK, "up" if up else "down")

    def heal(self) -> None:
        """As it was: whatever of the above was done."""
        self._run("iptables", "-F", "INPUT")
        self._tries("tc", "qdisc", "del", "dev", LINK, "root")
        self.link(up=True)

    def _run(self, *command: str) -> None:
        done = self._call(command)
        if done.returncode:
            raise P2PRecError(f"{' '.join(command)} failed in the container: {done.stderr.strip()[-300:]}")

    def _tries(self, *command: str) -> bool:
        return self._call(command).returncode == 0

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._enter, *command], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
