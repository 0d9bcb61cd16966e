"""The units of deploy/systemd under a real systemd: the peer works with all of the hardening, and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import make_manifest, until
from machine import CannotBoot, Machine

from p2prec import manifest as manifests

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    scratch = tmp_path_factory.mktemp("machine") / "scratch"
    scratch.mkdir()
    machine = Machine(scratch)
    try:
        machine.boot()
    except CannotBoot as error:
        machine.shut_off()
        pytest.skip(f"no machine with systemd can be made here: {error}")
    machine.write("/etc/p2prec/swarm.toml", manifests.dump(make_manifest()), mode="600")
    machine.write("/etc/p2prec/p2prec.env", "P2PREC_OPTIONS=--listen 127.0.0.1:4001 --no-mdns\nP2PREC_METRICS=9464\n")
    machine.write("/usr/local/sbin/p2precctl", (FOLDER / "p2precctl").read_text(), mode="755")
    machine.write("/etc/systemd/system/p2prec.service", (FOLDER / "p2prec.service").read_text())
    machine.run("systemctl", "daemon-reload")
    yield machine
    print(machine.run("journalctl", "--no-pager", "-u", "p2prec", check=False).stdout[-5000:])
    machine.shut_off()


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("p2precctl", "status", "--json").stdout)
    return found


def shown(machine: Machine, name: str) -> str:
    return machine.run("systemctl", "show", "-p", name, "--value", "p2prec").stdout.strip()


def test_the_service_starts_reports_and_obeys_its_owner(machine: Machine) -> None:
    machine.run("systemctl", "start", "p2prec")  # returns once the daemon has said that it is ready
    assert shown(machine, "ActiveState") == "active"
    assert shown(machine, "StatusText") == "searching, 0 neighbours, round 0"
    machine.run("p2precctl", "log", "i3", "--event", "play")
    machine.write("/var/lib/p2prec/history.csv", "item,event,timestamp\ni5,play,1700000000\ni7,play,1700000001\n")
    machine.run("p2precctl", "import", "/var/lib/p2prec/history.csv")
    until(lambda: status(machine)["interactions"] == 3, "the daemon has what was logged and imported")
    page = machine.run("curl", "-sS", "http://127.0.0.1:9464/metrics", check=False)
    if page.returncode == 0:  # where there is curl
        assert "p2prec_interactions 3.0" in page.stdout
        assert "process_resident_memory_bytes" in page.stdout


def test_it_has_no_privileges_and_keeps_its_state_to_itself(machine: Machine) -> None:
    machine.run("systemctl", "start", "p2prec")
    facts = machine.run("cat", f"/proc/{shown(machine, 'MainPID')}/status").stdout
    lines = dict(line.split(":\t", 1) for line in facts.splitlines() if ":\t" in line)
    assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
    assert lines["Seccomp"] == "2"
    assert 0 not in map(int, lines["Uid"].split())
    modes = machine.run("stat", "-c", "%a", "/var/lib/private/p2prec", "/var/lib/p2prec/identity.key").stdout.split()
    assert modes == ["700", "600"]


def test_it_learns_with_another_peer(machine: Machine) -> None:
    machine.run("systemctl", "start", "p2prec")
    machine.run(
        *("systemd-run", "--unit=other", "-E", "P2PREC_STATE=/tmp/other", "-E", "XDG_CACHE_HOME=/tmp/cache"),
        *("/opt/p2prec/bin/p2prec", "start", "--swarm", "/etc/p2prec/swarm.toml"),
        *("--listen", "127.0.0.1:0", "--no-mdns", "--peer", "127.0.0.1:4001"),
    )
    until(lambda: status(machine)["exchanges"] > 3, "they exchange")
    machine.run("systemctl", "stop", "other")


def test_it_comes_back_as_who_it_was(machine: Machine) -> None:
    machine.run("systemctl", "start", "p2prec")
    before = status(machine)
    machine.run("systemctl", "kill", "--signal=SIGKILL", "p2prec")
    until(lambda: shown(machine, "NRestarts") == "1" and shown(machine, "ActiveState") == "active", "it is back")
    after = status(machine)
    assert (after["peer_id"], after["interactions"]) == (before["peer_id"], before["interactions"])
    machine.run("systemctl", "stop", "p2prec")
    assert shown(machine, "Result") == "success"


def test_a_wrong_set_up_is_said_once_and_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", "p2prec")
    machine.write("/etc/p2prec/p2prec.env", "P2PREC_OPTIONS=--listen nowhere\n")
    assert machine.run("systemctl", "start", "p2prec", check=False).returncode != 0
    assert shown(machine, "ActiveState") == "failed"
    assert shown(machine, "ExecMainStatus") == "2"
    assert "--listen 'nowhere': expected HOST:PORT" in machine.run("journalctl", "-u", "p2prec", "--no-pager").stdout


def test_one_persons_service_works_under_their_own_manager(machine: Machine) -> None:
    home = "/home/somebody"
    machine.run("useradd", "--create-home", "--home-dir", home, "--uid", "4711", "somebody")
    machine.run("systemctl", "start", "user-runtime-dir@4711", "user@4711")
    # The manifest is the person's own, and readable by them: nothing of root's is.
    machine.write(f"{home}/films.toml", manifests.dump(make_manifest()))
    options = f"P2PREC_OPTIONS=--swarm {home}/films.toml --listen 127.0.0.1:4002 --no-mdns\n"
    machine.write(f"{home}/.config/p2prec.env", options)
    machine.write(f"{home}/.config/systemd/user/p2prec.service", (FOLDER / "user" / "p2prec.service").read_text())
    machine.run("install", "-d", f"{home}/.local/bin")
    machine.run("ln", "-s", "/opt/p2prec/bin/p2prec", f"{home}/.local/bin/p2prec")
    machine.run("chown", "-R", "somebody:somebody", home)
    as_person = (
        *("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", "env"),
        *(f"HOME={home}", "XDG_RUNTIME_DIR=/run/user/4711"),
    )
    drop_in = (FOLDER / "user" / "no-namespaces.conf").read_text()
    for with_namespaces in (True, False):
        if not with_namespaces:
            machine.write(f"{home}/.config/systemd/user/p2prec.service.d/no-namespaces.conf", drop_in)
        machine.run(*as_person, "systemctl", "--user", "daemon-reload")
        machine.run(*as_person, "systemctl", "--user", "start", "p2prec")
        found = json.loads(machine.run(*as_person, f"{home}/.local/bin/p2prec", "status", "--json").stdout)
        assert found["listen"] == "127.0.0.1:4002"
        leader = machine.run(*as_person, "systemctl", "--user", "show", "-p", "MainPID", "--value", "p2prec").stdout
        own_users = machine.run("cat", f"/proc/{leader.strip()}/uid_map").stdout.split() != ["0", "0", "4294967295"]
        assert own_users is with_namespaces
        machine.run(*as_person, "systemctl", "--user", "stop", "p2prec")
