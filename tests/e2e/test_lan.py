"""Machines of their own on one network: real multicast, cables that are pulled, a disk image on two machines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from devices import N_ITEMS, QUICK, Device, MakeDevice, both_transports
from lan import Lan
from test_membership import copy_of

pytestmark = [pytest.mark.network, both_transports]

ON_A_LAN: dict[str, Any] = {"mdns": True, "listen_host": "0.0.0.0", "ready": False}


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    lan = Lan(4)
    try:
        lan.build()
    except (OSError, subprocess.CalledProcessError) as error:
        lan.remove()
        pytest.skip(f"network namespaces are not possible here: {error}")
    yield lan
    lan.remove()


def has_met(n_others: int, device: Device) -> dict[str, Any]:
    return device.until(lambda s: s["neighbours"] == n_others and s["exchanges"] >= 3, "has met and learned from all")


@pytest.fixture
def devices(make_device: MakeDevice, lan: Lan) -> list[Device]:
    """Four that were started at the same time and have found each other."""
    devices = [make_device(f"machine-{number}") for number in range(1, 5)]
    for number, device in enumerate(devices, start=1):
        device.on_machine = lan.on_machine(number)
        device.log_plays(range(number, N_ITEMS, 4))
        device.serve(**ON_A_LAN)
    for device in devices:
        has_met(3, device)
    return devices


def test_four_machines_find_each_other_and_learn(devices: list[Device], lan: Lan) -> None:
    for number, device in enumerate(devices, start=1):
        others = {lan.address(n) for n in (1, 2, 3, 4) if n != number}
        assert {peer["host"] for peer in device.ask("peers")["peers"]} == others
        assert device.status()["messages_refused"] == 0
    assert "mdns" in {e["source"] for device in devices for e in device.events("PeerSighted")}


@pytest.mark.slow
def test_a_pulled_cable_is_noticed_and_its_end_too(devices: list[Device], lan: Lan) -> None:
    lan.plug(4, into_switch=False)
    devices[3].until(lambda s: s["state"] == "searching", "notices that nobody answers")
    for device in devices[:3]:
        device.until(lambda s: s["neighbours"] == 2, "notices that one does not answer")
    lan.plug(4, into_switch=True)
    exchanges = devices[3].status()["exchanges"]
    for device in devices:
        device.until(lambda s: s["neighbours"] == 3, "has met all others again")
    devices[3].until(lambda s: s["exchanges"] > exchanges, "exchanges again")
    for device in devices:
        assert device.status()["messages_refused"] == 0
        assert device.terminate() == 0


@pytest.mark.slow
def test_a_disk_image_on_two_machines_is_noticed_on_both(make_device: MakeDevice, lan: Lan) -> None:
    """Nobody else is there to tell them: they see each other's announcements."""
    original = make_device("original")
    assert original.directory.identity().peer_id  # the key is made now, so that it is copied
    copy = copy_of(original, make_device("copy", joined=None))
    for number, device in enumerate((original, copy), start=1):
        device.on_machine = lan.on_machine(number)
        device.serve(**ON_A_LAN, quick=QUICK)
    for device in (original, copy):
        status = device.until(lambda s: s["state"] == "conflict", "says that it runs twice")
        assert any("identity renew" in warning for warning in status["warnings"])
        assert status["exchanges"] == status["neighbours"] == 0
    assert copy.terminate() == 0
    original.until(lambda s: s["state"] == "searching" and not s["warnings"], "goes on alone")
