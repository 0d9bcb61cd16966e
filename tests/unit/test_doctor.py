"""`p2prec doctor`: each thing that can be wrong is found, with a remedy; a healthy device passes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2prec.cli import checks
from p2prec.cli.checks import Finding
from p2prec.config import TransportKind
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.manifest import Manifest, reference_catalogue
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey

CATALOGUE = Catalogue((ItemKey("a"), ItemKey("b")), ("Alien", "Brazil"))
MANIFEST = Manifest(name="films", catalogue=reference_catalogue(CATALOGUE.canonical_csv(), 2), seed="0" * 64)


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    """A device that has joined a swarm, made its identity and logged something."""
    made = StateDirectory.open(tmp_path / "state")
    made.join(Invitation(MANIFEST, None))
    made.identity()
    with made.open_store() as store:
        store.add_interactions([Interaction(ItemKey("a"), "play", None, time.time())])
    return made


def worst(findings: list[Finding]) -> Finding:
    return max(findings, key=lambda finding: ("ok", "warn", "fail").index(finding.level))


def test_a_healthy_device_passes(directory: StateDirectory) -> None:
    looks: list[Callable[[StateDirectory], list[Finding]]] = [checks.disk, checks.keys, checks.swarm, checks.store]
    for look in looks:
        assert worst(look(directory)).level == "ok", look
    assert worst(checks.software()).level == "ok"
    assert checks.daemon(directory)[1] is None


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    nowhere = StateDirectory(tmp_path / "nowhere")
    findings = checks.examine(nowhere, ("127.0.0.1", 0))
    assert not nowhere.path.exists()
    assert {finding.check for finding in findings} == {
        "software",
        "disk",
        "daemon",
        "port",
        "transport",
        "multicast",
        "clock",
    }


@pytest.mark.parametrize("made", [("identity.key", 0o640), ("identity.key", 0o604)])
def test_a_readable_identity_fails(directory: StateDirectory, made: tuple[str, int]) -> None:
    name, mode = made
    (directory.path / name).chmod(mode)
    finding = worst(checks.keys(directory))
    assert finding.level == "fail"
    assert finding.remedy == f"chmod 600 {directory.identity_path}"


def test_a_readable_directory_or_store_is_a_warning(directory: StateDirectory) -> None:
    directory.path.chmod(0o750)
    assert worst(checks.keys(directory)).remedy == f"chmod 700 {directory.path}"
    directory.path.chmod(0o700)
    directory.store_path.chmod(0o644)
    assert worst(checks.keys(directory)).remedy == f"chmod 600 {directory.store_path}"


def test_a_damaged_identity_fails(directory: StateDirectory) -> None:
    directory.identity_path.write_text("nonsense")
    finding = worst(checks.keys(directory))
    assert finding.level == "fail"
    assert finding.remedy


def test_no_swarm_is_a_warning_and_a_damaged_manifest_fails(directory: StateDirectory) -> None:
    directory.swarm_path.write_text("name = 3")
    finding = worst(checks.swarm(directory))
    assert finding.level == "fail"
    assert finding.remedy
    directory.swarm_path.unlink()
    assert checks.swarm(directory)[0].level == "warn"


def test_a_catalogue_that_was_tampered_with_fails(directory: StateDirectory) -> None:
    other = reference_catalogue(b"item,title\na,Aliens\n", 1)
    text = directory.swarm_path.read_text()
    assert MANIFEST.catalogue.data.strip() in text
    directory.swarm_path.write_text(text.replace(MANIFEST.catalogue.data.strip(), other.data.strip()))
    finding = worst(checks.swarm(directory))
    assert finding.level == "fail"
    assert "digest" in finding.message


def test_a_damaged_store_fails_and_is_left_as_it_is(directory: StateDirectory) -> None:
    damaged = b"SQLite format 3\x00" + os.urandom(8192)
    directory.store_path.write_bytes(damaged)
    for leftover in directory.path.glob("p2prec.sqlite3-*"):
        leftover.unlink()
    finding = worst(checks.store(directory))
    assert finding.level == "fail"
    assert finding.remedy
    assert directory.store_path.read_bytes() == damaged


@pytest.mark.parametrize(("ahead_s", "level"), [(checks.FUTURE_ROW_S - 60, "ok"), (checks.FUTURE_ROW_S + 60, "warn")])
def test_rows_from_the_future_are_a_warning(directory: StateDirectory, ahead_s: float, level: str) -> None:
    with directory.open_store() as store:
        store.add_interactions([Interaction(ItemKey("b"), "play", None, time.time() + ahead_s)])
    assert worst(checks.store(directory)).level == level


@pytest.mark.parametrize(
    ("free", "level"),
    [((64 << 20) - 1, "fail"), (64 << 20, "warn"), (checks.LOW_DISK_BYTES - 1, "warn"), (checks.LOW_DISK_BYTES, "ok")],
)
def test_little_room(directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = shutil.disk_usage(directory.path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    finding = worst(checks.disk(directory))
    assert finding.level == level
    assert bool(finding.remedy) is (level != "ok")


def test_a_file_in_place_of_the_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert worst(checks.disk(StateDirectory(tmp_path / "state"))).level == "fail"


def test_a_port_that_is_taken_fails_and_a_free_one_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        finding = worst(checks.port(("127.0.0.1", number), None))
        assert finding.level == "fail"
        assert "--listen" in finding.remedy
        assert checks.port(("127.0.0.1", 1), {"listen": f"0.0.0.0:{number}"})[0].level == "ok"
    assert worst(checks.port(("127.0.0.1", number), None)).level == "ok"
    assert worst(checks.port(("127.0.0.1", 1), {"listen": f"127.0.0.1:{number}"})).level == "fail"


@pytest.mark.parametrize(("deaf", "level"), [((), "ok"), (("10.0.0.1",), "warn"), (("10.0.0.1", "10.1.0.1"), "fail")])
def test_deaf_interfaces(monkeypatch: pytest.MonkeyPatch, deaf: tuple[str, ...], level: str) -> None:
    monkeypatch.setattr("p2prec.discovery.addresses.multicast_addresses", lambda *_: ("10.0.0.1", "10.1.0.1"))
    finding = worst(checks.multicast(hears=lambda address: address not in deaf))
    assert finding.level == level
    assert ("5353" in finding.remedy) is (level != "ok")


def test_an_interface_that_cannot_be_used_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> bool:
        raise OSError(98, "Address already in use")

    finding = worst(checks.multicast(hears=refuse))
    assert finding.level == "fail"
    assert "Address already in use" in finding.message
    monkeypatch.setattr("p2prec.discovery.addresses.local_interfaces", lambda: ())
    assert worst(checks.multicast(hears=refuse)).message == "no network interface is up"


def test_a_transport_that_is_not_installed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worst(checks.transport(TransportKind.TLS, None)).level == "ok"
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda _: None)
    missing = worst(checks.transport(TransportKind.LIBP2P, None))
    assert missing.level == "fail"
    assert "p2prec[libp2p]" in missing.remedy
    running = worst(checks.transport(TransportKind.TLS, {"transport": "libp2p"}))
    assert (running.level, "libp2p" in running.message) == ("ok", True)


def test_old_tls_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    assert checks.software()[0].level == "fail"


@pytest.mark.parametrize(("wall", "level"), [(0.0, "fail"), (5e9, "fail"), (1.8e9, "ok")])
def test_an_impossible_clock_fails(monkeypatch: pytest.MonkeyPatch, wall: float, level: str) -> None:
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert checks.Clock().findings()[0].level == level


def test_a_jumping_clock_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    monkeypatch.setattr(time, "time", iter([1.8e9, 1.8e9 + 60]).__next__)
    assert checks.Clock().findings()[0].level == "warn"


@pytest.fixture
def hanging_daemon(directory: StateDirectory) -> Iterator[StateDirectory]:
    """Something that holds the lock and answers every question with nonsense."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(os.fspath(directory.prepare_control_socket()))
    server.listen()

    def answer() -> None:
        try:
            while True:
                server.accept()[0].close()
        except OSError:
            return

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with directory.lock():
        yield directory
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


