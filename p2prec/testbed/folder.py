"""The folder that the testbed shares with its containers, and what it keeps there of a run.

settings.toml           DaemonSettings of all peers
status/PERSON-HOST.json what a peer last said of itself (p2prec.api.status_file), written by the peer
clock/HOST              by how many seconds that container's clock is wrong from its next start on
run.json                `Run`: what was started, and when
history.jsonl           a `Sample` of every status that was seen
faults/NAME.json        what became of the swarm after a fault (p2prec.testbed.trial)
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from p2prec.errors import P2PRecError
from p2prec.testbed.sample import Sample, sample_of

SHARED_BY_ALL = 0o1777
"""Peers run under a user of their own, which the owner of the folder does not know."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What `p2prec testbed up` started."""

    peers: int
    cpus: float
    """Cores that each peer may use."""
    round_interval_s: float
    began_at: float
    """Seconds since 1970, just before the first container."""
    ready_s: float = 0.0
    """Seconds until the engine had started the last container."""
    engine: str = ""


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.status = self.path / "status"
        self.clock = self.path / "clock"
        self.faults = self.path / "faults"
        self._history = self.path / "history.jsonl"

    def prepare(self, settings: dict[str, Any]) -> None:
        """Begin a new run here: whatever an earlier one left is removed. Raises P2PRecError for a folder of something else."""
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / "settings.toml").exists():
            raise P2PRecError(f"{self.path} is not empty, and no testbed has made it")
        for old in (self.status, self.clock, self.faults):
            shutil.rmtree(old, ignore_errors=True)
        for new in (self.status, self.clock, self.faults):
            new.mkdir(parents=True)
        self.path.chmod(0o755)
        self.status.chmod(SHARED_BY_ALL)
        self._history.unlink(missing_ok=True)
        (self.path / "settings.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")

    def remove(self) -> None:
        """Remove what a run left, if this is a run's folder."""
        if (self.path / "settings.toml").exists():
            shutil.rmtree(self.path)

    # --- the run ---

    def write_run(self, run: Run) -> None:
        (self.path / "run.json").write_bytes(msgspec.json.encode(run))

    def run(self) -> Run:
        """Raises P2PRecError when nothing was started."""
        try:
            return msgspec.json.decode((self.path / "run.json").read_bytes(), type=Run)
        except OSError:
            raise P2PRecError(f"no testbed is up ({self.path} knows of none); start one: p2prec testbed up") from None

    # --- what peers say ---

    def samples(self, began_at: float) -> list[Sample]:
        """The last that each peer said, in the order of people. `began_at`: as in `Run`."""
        found = []
        for path in sorted(self.status.glob("*.json")):
            try:
                written_at = path.stat().st_mtime  # by this machine's clock: a peer's own may be wrong
                found.append(sample_of(path.stem, written_at - began_at, path.read_bytes()))
            except FileNotFoundError:
                continue  # its peer replaces it just now
        return found

    def record(self, samples: Iterable[Sample]) -> None:
        """Append to the history."""
        with self._history.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))

    def history(self) -> list[Sample]:
        """Every sample of the run so far, in the order in which they were seen."""
        if not self._history.exists():
            return []
        decoder = msgspec.json.Decoder(Sample)
        return [decoder.decode(line) for line in self._history.read_bytes().splitlines()]

    # --- faults ---

    def set_clock(self, host: str, offset_s: float) -> None:
        """Put a container's clock wrong from its next start on; 0 puts it right again."""
        path = self.clock / host
        if offset_s:
            path.write_text(f"{offset_s:.0f}\n", encoding="ascii")
        else:
            path.unlink(missing_ok=True)

    def write_trial(self, name: str, result: dict[str, Any]) -> None:
        (self.faults / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))

    def trials(self) -> list[dict[str, Any]]:
        """The results of the faults so far, by name."""
        return [msgspec.json.decode(path.read_bytes()) for path in sorted(self.faults.glob("*.json"))]


def now_s(run: Run) -> float:
    """Seconds since the run began."""
    return time.time() - run.began_at
