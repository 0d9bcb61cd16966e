"""The control socket: format, bounds, and that no local client can stall the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2prec.api.client import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    ControlFailure,
    DaemonNotRunning,
    call,
)
from p2prec.api.control import ControlServer, Handler, answer
from p2prec.errors import StateError, StoreError, UsageError


def echo(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The handler of most tests: gives back what it was asked, or fails as it is told."""
    if command == "usage":
        raise UsageError("no such thing", remedy="ask for another")
    if command == "failed":
        raise StoreError("the disk is full")
    if command == "bug":
        raise ZeroDivisionError
    if command == "long":
        return {"text": "x" * int(arguments["length"])}
    return {"command": command, "arguments": arguments}


class Daemon:
    """A control server on an event loop in a thread of its own, as the blocking client meets it."""

    def __init__(self, path: Path, handler: Handler, **bounds: Any) -> None:
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.server = ControlServer(path, handler, **bounds)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.server.start)

    def run(self, coroutine: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine(), self.loop).result(10)

    def stop(self) -> None:
        self.run(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[Path]:
    """A short path: a Unix socket's is limited to about a hundred bytes, and tmp_path can be longer."""
    previous = Path.cwd()
    os.chdir(tmp_path)
    yield Path("control.sock")
    os.chdir(previous)


@pytest.fixture
def daemon(socket_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(socket_path, echo)
    yield daemon
    daemon.stop()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def read_line(connection: socket.socket) -> Any:
    with connection.makefile("rb") as lines:
        line = lines.readline()
    return json.loads(line) if line else None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_question_gets_its_answer(daemon: Daemon) -> None:
    assert call(daemon.path, "status", n=3, item="Amélie") == {
        "command": "status",
        "arguments": {"n": 3, "item": "Amélie"},
    }


def test_a_connection_carries_several_requests(daemon: Daemon) -> None:
    with connect(daemon.path) as connection, connection.makefile("rwb") as lines:
        for command in ("one", "two"):
            lines.write(json.dumps({"v": 1, "command": command, "arguments": {}}).encode() + b"\n")
            lines.flush()
            assert json.loads(lines.readline())["result"]["command"] == command


def test_a_half_closed_client_still_gets_its_answer(daemon: Daemon) -> None:
    with connect(daemon.path) as connection:
        connection.sendall(b'{"v":1,"command":"long","arguments":{"length":1000000}}\n')
        connection.shutdown(socket.SHUT_WR)
        assert len(read_line(connection)["result"]["text"]) == 1_000_000


def test_errors_reach_the_client_as_what_they_are(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="no such thing") as caught:
        call(daemon.path, "usage")
    assert caught.value.remedy == "ask for another"
    with pytest.raises(ControlFailure, match="disk is full"):
        call(daemon.path, "failed")
    with pytest.raises(ControlFailure, match="its log says why"):
        call(daemon.path, "bug")
    assert "ZeroDivisionError" in caplog.text
    assert call(daemon.path, "still", ok=True)["command"] == "still"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'{"command":"status"}\n',
        b'{"v":2,"command":"status"}\n',
        b'{"v":1,"command":7}\n',
        b'{"v":1,"command":"status","arguments":[]}\n',
        b'{"v":1,"command":"status","more":1}\n',
        b'{"v":1,"command":"\xff"}\n',
        b'{"v":1,"command":"status","arguments":{"a":' + b"[" * 50_000 + b"]" * 10 + b"}}\n",
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    response = json.loads(answer(line, echo))
    assert response["ok"] is False
    assert response["kind"] == "usage"
    assert "version 1" in response["error"]


def test_infinity_becomes_null() -> None:
    line = answer(b'{"v":1,"command":"x"}', lambda command, arguments: {"epsilon": float("inf"), "auc": float("nan")})
    assert json.loads(line)["result"] == {"epsilon": None, "auc": None}


def test_request_length_is_bounded_on_both_sides_of_the_bound(daemon: Daemon) -> None:
    head, tail = b'{"v":1,"command":"x","arguments":{"a":"', b'"}}\n'
    longest = head + b"a" * (MAX_REQUEST_BYTES - len(head) - len(tail)) + tail
    assert len(longest) == MAX_REQUEST_BYTES
    with connect(daemon.path) as connection:
        connection.sendall(longest)
        assert read_line(connection)["ok"] is True
    with connect(daemon.path) as connection:
        connection.sendall(longest[:-4] + b"a" + tail)
        assert "at most" in read_line(connection)["error"]


def test_a_line_without_end_is_refused_not_collected(daemon: Daemon) -> None:
    with connect(daemon.path) as connection:
        connection.sendall(b"x" * (2 * MAX_REQUEST_BYTES))
        assert "at most" in read_line(connection)["error"]


def test_the_client_refuses_to_send_too_long_a_request(socket_path: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        call(socket_path, "similar", item="x" * MAX_REQUEST_BYTES)


def test_response_length_is_bounded_on_both_sides_of_the_bound(daemon: Daemon) -> None:
    frame = len(b'{"ok":true,"result":{"text":""}}\n')
    assert len(call(daemon.path, "long", length=MAX_RESPONSE_BYTES - frame)["text"]) == MAX_RESPONSE_BYTES - frame
    with pytest.raises(UsageError, match="too long"):
        call(daemon.path, "long", length=MAX_RESPONSE_BYTES - frame + 1)


def test_the_socket_is_the_owners_alone_and_goes_with_the_daemon(socket_path: Path) -> None:
    daemon = Daemon(socket_path, echo)
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    daemon.stop()
    assert not socket_path.exists()
    with pytest.raises(DaemonNotRunning):
        call(socket_path, "status")


def test_closing_leaves_a_successors_socket_alone(socket_path: Path) -> None:
    first = Daemon(socket_path, echo)
    socket_path.unlink()
    second = Daemon(socket_path, lambda command, arguments: {"who": "second"})
    first.stop()
    assert call(socket_path, "status") == {"who": "second"}
    second.stop()


def test_a_dead_daemons_socket_is_replaced(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(socket_path))
    with pytest.raises(DaemonNotRunning):
        call(socket_path, "status")
    daemon = Daemon(socket_path, echo)
    assert call(socket_path, "status")["command"] == "status"
    daemon.stop()


def test_a_living_daemons_socket_is_not(daemon: Daemon) -> None:
    with pytest.raises(StateError, match="another daemon"):
        asyncio.run(ControlServer(daemon.path, echo).start())
    assert call(daemon.path, "status")["command"] == "status"


def test_nothing_but_a_socket_is_ever_removed(socket_path: Path) -> None:
    socket_path.write_text("precious")
    with pytest.raises(StateError, match="not a socket"):
        asyncio.run(ControlServer(socket_path, echo).start())
    assert socket_path.read_text() == "precious"


def test_a_path_that_cannot_be_bound_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot listen"):
        asyncio.run(ControlServer(tmp_path / "missing" / "control.sock", echo).start())


def test_one_client_too_many_is_told_so_and_the_next_after_a_departure_is_served(socket_path: Path) -> None:
    daemon = Daemon(socket_path, echo, max_clients=2)
    with connect(socket_path) as first, connect(socket_path) as second:
        for connection in (first, second):  # Answered, so counted.
            connection.sendall(b'{"v":1,"command":"x"}\n')
            assert read_line(connection)["ok"] is True
        with pytest.raises(ControlFailure, match="too many clients"):
            call(socket_path, "status")
        first.close()
        wait_until(lambda: daemon.server.n_clients == 1)
        assert call(socket_path, "status")["command"] == "status"
    daemon.stop()


def test_an_idle_client_is_closed_and_others_are_served_meanwhile(socket_path: Path) -> None:
    daemon = Daemon(socket_path, echo, idle_deadline_s=0.05)
    with connect(socket_path) as idle:
        idle.sendall(b'{"v":1,')
        assert call(socket_path, "status")["command"] == "status"
        assert idle.recv(1) == b""
    daemon.stop()


def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up(socket_path: Path) -> None:
    daemon = Daemon(socket_path, echo, write_deadline_s=0.05)
    with connect(socket_path) as deaf:
        deaf.sendall(b'{"v":1,"command":"long","arguments":{"length":4000000}}\n' * 4)
        assert call(socket_path, "status")["command"] == "status"
        wait_until(lambda: daemon.server.n_clients == 0)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := deaf.recv(1 << 20):
                received += len(chunk)
        assert received < 4_000_000
    daemon.stop()


def test_answers_take_at_most_half_of_the_loops_time(socket_path: Path) -> None:
    clock = FakeClock()

    async def flood() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        loop.time = clock.time  # type: ignore[method-assign]
        server = ControlServer(socket_path, clock.busy)
        for _ in range(20):
            # Virtual time: a rest is over when the loop has slept for as long as the answer took.
            task = asyncio.create_task(server._answer(b'{"v":1,"command":"x"}'))
            await asyncio.sleep(0)
            assert not task.done()
            clock.now += clock.took + 0.001
            await task
        return clock.busy_s, clock.now

    busy_s, elapsed_s = asyncio.run(flood())
    assert busy_s <= elapsed_s / 2


class FakeClock:
    """Virtual time, in which answering takes half a second."""

    took = 0.5

    def __init__(self) -> None:
        self.now = 0.0
        self.busy_s = 0.0

    def time(self) -> float:
        return self.now

    def busy(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.now += self.took
        self.busy_s += self.took
        return {}


def test_closing_cuts_off_clients_and_is_safe_twice(socket_path: Path) -> None:
    daemon = Daemon(socket_path, echo)
    with connect(socket_path) as client:
        client.sendall(b'{"v":1,"command":"x"}\n')
        assert read_line(client)["ok"] is True
        daemon.run(daemon.server.close)
        daemon.run(daemon.server.close)
        assert client.recv(1) == b""
    daemon.stop()


class FakeDaemon:
    """Accepts one connection on a Unix socket and answers it with fixed bytes, or with nothing for `hold`."""

    def __init__(self, path: Path, response: bytes | None) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(response,), daemon=True)
        self._thread.start()

    def _serve(self, response: bytes | None) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            if response is None:
                self._done.wait(10)
            else:
                connection.sendall(response)

    def stop(self) -> None:
        self._done.set()
        self._thread.join(10)
        self._listener.close()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (None, "within 0.05 s"),
        (b"", "broke off"),
        (b'{"ok":true', "broke off"),
        (b"not json\n", "not understood"),
        (b"[]\n", "not understood"),
        (b'{"ok":true,"result":[]}\n', "not understood"),
        (b'{"ok":false}\n', "not understood"),
        (b'{"ok":false,"error":"something"}\n', "something"),
        (b"x" * (MAX_RESPONSE_BYTES + 1), "longer than"),
    ],
)
def test_the_client_survives_any_answer(socket_path: Path, response: bytes | None, message: str) -> None:
    fake = FakeDaemon(socket_path, response)
    with pytest.raises(ControlFailure, match=message):
        call(socket_path, "status", deadline_s=0.05 if response is None else 10)
    fake.stop()


def test_a_socket_path_that_is_none_is_nobody_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DaemonNotRunning):
        call(tmp_path / "file" / "control.sock", "status")


def test_the_client_loads_neither_asyncio_nor_numpy() -> None:
    code = "import p2prec.api.client, sys; print(sorted({'asyncio', 'numpy', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
