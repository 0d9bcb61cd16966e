"""A peer's life as its owner sees it: start, meet, learn, ask, log, stop, start again."""

from __future__ import annotations

import secrets
import signal
import time
from typing import Any

import pytest
from devices import N_ITEMS, Device, MakeDevice, both_transports, make_manifest, write_manifest

from p2prec.manifest import Manifest

pytestmark = both_transports

REQUIRED = (
    *(
        "peer_id",
        "swarm_id",
        "state",
        "uptime_s",
        "neighbours",
        "peers_seen",
        "rounds",
        "contributions",
        "interactions",
    ),
    *("items", "bytes_in", "bytes_out", "messages_refused", "privacy", "quality", "rss_bytes"),
)
TASTES = (range(0, 24, 2), range(0, 30, 3), range(0, 40, 4))


def check_status(status: dict[str, Any], manifest: Manifest) -> None:
    """Every promised field, with a value that makes sense for a peer that has learned for a while."""
    assert set(REQUIRED) <= set(status)
    assert status["peer_id"].startswith("12D3KooW")
    assert status["swarm_id"] == manifest.swarm_id.hex()
    assert status["items"] == N_ITEMS
    assert status["messages_refused"] == 0
    assert status["warnings"] == []
    assert set(status["privacy"]) == {"epsilon_spent", "epsilon_budget", "delta"}
    assert {"ndcg_at_10", "hr_at_10", "auc", "popularity_ndcg_at_10", "alone_ndcg_at_10"} <= set(status["quality"])


def check_learning(status: dict[str, Any]) -> None:
    assert status["rounds"] > 0
    assert status["contributions"] > 0
    assert status["exchanges"] > 0
    assert status["bytes_in"] > 1000
    assert status["bytes_out"] > 1000
    assert status["peers_seen"] == 2
    assert 0.0 <= status["quality"]["ndcg_at_10"] <= 1.0
    assert 0.0 <= status["quality"]["auc"] <= 1.0


def test_three_peers_meet_learn_answer_stop_and_resume(make_device: MakeDevice, manifest: Manifest) -> None:
    a, b, c = (make_device(name) for name in "abc")
    for device, taste in zip((a, b, c), TASTES, strict=True):
        device.log_plays(taste)
    a.serve(holdout_fraction=0.3)
    b.serve(a, holdout_fraction=0.3)
    c.serve(a, b, holdout_fraction=0.3)
    for device in (a, b, c):
        status = device.until(
            lambda s: s["neighbours"] == 2 and s["exchanges"] >= 5 and s["quality"]["ndcg_at_10"] is not None,
            "has learned from both others",
        )
        check_status(status, manifest)
        check_learning(status)
        assert status["state"] == "running"
        assert 10e6 < status["rss_bytes"] < 200e6

    running = answers_of(a)
    check_status(running["status"], manifest)
    assert {p["state"] for p in running["peers"]} == {"connected"}
    check_that_logging_shows_up(a)

    before = a.status()
    assert a.terminate() == 0
    assert not a.directory.control_socket_path.exists()
    assert "everything is saved" in a.log_text()
    stopped = answers_of(a)
    check_status(stopped["status"], manifest)
    check_learning(stopped["status"])
    assert stopped["status"]["state"] == "stopped"
    for total in ("rounds", "exchanges", "contributions", "bytes_in", "bytes_out", "interactions"):
        assert stopped["status"][total] >= before[total], total
    for device in (b, c):
        device.until(lambda s: s["neighbours"] == 1, "has noticed that one is gone")
        assert [e["reason"] for e in device.events("NeighbourDown")] == ["leaving"]

    a.serve(holdout_fraction=0.3)  # nobody is named: it knows them from before, and they know it
    status = a.until(lambda s: s["neighbours"] == 2, "meets the others again")
    assert status["peer_id"] == before["peer_id"]
    a.until(lambda s: s["rounds"] > stopped["status"]["rounds"] and s["exchanges"] > before["exchanges"], "goes on")
    assert a.status()["age_rounds"] >= before["age_rounds"]


def answers_of(device: Device) -> dict[str, Any]:
    """Every question that the command line can ask, running or not."""
    recommended = device.json("recommend", "-n", "5")["recommendations"]
    assert len(recommended) == 5
    assert all(r["title"] and r["reason"] for r in recommended)
    assert not {r["item"] for r in recommended} & {f"i{n}" for n in TASTES[0]}
    assert any(r["reason"].startswith("because you liked Film") for r in recommended)
    similar = device.json("similar", "Film 0")
    assert similar["item"] == "i0"
    assert similar["similar"]
    peers = device.json("peers")["peers"]
    assert len(peers) == 2
    return {"status": device.json("status"), "peers": peers}


