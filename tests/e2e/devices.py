"""Real daemons in processes of their own, real connections on this machine, and what a test may do to them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2prec import manifest as manifests
from p2prec.api import client
from p2prec.cli.lean import ENVIRONMENT
from p2prec.cli.serve import ServeSettings
from p2prec.config import DaemonSettings, PeerSettings, TransportKind
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters, reference_catalogue
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey

LOOPBACK = "127.0.0.1"
DEADLINE_S = 60.0
"""For everything that a test waits for: far beyond what a busy machine takes, since it is only spent when something is broken."""
N_ITEMS = 60
ROUND_S = 0.2

QUICK = PeerSettings(
    tick_interval_s=0.1,
    dial_retry_s=0.3,
    dial_retry_max_s=1.0,
    hello_deadline_s=1.0,
    ping_after_s=2.0,
    ping_deadline_s=2.0,
    exchange_deadline_s=2.0,
    peers_request_every_s=0.5,
    conflict_s=4.0,
)
"""Patience that suits a test."""


def make_manifest(name: str = "films", *, membership_key: str | None = None, seed: str = "07") -> Manifest:
    catalogue = Catalogue(tuple(ItemKey(f"i{n}") for n in range(N_ITEMS)), tuple(f"Film {n}" for n in range(N_ITEMS)))
    return Manifest(
        name=name,
        catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS),
        seed=seed * 32,
        membership_key=membership_key,
        learning=LearningParameters(n_factors=4, round_interval_s=ROUND_S, contribute_every_exchanges=1),
        privacy=PrivacyParameters(),
    )


def write_manifest(manifest: Manifest, path: Path) -> Path:
    path.write_text(manifests.dump(manifest), encoding="utf-8")
    return path


def until(condition: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` is true and return its value. Fails at the deadline."""
    give_up = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < give_up, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)
    return value


class Device:
    """A state directory, and the daemon that runs on it now and then."""

    def __init__(self, path: Path, environment: dict[str, str], transport: TransportKind = TransportKind.TLS) -> None:
        self.directory = StateDirectory.open(path)
        self.log_path = path.with_name(f"{path.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.on_machine: list[str] = []
        """In front of the daemon's command: what puts it on a machine of its own (`lan.py`)."""
        self.transport = transport
        self._environment = environment

    @property
    def path(self) -> Path:
        return self.directory.path

    # --- preparing ---

    def join(self, manifest: Manifest, secret: bytes | None = None) -> None:
        self.directory.join(Invitation(manifest, secret))

    def log_plays(self, items: Iterable[int]) -> None:
        """As `p2prec log` does, for many at once."""
        with self.directory.open_store() as store:
            store.add_interactions(Interaction(ItemKey(f"i{n}"), "play", None, 1.7e9 + n) for n in items)

    # --- the daemon ---

    def serve(
        self, *peers: Device | tuple[str, int], quick: PeerSettings = QUICK, ready: bool = True, **changes: Any
    ) -> Device:
        """Start the daemon without the command line in front of it: settings that no option sets are possible."""
        addresses = tuple(peer.address if isinstance(peer, Device) else peer for peer in peers)
        settings = {
            "listen_host": LOOPBACK,
            "transport": self.transport,
            "mdns": False,
            "static_peers": addresses,
            "quality_every_s": 0.5,
            # By chance, a device's own secret may hold out none of the few items here, and then there is nothing to measure.
            "holdout_secret": b"a split that leaves something",
        }
        daemon = DaemonSettings(peer=quick, **{**settings, **changes})
        serve = ServeSettings(state=str(self.path), swarm=None, log_format="json", verbose=True, daemon=daemon)
        return self._spawn([sys.executable, "-m", "p2prec.cli.serve", msgspec.json.encode(serve).decode()], ready)

    def start(self, *arguments: str, ready: bool = True) -> Device:
        """`p2prec start`, on loopback and without mDNS unless the arguments say otherwise."""
        fixed = ["--state", str(self.path), "--listen", f"{LOOPBACK}:0", "--no-mdns", "--log-format", "json"]
        fixed += ["--transport", self.transport]
        return self._spawn([sys.executable, "-m", "p2prec", "start", *fixed, *arguments], ready)

    def _spawn(self, command: list[str], ready: bool) -> Device:
        assert self.process is None or self.process.poll() is not None
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.on_machine, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        if ready:
            self.until(lambda status: not status["listen"].endswith(":0"), "listens")
        return self

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.status()["listen"].rpartition(":")
        return host, int(port)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    # --- asking ---

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Over the control socket."""
        return client.call(self.directory.control_socket_path, command, deadline_s=DEADLINE_S, **arguments)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str, **how: float) -> dict[str, Any]:
        """Wait until the status satisfies `condition`, and return that status."""

        def satisfied() -> dict[str, Any] | None:
            assert self.running, f"the daemon ended before it {what}:\n{self.log_text()[-3000:]}"
            try:
                status = self.status()
            except client.DaemonNotRunning:
                return None
            return status if condition(status) else None

        found: dict[str, Any] = until(satisfied, f"{self.path.name} {what}", **how)
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`p2prec ARGUMENTS` about this device, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "p2prec", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env={**self._environment, "P2PREC_STATE": str(self.path)},
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # --- what it logged ---

    def log_text(self) -> str:
        return self.log_path.read_text(encoding="utf-8") if self.log_path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == name]


def environment(cache: Path) -> dict[str, str]:
    """For daemons and commands: nothing of the user's, one BLAS thread, no colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("P2PREC_", "XDG_"))}
    root = str(Path(manifests.__file__).parents[1])
    path = os.pathsep.join(part for part in (root, kept.get("PYTHONPATH", "")) if part)
    return {**kept, **ENVIRONMENT, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": path, "NO_COLOR": "1"}


MakeDevice = Callable[..., Device]

LIBP2P_MARKS = (
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libp2p") is None, reason="needs p2prec[libp2p]: make test-libp2p"),
)
both_transports = pytest.mark.parametrize(
    "transport", [TransportKind.TLS, pytest.param(TransportKind.LIBP2P, marks=LIBP2P_MARKS)], indirect=True
)
"""Runs the tests that make devices on each transport."""
