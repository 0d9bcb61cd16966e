"""The status in a file, and what the kernel says about a process."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2prec.api.status_file import StatusFile
from p2prec.config import DaemonSettings, PeerSettings, load_settings
from p2prec.daemon.accounting import cgroup_usage, network_usage, usage
from p2prec.daemon.pump import Pump
from p2prec.errors import UsageError


def status_file(path: Path) -> StatusFile:
    pump = cast(Pump, SimpleNamespace(queued_frames=[1, 4]))
    return StatusFile(path, 10.0, lambda: {"state": "running"}, pump)


def test_a_reader_finds_the_whole_status(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status_file(path).write()
    written = json.loads(path.read_text())
    assert written["status"] == {"state": "running"}
    assert written["queued_frames"] == 4
    assert written["usage"]["cpu_s"] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["status.json"]


def test_a_folder_that_is_not_there_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("p2prec"), "propagate", True)
    writer = status_file(tmp_path / "later" / "status.json")
    writer.write()
    writer.write()
    assert len(caplog.records) == 1
    (tmp_path / "later").mkdir()
    writer.write()
    assert (tmp_path / "later" / "status.json").exists()


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('quality_every_s = 10.0\nstatus_file = "/run/x.json"\n[peer]\ntarget_neighbours = 4\n')
    expected = DaemonSettings(quality_every_s=10.0, status_file="/run/x.json", peer=PeerSettings(target_neighbours=4))
    assert load_settings(path) == expected


@pytest.mark.parametrize(
    "text", ["typo = 1", "quality_every_s = 0.0", "[peer]\ntypo = 1", "quality_every_s =", "mdns = 3"]
)
def test_wrong_settings_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"settings\.toml"):
        load_settings(path)
    with pytest.raises(UsageError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    second = tmp_path / "v2"
    second.mkdir()
    (second / "memory.current").write_text("1000\n")
    (second / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    (second / "cpu.stat").write_text("usage_usec 2500000\nthrottled_usec 500000\n")
    first = tmp_path / "v1"
    for folder in ("memory", "cpu", "cpuacct"):
        (first / folder).mkdir(parents=True)
    (first / "memory" / "memory.usage_in_bytes").write_text("1000\n")
    (first / "memory" / "memory.stat").write_text("cache 5\ntotal_inactive_file 300\n")
    (first / "cpu" / "cpu.stat").write_text("nr_periods 3\nthrottled_time 500000000\n")
    (first / "cpuacct" / "cpuacct.usage").write_text("2500000000\n")
    for root in (second, first):
        assert cgroup_usage(root) == {"memory_bytes": 700, "cpu_s": 2.5, "throttled_s": 0.5}
    assert cgroup_usage(tmp_path / "none") is None
    (second / "cpu.stat").write_text("nonsense")
    assert cgroup_usage(second) is None


def test_datagrams_and_connections(tmp_path: Path) -> None:
    (tmp_path / "snmp").write_text(
        "Tcp: ActiveOpens PassiveOpens\nTcp: 3 4\nUdp: InDatagrams OutDatagrams RcvbufErrors\nUdp: 5 6 7\n"
    )
    assert network_usage(tmp_path) == {
        "datagrams_in": 5,
        "datagrams_out": 6,
        "datagrams_lost": 7,
        "connections_dialled": 3,
        "connections_accepted": 4,
    }
    (tmp_path / "snmp").write_text("Tcp: ActiveOpens\n")
    assert network_usage(tmp_path) is None


def test_a_system_that_tells_nothing_is_no_failure(tmp_path: Path) -> None:
    told = usage(tmp_path, tmp_path)
    assert (told["cgroup"], told["network"]) == (None, None)
