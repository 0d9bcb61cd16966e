"""Weak devices in real containers: what a swarm of them must show, and what it must survive.

Run by `make testbed-test` and `make testbed-faults`, which set TESTBED_PEERS; minutes long, and in need of a container engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2prec.testbed.faults import profile_names

ROOT = Path(__file__).parents[2]
PEERS = int(os.environ.get("TESTBED_PEERS", "0"))
OUTPUT = Path(os.environ.get("TESTBED_OUTPUT", ROOT / "build" / "testbed"))
"""Where reports are left, whatever they say."""
KEPT = os.environ.get("TESTBED_JSON", "")
"""A file for the figures of the run as a whole; none when empty."""
BASE_IMAGE = "python:3.11-slim-bookworm"
LEARNING_DEADLINE_S = 600.0
STEADY_S = 600.0
"""Three hundred rounds of two seconds: quality has passed its peak, at half of that, and no longer changes by itself."""
WINDOW_S = "80"
NETWORK_FAULTS = {"loss", "delay", "partition", "flapping"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PEERS, reason="containers are started by make testbed-test and make testbed-faults only"),
]


def testbed(folder: Path, *arguments: str, wanted: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run `p2prec testbed ARGUMENTS`. wanted: exit code, None for any."""
    done = subprocess.run(
        [sys.executable, "-m", "p2prec", "testbed", *arguments, "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert wanted in (None, done.returncode), f"{done.stdout}\n{done.stderr}"
    return done


def start(folder: Path, *arguments: str) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    testbed(folder, "up", "--peers", str(PEERS), *arguments)


def report(folder: Path, name: str, *arguments: str, wanted: int | None) -> tuple[dict[str, Any], str]:
    figures, page = OUTPUT / f"{name}.json", OUTPUT / f"{name}.html"
    done = testbed(folder, "report", "--json", str(figures), "--html", str(page), *arguments, wanted=wanted)
    return json.loads(figures.read_text(encoding="utf-8")), f"{done.stdout}\n{done.stderr}"


def keep(figures: dict[str, Any]) -> None:
    if KEPT:
        Path(KEPT).write_text(json.dumps(figures), encoding="utf-8")


def inspect(kind: str, name: str) -> dict[str, Any]:
    done = subprocess.run(["docker", kind, "inspect", name], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def require_locked_down(container: dict[str, Any]) -> None:
    """Nobody who breaks into a peer finds rights, tools or room."""
    host = container["HostConfig"]
    assert container["Config"]["User"] not in ("", "0", "root")
    assert container["Config"]["Healthcheck"]["Test"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert 0 < host["Memory"] <= 96 << 20
    assert 0 < host["PidsLimit"] <= 64
    assert host["NanoCpus"] == 100_000_000
    image = inspect("image", container["Image"])
    assert image["Size"] - inspect("image", BASE_IMAGE)["Size"] < 150e6


def test_weak_devices_find_each_other_and_learn(tmp_path: Path) -> None:
    """All discovered within a minute, at most 70 MB each, better than popularity within ten minutes."""
    began = time.monotonic()
    try:
        start(tmp_path / "run", "--seconds", "60")
        require_locked_down(inspect("container", "p2prec-peer-1"))
        while True:
            found, shown = report(tmp_path / "run", f"peers-{PEERS}", "--seconds", "20", wanted=None)
            failing = [check for check in found["checks"] if not check["holds"]]
            if not failing or time.monotonic() - began > LEARNING_DEADLINE_S:
                break
        keep(found)
        print(shown)
        assert not failing, shown
    finally:
        testbed(tmp_path / "run", "down", wanted=None)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A swarm that has learned, without noise on its contributions: what a fault does must show, not the noise."""
    folder = tmp_path_factory.mktemp("steady") / "run"
    try:
        start(folder, "--round-interval", "2", "--noise", "0", "--seconds", str(STEADY_S))
        yield folder
        found, _ = report(folder, f"after-faults-{PEERS}", wanted=None)
        keep({**found, "faults_held": sum(trial["holds"] for trial in found["faults"])})
    finally:
        testbed(folder, "down", wanted=None)


@pytest.mark.parametrize("name", profile_names(ROOT / "deploy" / "faults"))
def test_a_swarm_comes_back_by_itself(name: str, steady: Path) -> None:
    if name in NETWORK_FAULTS and os.geteuid():
        pytest.skip("faults of the network need root on the machine of the container engine")
    options = ("--window", WINDOW_S, "--json", str(OUTPUT / f"fault-{name}.json"))
    done = testbed(steady, "fault", name, *options, wanted=None)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
