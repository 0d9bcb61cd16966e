"""`p2prec testbed` against an engine that only pretends: what it is asked to do, and what people are told."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest
from testbed_rig import RUN, status_content, well, write_status
from typer.testing import CliRunner

import p2prec.cli.testbed  # noqa: F401
from p2prec.cli.app import app
from p2prec.errors import P2PRecError, UsageError
from p2prec.testbed.compose import Compose, EngineError
from p2prec.testbed.folder import RunFolder
from p2prec.testbed.kernel import neighbour_table_note

ROOT = Path(__file__).parents[2]

ENGINE = """#!/bin/sh
echo "$TESTBED_DIR $PEER_CPUS $*" >> {log}
case "$*" in
  version*) echo "Docker 0.0" ;;
  *" ps "*) echo one; echo two ;;
  inspect*) cat {inspect} ;;
  *forbidden*) echo "first line" >&2; echo "that is not allowed" >&2; exit 1 ;;
esac
"""


def inspected(number: int, host: str) -> dict[str, object]:
    """What `docker inspect` says of one container."""
    return {
        "Id": f"id{number}",
        "Name": f"/p2prec-peer-{number}",
        "Config": {"Hostname": host},
        "State": {"Running": True, "Restarting": False, "Pid": 100 + number, "OOMKilled": False},
        "NetworkSettings": {"Networks": {"none": {"IPAddress": ""}, "default": {"IPAddress": f"10.0.0.{number}"}}},
        "RestartCount": 0,
    }


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that records what it is asked."""
    log, inspect = tmp_path / "log", tmp_path / "inspect.json"
    inspect.write_text(json.dumps([inspected(2, "b"), inspected(1, "a")]))
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(ENGINE.format(log=log, inspect=inspect))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    return log


@pytest.fixture
def running(tmp_path: Path) -> RunFolder:
    """A run that somebody follows."""
    folder = RunFolder(tmp_path / "run")
    folder.prepare({})
    folder.write_run(msgspec.structs.replace(RUN, began_at=time.time() - 105))
    folder.record(well())
    for host in "abc":
        write_status(folder, f"p{host}-{host}", time.time() - 1)
    return folder


def invoke(*arguments: str) -> tuple[str, BaseException | None]:
    result = CliRunner().invoke(app, ["testbed", *arguments])
    return result.stdout, None if isinstance(result.exception, SystemExit) else result.exception


def test_up_removes_what_was_there_builds_and_starts(engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _, error = invoke(
        "up", "--peers", "2", "--cpus", "0.2", "--seconds", "0", "--folder", str(folder), "--checkout", str(ROOT)
    )
    assert error is None
    commands = engine.read_text().splitlines()
    assert all(command.startswith(f"{folder} 0.2 ") for command in commands)
    verbs = [word for command in commands for word in command.split() if word in ("version", "down", "build", "up")]
    assert verbs == ["version", "down", "build", "up"]
    assert "--scale peer=2" in commands[-1]
    assert RunFolder(folder).run().peers == 2
    assert "holdout_fraction = 0.2" in (folder / "settings.toml").read_text()
    assert (folder / "status").stat().st_mode & 0o777 == 0o777


def test_report_writes_what_it_was_asked_for_and_judges(running: RunFolder, tmp_path: Path) -> None:
    figures, page = tmp_path / "report.json", tmp_path / "report.html"
    shown, error = invoke(
        "report", "--json", str(figures), "--html", str(page), "--check", "--folder", str(running.path)
    )
    assert error is None
    assert "popularity" in shown
    assert json.loads(figures.read_text())["run"]["peers"] == 3
    assert page.read_text().startswith("<!doctype html>")
    write_status(running, "pa-a", time.time(), status_content(rss_bytes=71_000_000))
    _, error = invoke("report", "--check", "--folder", str(running.path))
    assert isinstance(error, P2PRecError)
    assert "at most 70 MB" in str(error)
    _, error = invoke("report", "--json", str(tmp_path / "nowhere" / "report.json"), "--folder", str(running.path))
    assert isinstance(error, UsageError)


def test_status_lists_every_peer(running: RunFolder) -> None:
    write_status(running, "0042-zz", time.time() - 1, status_content(state="searching"))
    shown, error = invoke("status", "--folder", str(running.path))
    assert error is None
    assert [line.split()[1] for line in shown.splitlines()[1:5]].count("searching") == 1


def test_nothing_is_up_is_said(engine: Path, tmp_path: Path) -> None:
    for command in ("status", "report", "fault"):
        arguments = ("loss", "--checkout", str(ROOT)) if command == "fault" else ()
        _, error = invoke(command, *arguments, "--folder", str(tmp_path / "none"))
        assert isinstance(error, P2PRecError)
        assert "testbed up" in str(error)


def test_down_removes_everything(engine: Path, running: RunFolder) -> None:
    _, error = invoke("down", "--folder", str(running.path), "--checkout", str(ROOT))
    assert error is None
    assert "down --volumes" in engine.read_text()
    assert not running.path.exists()


def test_containers_are_read_in_their_order(engine: Path) -> None:
    containers = Compose(ROOT, {}).containers()
    assert [(c.number, c.host, c.pid, c.address, c.running) for c in containers] == [
        (1, "a", 101, "10.0.0.1", True),
        (2, "b", 102, "10.0.0.2", True),
    ]


def test_what_the_engine_refuses_is_told(engine: Path) -> None:
    with pytest.raises(EngineError, match="that is not allowed"):
        Compose(ROOT, {}).docker("forbidden")


@pytest.mark.parametrize(("limit", "noted"), [("1500", False), ("1499", True), ("nonsense", False)])
def test_a_kernel_that_is_too_small_for_so_many_is_noted(limit: str, noted: bool, tmp_path: Path) -> None:
    file = tmp_path / "gc_thresh3"
    file.write_text(limit)
    note = neighbour_table_note(50, file)
    assert (note is not None) == noted
    assert note is None or "gc_thresh3=1500" in note
    assert neighbour_table_note(50, tmp_path / "none") is None


def test_no_engine_and_no_checkout_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"docker-compose\.yml"):
        Compose(tmp_path, {})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="Docker"):
        Compose(ROOT, {})