def check_that_logging_shows_up(device: Device) -> None:
    before = device.status()["interactions"]
    done = device.command("log", "Film 59")
    assert (done.returncode, done.stdout) == (0, "Logged: Film 59, play\n")
    logged_at = time.monotonic()
    device.until(lambda s: s["interactions"] == before + 1, "shows what was logged")
    assert time.monotonic() - logged_at < 10.0
    assert "i59" not in {r["item"] for r in device.json("recommend", "-n", "100")["recommendations"]}


def test_start_joins_runs_and_ends_cleanly(make_device: MakeDevice, manifest: Manifest, tmp_path: Any) -> None:
    """The command itself: the first start joins, a second one on the same state is refused, SIGTERM ends it."""
    device = make_device("device", joined=None)
    file = write_manifest(manifest, tmp_path / "films.toml")
    device.start("--swarm", str(file))
    status = device.status()
    check_status(status, manifest)
    assert (status["state"], status["neighbours"], status["rounds"]) == ("searching", 0, 0)
    key = device.directory.identity_path
    assert key.stat().st_mode & 0o777 == 0o600
    assert device.directory.control_socket_path.stat().st_mode & 0o777 == 0o600

    second = device.command("start", "--no-mdns")
    assert second.returncode == 2
    assert "in use by a running p2prec" in second.stderr
    assert device.running
    assert device.terminate() == 0
    assert device.json("status")["state"] == "stopped"


def test_without_a_swarm_the_next_step_is_named(make_device: MakeDevice) -> None:
    done = make_device("device", joined=None).command("start", "--no-mdns")
    assert done.returncode == 2
    assert "p2prec swarm join" in done.stderr


def test_peer_exchange_joins_those_that_know_one_in_common(make_device: MakeDevice) -> None:
    """A is given to C, B to A; nobody names B and C to each other."""
    a, b, c = (make_device(name) for name in "abc")
    b.serve()
    a.serve(b)
    c.serve(a)
    for device in (a, b, c):
        device.until(lambda s: s["neighbours"] == 2, "has met both others")
    sources = {e["source"] for device in (b, c) for e in device.events("PeerSighted")}
    assert "exchange" in sources


@pytest.mark.slow
def test_neighbours_that_are_killed_are_missed_and_found_again(make_device: MakeDevice) -> None:
    a, b = make_device("a"), make_device("b")
    a.serve()
    port = a.address[1]
    b.serve(a)
    b.until(lambda s: s["exchanges"] > 0, "exchanges")
    a.kill()
    b.until(lambda s: s["state"] == "searching", "notices")
    exchanges = b.status()["exchanges"]
    a.serve(listen_port=port)
    b.until(lambda s: s["exchanges"] > exchanges, "exchanges again")
    assert not b.events("IdentityConflict")


def test_a_taken_port_is_an_error_and_leaves_the_state_usable(make_device: MakeDevice) -> None:
    a, b = make_device("a"), make_device("b")
    a.serve()
    b.serve(listen_port=a.address[1], ready=False)
    assert b.process is not None
    assert b.process.wait(60) == 1
    assert "cannot listen" in b.log_text()
    b.serve()


@pytest.mark.network
def test_four_processes_find_each_other_by_multicast(make_device: MakeDevice) -> None:
    swarm = make_manifest(f"films {secrets.token_hex(4)}")  # whatever else is announced on this machine just now
    devices = [make_device(name, joined=swarm) for name in "abcd"]
    for device, start in zip(devices, range(4), strict=True):
        device.log_plays(range(start, N_ITEMS, 4))
        device.serve(mdns=True, mdns_interfaces=("127.0.0.1",), ready=False)
    for device in devices:
        device.until(lambda s: s["neighbours"] == 3 and s["exchanges"] >= 3, "has met and learned from all others")
    sources = [{e["source"] for e in device.events("PeerSighted")} for device in devices]
    assert set().union(*sources) <= {"mdns", "exchange"}
    assert sum("mdns" in found for found in sources) >= 3  # one at most was found by all others first


@pytest.mark.slow
def test_a_suspended_daemon_comes_back(make_device: MakeDevice) -> None:
    """SIGSTOP, as when a laptop sleeps: its neighbours give it up, and all meet again afterwards."""
    a, b = make_device("a"), make_device("b")
    a.serve()
    b.serve(a)
    a.until(lambda s: s["exchanges"] > 0, "exchanges")
    assert a.process is not None
    a.process.send_signal(signal.SIGSTOP)
    b.until(lambda s: s["state"] == "searching", "gives it up")
    a.process.send_signal(signal.SIGCONT)
    exchanges = b.status()["exchanges"]
    b.until(lambda s: s["exchanges"] > exchanges, "exchanges again")
    for device in (a, b):
        assert device.status()["messages_refused"] == 0
        assert not device.events("IdentityConflict")
