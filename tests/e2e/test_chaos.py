"""Kill -9 at random moments under load, and a disk that fills up: what was acknowledged is there, and the peer goes on."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from devices import DEADLINE_S, QUICK, Device, MakeDevice, make_manifest, until

from p2prec.manifest import Manifest

WRITER = Path(__file__).with_name("writer.py")
BUSY_ROUND_S = 0.05
UNDER_LOAD: dict[str, Any] = {"snapshot_every_s": 0.2, "quality_every_s": 0.3, "quick": QUICK}


@pytest.fixture(scope="module")
def busy() -> Manifest:
    """A swarm with twenty rounds a second: as many ledger rows, and five snapshots."""
    manifest = make_manifest("busy")
    learning = msgspec.structs.replace(manifest.learning, round_interval_s=BUSY_ROUND_S)
    return msgspec.structs.replace(manifest, learning=learning)


@dataclass
class Writer:
    """The writing process, started and killed again and again, and what it was told is safe."""

    device: Device
    environment: dict[str, str]
    acknowledged: set[int] = field(default_factory=set)
    runs: int = 0
    _next: int = 1
    _process: subprocess.Popen[bytes] | None = None
    _output: Path = Path()

    def start(self) -> None:
        self.runs += 1
        self._output = self.device.path.with_name(f"writer-{self.runs}.out")
        with self._output.open("wb") as output:
            command = [sys.executable, str(WRITER), str(self.device.path), str(self._next)]
            self._process = subprocess.Popen(command, stdout=output, env=self.environment)

    def collect(self) -> None:
        """Take note of the acknowledgements so far; each is older than now."""
        for line in self._output.read_text(encoding="ascii").splitlines(keepends=True):
            if line.endswith("\n"):
                first, last = map(int, line.split())
                self.acknowledged.update(range(first, last + 1))
                self._next = max(self._next, last + 1)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, "the writer failed"
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self.collect()
        self._next += 1000  # the batch that was under way may be stored or not; its numbers are not used again


@dataclass
class Disk:
    """What is in the store, read without any of the code under test."""

    integrity: str
    interactions: set[int]
    contributions: int
    ledger_rows: int


def read_disk(device: Device) -> Disk:
    with contextlib.closing(sqlite3.connect(device.directory.store_path, timeout=DEADLINE_S)) as connection:
        connection.execute("BEGIN")
        rows = connection.execute("SELECT time FROM interaction WHERE event = 'play'").fetchall()
        last, count = connection.execute("SELECT ifnull(max(contribution), 0), count(*) FROM ledger").fetchone()
        connection.execute("COMMIT")
        integrity = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    return Disk(integrity, {int(time) for (time,) in rows}, last, count)


def told_contributions(device: Device) -> int:
    """The highest contribution that the daemon has ever spoken of."""
    return max((int(e["contribution"]) for e in device.events("Contributed")), default=0)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9_under_load_loses_nothing(
    make_device: MakeDevice,
    busy: Manifest,
    clean_environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    kills: int,
) -> None:
    chance = random.Random(kills)
    victim, neighbour = make_device("victim", joined=busy), make_device("neighbour", joined=busy)
    neighbour.log_plays(range(0, 60, 2))
    neighbour.serve(**UNDER_LOAD)
    writer = Writer(victim, clean_environment)
    writer.start()
    contributions = 0
    lost: set[int] = set()
    early = 0
    for _ in range(kills):
        victim.serve(neighbour, ready=False, **UNDER_LOAD)
        if chance.random() < 0.75:
            exchanges_of(victim)
        else:
            early += 1
        time.sleep(chance.uniform(0.0, 0.8))  # not a wait for anything: the random moment
        if chance.random() < 0.4:
            writer.kill()
            victim.kill()
            writer.start()
        else:
            victim.kill()
        writer.collect()
        told = told_contributions(victim)
        disk = read_disk(victim)
        assert disk.integrity == "ok"
        lost |= writer.acknowledged - disk.interactions
        assert not lost
        assert disk.contributions == disk.ledger_rows
        assert disk.contributions >= max(told, contributions)
        contributions = disk.contributions
    victim.serve(neighbour, **UNDER_LOAD)
    exchanges_of(victim)
    status = victim.until(lambda s: s["interactions"] >= len(writer.acknowledged), "has read what was logged")
    assert status["contributions"] >= contributions
    assert not [e for e in neighbour.events("IdentityConflict") + victim.events("IdentityConflict") if e["proven"]]
    assert neighbour.status()["messages_refused"] == 0
    assert neighbour.status()["warnings"] == []
    writer.kill()
    assert victim.terminate() == 0
    assert writer.acknowledged <= read_disk(victim).interactions
    with capsys.disabled() if kills >= 50 else contextlib.nullcontext():  # the line that `make chaos` is for
        print(
            f"\n{kills} kills: {len(lost)} of {len(writer.acknowledged):,} acknowledged interactions lost, all "
            f"{contributions:,} ledger rows kept ({early} kills during the start; the writer was killed {writer.runs} times)"
        )


def exchanges_of(victim: Device) -> None:
    """Wait until this run of the daemon has exchanged a few times."""
    before = victim.until(lambda s: s["neighbours"] >= 1, "meets its neighbour")["exchanges"]
    victim.until(lambda s: s["exchanges"] >= before + 3, "exchanges")


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 72 MB of its own (a daemon does not start with less than 64 MB free)."""
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=72m,mode=700", "none", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs root and the right to mount a file system")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Take all of the space that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                if file.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2
    return filler


def test_a_full_disk_stops_contributions_and_nothing_else(
    make_device: MakeDevice, busy: Manifest, small_disk: Path, clean_environment: dict[str, str]
) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    neighbour = make_device("neighbour", joined=busy)
    neighbour.log_plays(range(0, 60, 2))
    neighbour.serve(**UNDER_LOAD)
    device = Device(small_disk / "device", clean_environment)
    device.log_path = neighbour.log_path.with_name("device.log")
    device.join(busy)
    device.log_plays(range(0, 60, 3))
    try:
        device.serve(neighbour, **UNDER_LOAD)
        device.until(lambda s: s["contributions"] > 0, "contributes")

        filler = fill(small_disk)
        status = device.until(lambda s: any("nothing is contributed" in w for w in s["warnings"]), "warns")
        assert all("disk is full" in w for w in status["warnings"])
        contributions = status["contributions"]
        assert contributions == read_disk(device).contributions >= told_contributions(device)
        status = device.until(
            lambda s: s["exchanges"] >= status["exchanges"] + 10, "goes on learning from its neighbour"
        )
        assert status["contributions"] == contributions
        assert device.json("recommend")["recommendations"]
        logged = device.command("log", "Film 1")
        assert logged.returncode == 1
        assert "disk is full" in logged.stderr

        filler.unlink()
        device.until(lambda s: not s["warnings"] and s["contributions"] > contributions + 3, "recovers")
        assert device.command("log", "Film 1").returncode == 0
        assert device.terminate() == 0
        disk = read_disk(device)
        assert disk.integrity == "ok"
        assert disk.contributions == disk.ledger_rows >= told_contributions(device)
        numbers = [e["contribution"] for e in device.events("Contributed")]
        assert numbers == list(range(1, len(numbers) + 1))  # each was paid for once
        assert len(device.events("LedgerFailed")) == 1
    finally:
        if device.running:
            device.kill()
        print(device.log_text()[-3000:])
    assert until(lambda: neighbour.status()["messages_refused"] == 0, "no message was refused")
