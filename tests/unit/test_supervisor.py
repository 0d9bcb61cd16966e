"""What a service manager is told, as systemd would receive it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2prec.daemon.supervisor import Supervisor

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket and what it puts into NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        if request.param == "path":
            previous = Path.cwd()
            os.chdir(tmp_path)  # a Unix socket's path is limited to about a hundred bytes, and tmp_path can be longer
            address = "notify"
        else:
            address = f"@p2prec-test-{os.getpid()}"
        listener.bind(address.replace("@", "\0"))
        listener.settimeout(30)
        yield listener, address
        if request.param == "path":
            os.chdir(previous)


def test_it_is_told_in_one_datagram(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    supervisor = Supervisor.of({"NOTIFY_SOCKET": address}, PID)
    assert supervisor.listens
    supervisor.tell("READY=1", "STATUS=running")
    assert listener.recv(1000) == b"READY=1\nSTATUS=running"


def test_ready_comes_first_and_then_signs_of_life(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    supervisor = Supervisor.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000"}, PID)
    heard: list[bytes] = []

    async def whole() -> None:
        following = asyncio.create_task(supervisor.follow(lambda: "running, 3 neighbours"))
        for _ in range(3):
            heard.append(await asyncio.to_thread(listener.recv, 1000))
        following.cancel()

    asyncio.run(whole())
    first, second, third = heard
    assert first == b"READY=1\nSTATUS=running, 3 neighbours"
    assert second == third == b"WATCHDOG=1\nSTATUS=running, 3 neighbours"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(PID)}, 120.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(PID + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_or_none(environment: dict[str, str], watchdog_s: float | None) -> None:
    assert Supervisor.of(environment, PID).watchdog_s == watchdog_s


def test_nobody_there_or_nobody_listening_is_no_trouble(tmp_path: Path) -> None:
    assert not Supervisor.of({}, PID).listens
    Supervisor.of({}, PID).tell("READY=1")
    Supervisor.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID).tell("READY=1")
