"""Fault profiles, how each fault is done and undone, and the judgement of what becomes of the swarm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from testbed_rig import QUALITY, RUN, sample

from p2prec.errors import P2PRecError, UsageError
from p2prec.testbed import inject, namespace
from p2prec.testbed.compare import Measurement, Ratio, compare, measure
from p2prec.testbed.compose import Compose, Container
from p2prec.testbed.faults import (
    Clock,
    Cpu,
    Delay,
    Fault,
    Flap,
    Holds,
    Kill,
    Loss,
    Partition,
    Restart,
    load_profile,
    profile_names,
)
from p2prec.testbed.folder import RunFolder
from p2prec.testbed.namespace import Network
from p2prec.testbed.sample import Sample, by_host
from p2prec.testbed.trial import _restarted, are_back, judge

FAULTS = Path(__file__).parents[2] / "deploy" / "faults"


# --- profiles ---


def test_every_profile_of_the_project_is_readable() -> None:
    names = profile_names(FAULTS)
    assert " ".join(names) == "clock-skew delay flapping killed loss mixed-cpu partition rolling-restart slow"
    profiles = [load_profile(FAULTS / f"{name}.toml") for name in names]
    assert {type(profile.fault) for profile in profiles} == {Cpu, Loss, Delay, Partition, Kill, Restart, Flap, Clock}
    assert {profile.holds.quality for profile in profiles} == {0.98}


@pytest.mark.parametrize(
    "text",
    [
        "title = 'x'",
        "title = 'x'\n[fault]\ntype = 'earthquake'",
        "title = 'x'\n[fault]\ntype = 'loss'\nprobability = 1.0",
        "title = 'x'\n[fault]\ntype = 'loss'\nprobability = 0.0",
        "title = 'x'\n[fault]\ntype = 'loss'\nprobability = 0.3\nshare = 1.1",
        "title = 'x'\n[fault]\ntype = 'loss'\nprobability = 0.3\ntypo = 1",
        "title = 'x'\n[fault]\ntype = 'cpu'\ncores = []",
        "title = 'x'\n[fault]\ntype = 'cpu'\ncores = [0.001]",
        "title = 'x'\n[fault]\ntype = 'partition'\ngroups = 1",
        "title = 'x'\n[fault]\ntype = 'kill'\nshare = 0.0",
        "title = 'x'\n[fault]\ntype = 'kill'\nshare = 0.2\n[holds]\nquality = 1.01",
        "title = ",
    ],
)
def test_a_wrong_profile_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"wrong\.toml"):
        load_profile(path)


def test_an_unknown_profile_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_profile(FAULTS / "earthquake.toml")
    assert "rolling-restart" in caught.value.remedy


# --- doing faults ---


class FakeCompose:
    """Records what the engine is asked to do."""

    def __init__(self, n: int) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.all = [
            Container(
                f"id{number}", f"p2prec-peer-{number}", f"host{number}", True, number, f"10.0.0.{number}", 0, False
            )
            for number in range(1, n + 1)
        ]

    def containers(self) -> list[Container]:
        return self.all

    def docker(self, *arguments: str) -> str:
        self.asked.append(arguments)
        return ""


class FakeNetwork:
    """Records what is done to the network of one container."""

    done: list[tuple[Any, ...]]
    has_netem = True

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def lose(self, probability: float) -> None:
        self.done.append((self.pid, "lose", probability))

    def refuse(self, addresses: Any) -> None:
        self.done.append((self.pid, "refuse", tuple(addresses)))

    def delay(self, *figures: int) -> bool:
        self.done.append((self.pid, "delay", figures))
        return self.has_netem

    def link(self, *, up: bool) -> None:
        self.done.append((self.pid, "link", up))

    def heal(self) -> None:
        self.done.append((self.pid, "heal"))


class Doing:
    """A fault being done to four made-up containers."""

    def __init__(self, fault: Fault, folder: RunFolder, seed: int = 0) -> None:
        self.compose = FakeCompose(4)
        self.folder = folder
        self.bed = inject.Bed(cast(Compose, self.compose), folder, RUN, Random(seed))
        self.injection = inject.injection(fault, self.bed)


Do = Callable[[Fault], Doing]


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Do:
    folder = RunFolder(tmp_path / "run")
    folder.prepare({})
    monkeypatch.setattr(inject, "Network", FakeNetwork)
    monkeypatch.setattr(inject, "require_rights", lambda: None)
    FakeNetwork.done = []
    return lambda fault: Doing(fault, folder)


def test_cpu_classes_are_dealt_out_and_taken_back(do: Do) -> None:
    doing = do(Cpu((0.05, 0.5)))
    doing.injection.begin()
    doing.injection.end()
    assert doing.compose.asked == [
        ("update", "--cpus", "0.05", "id1", "id3"),
        ("update", "--cpus", "0.5", "id2", "id4"),
        ("update", "--cpus", "0.1", "id1", "id2", "id3", "id4"),
    ]


def test_a_partition_cuts_both_ways_and_heals(do: Do) -> None:
    doing = do(Partition(2))
    doing.injection.begin()
    assert FakeNetwork.done == [
        (1, "refuse", ("10.0.0.2", "10.0.0.4")),
        (2, "refuse", ("10.0.0.1", "10.0.0.3")),
        (3, "refuse", ("10.0.0.2", "10.0.0.4")),
        (4, "refuse", ("10.0.0.1", "10.0.0.3")),
    ]
    doing.injection.end()
    assert FakeNetwork.done[4:] == [(number, "heal") for number in (1, 2, 3, 4)]


def test_loss_and_delay_reach_a_share_of_the_peers(do: Do) -> None:
    doing = do(Loss(0.3, 0.5))
    doing.injection.begin()
    assert [(verb, figure) for _, verb, figure in FakeNetwork.done] == [("lose", 0.3)] * 2
    FakeNetwork.done = []
    doing = do(Delay(300, 100, 512))
    doing.injection.begin()
    assert FakeNetwork.done == [(number, "delay", (300, 100, 512)) for number in (1, 2, 3, 4)]
    assert doing.injection.note == ""


def test_a_kernel_without_netem_is_told(do: Do, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNetwork, "has_netem", False)
    doing = do(Delay(300, 100, 512))
    doing.injection.begin()
    assert "512 kbit/s" in doing.injection.note


def test_links_flap_and_are_up_at_the_end(do: Do) -> None:
    doing = do(Flap(down_s=4, up_s=8, share=0.25))
    doing.injection.begin()
    for elapsed_s in (0.5, 3.9, 4.1, 11.9, 12.5, 13.0):
        assert not doing.injection.step(elapsed_s)
    assert [up for _, _, up in FakeNetwork.done] == [False, True, False]
    doing.injection.end()
    assert FakeNetwork.done[-1][1] == "heal"


def test_the_killed_are_not_waited_for_and_start_again_when_all_is_measured(do: Do) -> None:
    doing = do(Kill(0.25))
    doing.injection.begin()
    [(verb, killed)] = doing.compose.asked
    assert verb == "kill"
    assert doing.injection.lost == {killed.replace("id", "host")}
    doing.injection.end()
    assert len(doing.compose.asked) == 1
    doing.injection.restore()
    assert doing.compose.asked[-1] == ("start", killed)


def test_a_rolling_restart_takes_one_after_the_other(do: Do) -> None:
    doing = do(Restart(every_s=5))
    assert [doing.injection.step(elapsed_s) for elapsed_s in (0.0, 4.0, 5.0, 30.0, 31.0)] == [False] * 4 + [True]
    assert [arguments[-1] for arguments in doing.compose.asked] == ["id1", "id2", "id3", "id4"]
    assert {arguments[0] for arguments in doing.compose.asked} == {"restart"}


def test_clocks_are_wrong_for_one_life_and_right_in_the_next(do: Do) -> None:
    doing = do(Clock((86400.0, -1.2e9), share=0.5))
    doing.injection.begin()
    files = sorted(doing.folder.clock.iterdir())
    assert [path.read_text() for path in files] == ["86400\n", "-1200000000\n"]
    restarted = sorted(arguments[-1].replace("id", "host") for arguments in doing.compose.asked)
    assert restarted == [path.name for path in files]
    doing.injection.end()
    assert list(doing.folder.clock.iterdir()) == []
    assert len(doing.compose.asked) == 4


def test_the_peers_that_are_hit_follow_from_the_seed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.prepare({})

    def lost(seed: int) -> frozenset[str]:
        return Doing(Kill(0.5), folder, seed).injection.lost

    assert lost(1) == lost(1)
    assert len({lost(seed) for seed in range(20)}) > 1


# --- networks of containers ---


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nsenter that records what it is asked to run; netem fails, as on some kernels."""
    log = tmp_path / "log"
    nsenter = tmp_path / "nsenter"
    nsenter.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *netem*) echo no such thing >&2; exit 2;; esac\n')
    nsenter.chmod(0o755)
    for tool in namespace.TOOLS:  # whatever is installed here
        if tool != "nsenter":
            (tmp_path / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for which, target in (("7", "net:[2]"), ("self", "net:[1]"), ("8", "net:[1]")):
        (tmp_path / "proc" / which / "ns").mkdir(parents=True)
        (tmp_path / "proc" / which / "ns" / "net").symlink_to(target)
    return log


def test_a_containers_network_is_disturbed_from_outside(tools: Path, tmp_path: Path) -> None:
    network = Network(7, tmp_path / "proc")
    network.lose(0.3)
    network.refuse(["10.0.0.2"])
    assert not network.delay(300, 100, 512)
    network.link(up=False)
    network.heal()
    lines = [line.removeprefix("--target 7 --net ") for line in tools.read_text().splitlines()]
    assert lines == [
        "iptables -A INPUT -i eth0 -m statistic --mode random --probability 0.3 -j DROP",
        "iptables -A INPUT -i eth0 -s 10.0.0.2 -j DROP",
        "tc qdisc replace dev eth0 root netem delay 300ms 100ms",
        "tc qdisc replace dev eth0 root tbf rate 512kbit burst 16kb latency 2s",
        "ip link set eth0 down",
        "iptables -F INPUT",
        "tc qdisc del dev eth0 root",
        "ip link set eth0 up",
    ]


def test_this_machines_own_network_is_never_touched(tools: Path, tmp_path: Path) -> None:
    for pid in (8, 99):
        with pytest.raises(P2PRecError):
            Network(pid, tmp_path / "proc")
    assert not tools.exists()


def test_a_fault_that_cannot_be_made_is_said(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nsenter").write_text("#!/bin/sh\necho not permitted >&2; exit 1\n")
    with pytest.raises(P2PRecError, match="not permitted"):
        Network(7, tmp_path / "proc").lose(0.3)
    monkeypatch.setattr(namespace.os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="not root"):
        namespace.require_rights()
    (tmp_path / "iptables").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no iptables"):
        namespace.require_rights()


# --- judging ---

WITHOUT = {f"person-of-{host}": QUALITY for host in "abc"}


def measured(*values: float) -> dict[str, list[Sample]]:
    """One measurement of every peer each ten seconds."""
    return by_host(
        sample(host, 10.0 * number + 5.0, quality={**QUALITY, "ndcg_at_10": value, "auc": value})
        for number, value in enumerate(values)
        for host in "abc"
    )


def test_quality_is_compared_with_the_same_people_and_told_with_its_error() -> None:
    before = measure(measured(0.5, 0.5, 0.5, 0.5), 0.0, 40.0)
    ratios, people = compare(before, measure(measured(0.49, 0.51, 0.49, 0.51), 0.0, 40.0))
    assert people == 3
    assert ratios["auc"].value == pytest.approx(1.0)
    assert ratios["auc"].error == pytest.approx(
        0.0231 * 2**0.5, abs=1e-4
    )  # so few measurements count as one, on either side
    # Means alone are taken to be known as well as what they are compared with.
    means, _ = compare(Measurement(WITHOUT), measure(measured(0.49, 0.51, 0.49, 0.51), 0.0, 40.0))
    assert means["auc"].error == pytest.approx(0.0231 * 2**0.5, abs=1e-4)


def test_what_drifts_is_known_as_well_as_it_was_followed() -> None:
    """How much a mean varies shows in the longer measurement; sixteen slots count as one."""
    drifting = [0.5 + 0.01 * (-1) ** (number // 16) for number in range(64)]
    before = measure(measured(*drifting), 0.0, 640.0)
    ratios, _ = compare(before, measure(measured(*[0.5] * 32), 0.0, 320.0))
    assert ratios["auc"].error == pytest.approx(0.02 * (1 / 4 + 1 / 2) ** 0.5, rel=0.02)


def test_times_of_other_faults_are_no_reference() -> None:
    history = measured(0.5, 0.1, 0.1, 0.5, 0.5, 0.5)
    before = measure(history, 0.0, 60.0, without=[(10.0, 30.0)])
    assert [slot["person-of-a"]["auc"] for slot in before.slots] == [0.5] * 4
    assert before.quality["person-of-a"]["auc"] == 0.5


def test_what_cannot_be_compared_is_not() -> None:
    well = measure(measured(0.5, 0.5, 0.5), 0.0, 30.0)
    strangers = Measurement({"person-of-a": QUALITY, "person-of-z": QUALITY})
    assert compare(strangers, well)[1] == 1
    assert compare(Measurement({}), well) == ({}, 0)
    assert compare(Measurement(WITHOUT), measure(measured(0.5, 0.5), 0.0, 20.0)) == ({}, 3)
    assert compare(measure(measured(0.0, 0.0, 0.0), 0.0, 30.0), well) == ({}, 3)


@pytest.mark.parametrize(
    ("value", "error", "reaches"),
    [
        (0.98, 0.0, True),
        (0.9799, 0.0, False),
        (0.97, 0.01, True),
        (0.9699, 0.01, False),
        (1.0, 0.02, True),
        (1.0, 0.0201, False),
    ],
)
def test_a_ratio_reaches_what_is_promised_only_if_it_was_measured_well_enough(
    value: float, error: float, reaches: bool
) -> None:
    assert Ratio(value, error).reaches(0.98) is reaches


GOOD = Ratio(1.0, 0.01)
BAD = Ratio(0.9, 0.01)
IDS = {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"back_after_s": None}, ["every survivor is back within 120 s, by itself"]),
        ({"ratios": {"ndcg_at_10": BAD, "auc": GOOD}}, ["NDCG@10 at least 0.98 times that without the fault"]),
        ({"ratios": {"ndcg_at_10": GOOD, "auc": BAD}}, ["AUC at least 0.98 times that without the fault"]),
        (
            {"ratios": {}},
            ["NDCG@10 at least 0.98 times that without the fault", "AUC at least 0.98 times that without the fault"],
        ),
        ({"identities": (IDS, {"a": "1", "b": "3"})}, ["every survivor is who it was"]),
        ({"identities": (IDS, {"a": "1"})}, ["every survivor is who it was"]),
        ({"restarted": ["p2prec-peer-1"]}, ["no survivor crashed"]),
    ],
)
def test_each_promise_can_be_broken(changes: dict[str, Any], broken: list[str]) -> None:
    arguments: dict[str, Any] = {
        "back_after_s": 5.0,
        "ratios": {"ndcg_at_10": GOOD, "auc": GOOD},
        "identities": (IDS, IDS),
        "restarted": [],
    }
    assert [check.name for check in judge(Holds(), **(arguments | changes)) if not check.holds] == broken


@pytest.mark.parametrize(
    ("changes", "back"),
    [
        ({}, True),
        ({"state": "searching"}, False),
        ({"neighbours": 1}, False),
        ({"exchanges": 102}, False),
        ({"t": 79.0}, False),
    ],
)
def test_a_peer_is_back_when_it_speaks_and_exchanges_with_others(changes: dict[str, Any], back: bool) -> None:
    samples = [sample("a", 100.0, exchanges=103), sample("b", 100.0, exchanges=103), sample("c", 100.0, exchanges=103)]
    fields = {"t": 100.0, "exchanges": 103} | changes
    samples[2] = sample("c", fields.pop("t"), **fields)
    assert are_back(samples, dict.fromkeys("abc", 100), now=100.0) is back
    assert not are_back(samples[:2], dict.fromkeys("abc", 100), now=100.0)


def test_a_survivor_that_the_engine_restarted_has_crashed() -> None:
    before = FakeCompose(3).all
    after = {container.host: container for container in before}
    hosts = {"host1", "host2"}
    assert _restarted(before, after, hosts) == []
    after["host1"] = replace(after["host1"], restarts=1)
    after["host3"] = replace(after["host3"], running=False)
    assert _restarted(before, after, hosts) == ["p2prec-peer-1"]
    after["host2"] = replace(after["host2"], out_of_memory=True)
    assert _restarted(before, after, hosts) == ["p2prec-peer-1", "p2prec-peer-2"]
    del after["host1"]
    assert "host1" in _restarted(before, after, hosts)
