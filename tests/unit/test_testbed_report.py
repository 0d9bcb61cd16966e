"""From what the peers of a testbed say to its report and page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from testbed_rig import QUALITY, RUN, sample, status_content, well, write_status

from p2prec.errors import P2PRecError
from p2prec.testbed.folder import RunFolder
from p2prec.testbed.follow import Follower, all_found
from p2prec.testbed.page import page
from p2prec.testbed.report import build_report
from p2prec.testbed.sample import total
from p2prec.testbed.screen import report_lines, rows, summary
from p2prec.testbed.svg import Line, line_chart


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.prepare({"quality_every_s": 10.0})
    folder.write_run(RUN)
    return folder


def failing(report: dict[str, Any]) -> set[str]:
    return {check["name"] for check in report["checks"] if not check["holds"]}


# --- the folder ---


def test_a_status_is_read_by_this_machines_clock(folder: RunFolder) -> None:
    write_status(folder, "0007-abcdef", RUN.began_at + 12.5)
    [read] = folder.samples(RUN.began_at)
    assert (read.person, read.host, read.t) == ("0007", "abcdef", 12.5)
    assert read.cpu_s == 1.5  # no control group: the process's own
    assert read.memory_bytes is None
    assert read.started_at == 9.5


def test_a_status_of_another_version_is_said(folder: RunFolder) -> None:
    write_status(folder, "0007-abcdef", RUN.began_at, {"status": {}})
    with pytest.raises(P2PRecError, match="another version"):
        folder.samples(RUN.began_at)


def test_only_what_is_new_goes_to_the_history(folder: RunFolder) -> None:
    write_status(folder, "0000-a", RUN.began_at + 1)
    follower = Follower(folder, RUN)
    follower.look()
    follower.look()
    assert len(folder.history()) == 1
    write_status(folder, "0000-a", RUN.began_at + 2, status_content(rounds=9))
    follower.look()
    assert [s.rounds for s in folder.history()] == [4, 9]
    # Another command goes on with the same run, and does not count twice.
    Follower(folder, RUN).look()
    assert Follower(folder, RUN).history == follower.history == folder.history()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(P2PRecError, match="no testbed has made it"):
        RunFolder(tmp_path).prepare({})
    RunFolder(tmp_path).remove()
    assert (tmp_path / "letter").exists()


def test_a_new_run_begins_with_nothing(folder: RunFolder) -> None:
    write_status(folder, "0000-a", RUN.began_at)
    folder.record([sample("a", 1.0)])
    folder.set_clock("a", 5.0)
    folder.prepare({})
    assert (folder.samples(0.0), folder.history(), list(folder.clock.iterdir())) == ([], [], [])
    folder.remove()
    assert not folder.path.exists()
    with pytest.raises(P2PRecError, match="testbed up"):
        folder.run()


# --- the report ---


def test_a_good_run_holds_in_all() -> None:
    report = build_report(RUN, well())
    assert failing(report) == set()
    assert report["discovery"]["all_found_after_s"] == 10.0
    assert report["learned_after_s"] == 10.0
    assert report["quality"]["popularity"]["auc"] == pytest.approx(0.4)
    assert report["cost"]["bytes_out"]["sum"] == 300_000
    assert [row["person"] for row in report["per_peer"]] == ["person-of-a", "person-of-b", "person-of-c"]


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"rss_bytes": 70_000_000}, set()),
        ({"rss_bytes": 70_000_001}, {"resident memory of each at most 70 MB"}),
        ({"seen": 1}, {"all found by each other within 60 s"}),
        ({"refused": 1}, {"no message broke the protocol"}),
        ({"queued": 33}, set()),
        ({"queued": 34}, {"no send queue grew beyond its bound of 33 frames"}),
        ({"quality": {**QUALITY, "ndcg_at_10": 0.4}}, set()),
        (
            {"quality": {**QUALITY, "ndcg_at_10": 0.399}},
            {
                "NDCG@10 at least popularity's, at the end",
                "AUC above popularity's, NDCG@10 at least popularity's, within 10 minutes",
            },
        ),
        (
            {"quality": {**QUALITY, "auc": 0.4}},
            {
                "AUC above popularity's, at the end",
                "AUC above popularity's, NDCG@10 at least popularity's, within 10 minutes",
            },
        ),
        (
            {"quality": None},
            {
                "AUC above popularity's, at the end",
                "NDCG@10 at least popularity's, at the end",
                "AUC above popularity's, NDCG@10 at least popularity's, within 10 minutes",
            },
        ),
    ],
)
def test_what_does_not_hold_is_said(changes: dict[str, Any], broken: set[str]) -> None:
    assert failing(build_report(RUN, well(**changes))) == broken


@pytest.mark.parametrize(("found_at", "holds"), [(60.0, True), (61.0, False)])
def test_discovery_counts_from_the_last_start(found_at: float, holds: bool) -> None:
    """The third peer starts 30 s after the others."""
    history = [sample(host, 31.0, seen=1, uptime_s=31.0 if host != "c" else 1.0) for host in "abc"]
    history += [sample(host, 30.0 + found_at, uptime_s=1.0) for host in "abc"]
    report = build_report(RUN, history)
    assert report["discovery"]["all_found_after_s"] == found_at
    assert ("all found by each other within 60 s" not in failing(report)) == holds


def test_peers_that_never_came_up_are_missed() -> None:
    assert "all peers came up" in failing(build_report(RUN, well(hosts="ab")))


def test_two_peers_with_one_person_are_noticed() -> None:
    assert "no two peers share a person" in failing(build_report(RUN, well(person="0000")))


def test_an_empty_run_holds_nothing_and_is_told_all_the_same() -> None:
    report = build_report(RUN, [])
    assert {"all peers came up", "resident memory of each at most 70 MB"} <= failing(report)
    assert page(report)
    assert report_lines(report)


def test_a_counter_that_begins_anew_is_added_up() -> None:
    samples = [sample("a", float(t), cpu_s=cpu) for t, cpu in enumerate((1.0, 3.0, 0.5, 1.5))]
    assert total(samples, "cpu_s") == 4.5
    assert total([sample("a", 0.0, datagrams_in=None)], "datagrams_in") is None


def test_quality_is_that_of_the_last_minute() -> None:
    early = well(100, quality={**QUALITY, "auc": 0.1})
    late = [sample(host, t, quality={**QUALITY, "auc": 0.7}) for t in (110.0, 150.0, 165.0) for host in "abc"]
    assert build_report(RUN, early + late)["quality"]["swarm"]["auc"] == pytest.approx(0.7)


# --- what people see ---


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.charts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.charts += tag == "svg"

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_the_page_is_one_file_with_everything(folder: RunFolder) -> None:
    trial = {
        "title": "A <b>fault</b>",
        "ratios": {"ndcg_at_10": {"value": 1.01, "error": 0.01}},
        "back_after_s": 5.0,
        "holds": False,
    }
    report = json.loads(json.dumps(build_report(RUN, well(), [trial])))
    parser = Text()
    parser.feed(page(report))
    assert parser.links == []
    assert parser.charts == 8
    assert "person-of-b" in parser.text
    assert "A <b>fault</b>" in parser.text
    assert "FAILS" in parser.text
    assert "script" not in page(report)


def test_a_chart_draws_gaps_as_gaps_and_is_well_formed() -> None:
    chart = line_chart("A & B", "MB", [Line("a", [(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, float("nan"))])])
    root = ET.fromstring(chart)
    assert len(root.findall("polyline")) == 2
    for numbers in ([], [(0.0, 0.0)], [(0.0, None)]):
        ET.fromstring(line_chart("empty", "", [Line("a", numbers)], zero=False))


def test_a_silent_peer_shows() -> None:
    cells = rows(60.0, [sample("a", 50.0), sample("b", 30.0, quality=None)])
    assert [row[1] for row in cells] == ["running", "silent for 30 s"]
    assert summary(60.0, [sample("a", 50.0), sample("b", 30.0)], 3).startswith("1/3 peers up")
    assert summary(0.0, [], 3) == "0/3 peers up"


def test_all_found_needs_all() -> None:
    assert all_found([sample(host, 1.0) for host in "abc"], 3)
    assert not all_found([sample(host, 1.0) for host in "ab"], 3)
    assert not all_found([sample("a", 1.0), sample("b", 1.0), sample("c", 1.0, seen=1)], 3)