def test_a_daemon_that_does_not_answer_fails(hanging_daemon: StateDirectory) -> None:
    findings, status = checks.daemon(hanging_daemon)
    assert (findings[0].level, status) == ("fail", None)
    assert str(os.getpid()) in findings[0].message


def run_doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    import typer.testing

    app = importlib.import_module("p2prec.cli.app").app
    importlib.import_module("p2prec.cli.doctor")
    importlib.import_module("p2prec.cli.start")
    result = typer.testing.CliRunner().invoke(app, ["doctor", *arguments])
    return result.exit_code, result.stdout + capsys.readouterr().out


def test_the_command_exits_1_for_failures_only(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "multicast", lambda: [Finding("multicast", "warn", "10.0.0.1: not heard", "open 5353")])
    code, out = run_doctor(capsys, "--state", str(directory.path), "--json")
    report: dict[str, Any] = json.loads(out)
    assert (code, report["ok"]) == (0, True)
    assert all(set(finding) == {"check", "level", "message", "remedy"} for finding in report["findings"])
    directory.identity_path.chmod(0o644)
    code, out = run_doctor(capsys, "--state", str(directory.path))
    assert code == 1
    assert f"-> chmod 600 {directory.identity_path}" in out
    assert "multicast  warn 10.0.0.1: not heard" in out
    code, out = run_doctor(capsys, "--state", str(directory.path), "--json")
    assert json.loads(out)["ok"] is False
