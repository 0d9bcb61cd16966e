"""A swarm in which some speak libp2p and some TLS: nobody is harmed, and everybody is told why they do not meet."""

from __future__ import annotations

import secrets

import pytest
from devices import LIBP2P_MARKS, Device, MakeDevice, make_manifest

from p2prec.config import TransportKind

pytestmark = [*LIBP2P_MARKS]


def speaking(device: Device, kind: TransportKind) -> Device:
    device.transport = kind
    return device


def test_whoever_dials_and_whoever_is_dialled_is_told(make_device: MakeDevice) -> None:
    for listening, dialling in ((TransportKind.TLS, TransportKind.LIBP2P), (TransportKind.LIBP2P, TransportKind.TLS)):
        a = speaking(make_device(f"{listening}-listens"), listening).serve()
        b = speaking(make_device(f"{dialling}-dials"), dialling).serve(a)
        for device, other in ((a, dialling), (b, listening)):
            status = device.until(lambda s: s["warnings"], "tells that somebody speaks another transport")
            (warning,) = status["warnings"]
            assert f"speaks {other}, and this peer {device.transport}" in warning
            assert "--transport" in warning
            assert status["transport"] == device.transport
            assert (status["state"], status["neighbours"]) == ("searching", 0)
            assert device.log_text().count("they never meet") == 1
        assert {p["state"] for p in b.ask("peers")["peers"]} == {"other transport"}
        assert any("speaks" in f["message"] for f in b.json("doctor")["findings"] if f["check"] == "daemon")
        for device in (a, b):
            assert device.terminate() == 0


@pytest.mark.network
def test_announced_peers_of_the_other_transport_are_listed_and_not_dialled(make_device: MakeDevice) -> None:
    swarm = make_manifest(f"films {secrets.token_hex(4)}")
    kinds = (TransportKind.TLS, TransportKind.TLS, TransportKind.LIBP2P)
    devices = [speaking(make_device(f"d{n}", joined=swarm), kind) for n, kind in enumerate(kinds)]
    for device in devices:
        device.serve(mdns=True, mdns_interfaces=("127.0.0.1",), ready=False)
    for device in devices[:2]:
        device.until(lambda s: s["neighbours"] == 1 and s["warnings"], "has met its like, and seen the other")
    odd = devices[2]
    odd.until(lambda s: any("2 peers of this swarm" in warning for warning in s["warnings"]), "has seen both others")
    listed = {p["peer_id"] for p in odd.ask("peers")["peers"] if p["state"] == "other transport"}
    assert listed == {device.status()["peer_id"] for device in devices[:2]}
    assert not odd.events("DialFailed")
    assert odd.terminate() == 0
    for device in devices[:2]:
        device.until(lambda s: not s["warnings"], "forgets the one that has gone")
