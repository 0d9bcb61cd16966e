"""Tells a service manager how the daemon is: ready, alive, stopping (the protocol of sd_notify(3), one datagram a message).

Where nothing asks to be told (no NOTIFY_SOCKET), nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping

STATUS_EVERY_S = 30.0
"""How often the status line is renewed where there is no watchdog that wants to hear more often."""


class Supervisor:
    """One service manager's socket, of which nothing is believed and for which nothing waits."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """address: path of a datagram socket, or `@name` for an abstract one; empty: nobody listens. watchdog_s: silence
        after which the manager takes the daemon for hung, None for never."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Supervisor:
        """What the manager has told this process in its environment. A watchdog meant for another process is not ours."""
        watched = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(watched) / 1e6 if watched.isdecimal() and int(watched) and meant else None
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    @property
    def listens(self) -> bool:
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Send `NAME=VALUE` lines. A manager that does not take them is not waited for."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifying:
            notifying.setblocking(False)
            with contextlib.suppress(OSError):  # it is gone or swamped, and the daemon's work does not depend on it
                notifying.sendto("\n".join(lines).encode(), self._address)

    async def follow(self, status: Callable[[], str]) -> None:
        """Say that the daemon is ready, then again and again that its event loop is alive, and what it does. Until cancelled."""
        every_s = STATUS_EVERY_S if self.watchdog_s is None else min(STATUS_EVERY_S, self.watchdog_s / 3)
        self.tell("READY=1", f"STATUS={status()}")
        while True:
            await asyncio.sleep(every_s)
            self.tell("WATCHDOG=1", f"STATUS={status()}")


def supervisor() -> Supervisor:
    """This process's."""
    return Supervisor.of(os.environ, os.getpid())
