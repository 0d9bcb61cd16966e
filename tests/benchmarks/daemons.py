"""Real daemons as processes of their own, and what the kernel says about them (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2prec import manifest as manifests
from p2prec.api.client import ControlFailure, DaemonNotRunning, call
from p2prec.data.interactions import Interaction
from p2prec.manifest import Manifest
from p2prec.storage.state import StateDirectory

ROOT = Path(__file__).parents[2]
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0
_POLL_S = 0.02
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time of a process since it began, user and system, in seconds."""

    own_s: float
    children_s: float
    """Of the processes that it has started and waited for."""


@dataclass(frozen=True, slots=True)
class Device:
    """A state directory with one person's history, and the environment of its commands."""

    state: Path
    manifest_path: Path
    environment: dict[str, str]

    @property
    def socket(self) -> Path:
        return StateDirectory(self.state).control_socket_path

    def status(self) -> dict[str, Any]:
        return call(self.socket, "status")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run `p2prec ARGUMENTS --state ...` to its end. Raises CalledProcessError."""
        line = [sys.executable, "-m", "p2prec", *arguments, "--state", str(self.state)]
        return subprocess.run(line, env=self.environment, cwd=ROOT, check=True, capture_output=True, timeout=60)


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that answers."""

    device: Device
    process: subprocess.Popen[bytes]
    ready: CpuTime
    """Spent between exec and the first answer of the control socket."""
    ready_s: float
    """The same by the clock on the wall."""

    @property
    def cpu(self) -> CpuTime:
        return cpu_time(self.process.pid)

    @property
    def rss_bytes(self) -> int:
        return memory_bytes(self.process.pid, "VmRSS")

    @property
    def peak_bytes(self) -> int:
        return memory_bytes(self.process.pid, "VmHWM")

    @property
    def address(self) -> str:
        return str(self.device.status()["listen"])


def make_device(folder: Path, manifest: Manifest, history: Sequence[Interaction]) -> Device:
    """A new device that has joined the swarm and knows its owner's history; its bytecode cache is its own, and empty."""
    folder.mkdir()
    manifest_path = folder / "swarm.toml"
    manifest_path.write_text(manifests.dump(manifest), encoding="utf-8")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    device = Device(folder / "state", manifest_path, environment)
    directory = StateDirectory.open(device.state)
    with directory.open_store() as store:
        store.add_interactions(history)
    return device


@contextlib.contextmanager
def running(device: Device, *arguments: str) -> Iterator[Running]:
    """Start the device's daemon, wait until it answers, and stop it in the end."""
    line = [sys.executable, "-m", "p2prec", "start", "--state", str(device.state)]
    line += ["--swarm", str(device.manifest_path), "--listen", "127.0.0.1:0", *arguments]
    log = device.state.parent / "daemon.log"
    started = time.monotonic()
    with log.open("ab") as stderr:
        process = subprocess.Popen(line, env=device.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        ready = _wait_until_ready(device, process, log)
        yield Running(device, process, ready, time.monotonic() - started)
    finally:
        _stop(process)


def cpu_time(pid: int) -> CpuTime:
    """From /proc/PID/stat, fields 14 to 17 (proc(5)); the command in field 2 may hold spaces and parentheses."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) / _TICKS_PER_S for field in fields[11:15])
    return CpuTime(user + system, children_user + children_system)


def memory_bytes(pid: int, name: str) -> int:
    """A line of /proc/PID/status: VmRSS (now) or VmHWM (its peak)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no {name}")


def _wait_until_ready(device: Device, process: subprocess.Popen[bytes], log: Path) -> CpuTime:
    deadline = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            device.status()
        except (DaemonNotRunning, ControlFailure):
            time.sleep(_POLL_S)
        else:
            return cpu_time(process.pid)
    raise RuntimeError(f"the daemon was not ready within {READY_DEADLINE_S:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
