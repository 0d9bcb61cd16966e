"""Who gets in: members of a private swarm do; strangers, other swarms and copies of an identity do not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest
from devices import DEADLINE_S, QUICK, Device, MakeDevice, both_transports, make_manifest, until

from p2prec.errors import TransportFailure
from p2prec.identity import Identity
from p2prec.manifest import Manifest
from p2prec.storage.invitation import membership_key_of
from p2prec.transport.choice import make_transport
from p2prec.transport.tls import TlsTransport

pytestmark = both_transports

SECRET, OTHER_SECRET = b"m" * 32, b"x" * 32


def test_invited_peers_meet_and_strangers_do_not(make_device: MakeDevice, tmp_path: Path) -> None:
    """The whole way with commands: create a private swarm, join by invitation, refuse the manifest alone."""
    catalogue = tmp_path / "films.csv"
    catalogue.write_text("item,title\n" + "".join(f"i{n},Film {n}\n" for n in range(20)), encoding="utf-8")
    a, b, stranger = (make_device(name, joined=None) for name in ("a", "b", "stranger"))
    manifest, invitation, passed_on = (tmp_path / name for name in ("ours.toml", "ours.invite", "passed-on.invite"))
    created = a.command("swarm", "create", "ours", "--catalogue", str(catalogue), "--private", "-o", str(manifest))
    assert created.returncode == 0, created.stderr
    assert invitation.stat().st_mode & 0o777 == 0o600
    assert a.command("swarm", "join", str(invitation)).returncode == 0
    assert a.command("swarm", "invite", "-o", str(passed_on)).returncode == 0
    assert b.command("swarm", "join", str(passed_on)).returncode == 0
    refused = stranger.command("start", "--no-mdns", "--swarm", str(manifest))
    assert refused.returncode == 2
    assert "invitation" in refused.stderr
    a.serve()
    b.serve(a)
    for device in (a, b):
        device.until(lambda s: s["neighbours"] == 1, "has met the other member")


@pytest.fixture
def private() -> Manifest:
    return make_manifest("ours", membership_key=membership_key_of(SECRET))


def test_a_stranger_with_the_manifest_alone_never_gets_in(make_device: MakeDevice, private: Manifest) -> None:
    """It has everything but the secret, and a daemon that was made to try all the same."""
    a, b = make_device("a", joined=private, secret=SECRET), make_device("b", joined=private, secret=SECRET)
    a.serve()
    host, port = a.address
    forged = msgspec.structs.replace(private, membership_key=membership_key_of(OTHER_SECRET))

    async def intrude() -> None:
        # Its certificate is issued by a key of its own; it does not even ask who the other side is.
        transport = make_transport(a.transport, Identity.generate(), forged, OTHER_SECRET)
        if isinstance(transport, TlsTransport):
            transport._client_context.verify_mode = 0  # type: ignore[assignment]
        for _ in range(3):
            with pytest.raises(TransportFailure):
                connection = await transport.dial(host, port, deadline_s=DEADLINE_S)
                await connection.receive(deadline_s=DEADLINE_S)  # a HELLO would come first
        await transport.close()

    asyncio.run(intrude())
    status = a.until(lambda s: s["connections_refused"] == 3, "has counted the stranger")
    assert status["peers_seen"] == status["neighbours"] == 0
    assert "refused a connection from 127.0.0.1" in a.log_text()
    b.serve(a)  # and a member is as welcome as before
    a.until(lambda s: s["neighbours"] == 1, "meets a member")


def test_peers_of_another_swarm_never_get_in(make_device: MakeDevice, manifest: Manifest) -> None:
    a, other = make_device("a"), make_device("other", joined=make_manifest("books", seed="08"))
    a.serve()
    other.serve(a)
    until(lambda: other.events("DialFailed"), "the other swarm's peer is turned away")
    status = a.until(lambda s: s["connections_refused"] >= 1, "has counted it")
    for found in (status, other.status()):
        assert found["neighbours"] == 0
        assert found["exchanges"] == 0
        assert found["state"] == "searching"


def copy_of(device: Device, copy: Device) -> Device:
    shutil.copytree(device.path, copy.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("control.sock", "lock"))
    return copy


def test_a_copied_identity_is_told_on_both_and_neither_exchanges(make_device: MakeDevice) -> None:
    """They never hear of each other but through the neighbour that they have in common."""
    original, neighbour = make_device("original"), make_device("neighbour")
    quick = msgspec.structs.replace(QUICK, conflict_s=3.0)
    neighbour.serve(quick=quick)
    original.serve(neighbour, quick=quick)
    original.until(lambda s: s["exchanges"] > 0, "exchanges")
    assert original.terminate() == 0
    copy = copy_of(original, make_device("copy", joined=None))

    original.serve(neighbour, quick=quick)
    original.until(lambda s: s["neighbours"] == 1, "is back")
    copy.serve(neighbour, quick=quick)
    for device in (original, copy):
        status = device.until(lambda s: s["state"] == "conflict", "says that it runs twice")
        assert any("identity renew" in warning for warning in status["warnings"]), status["warnings"]
        proven = [e for e in device.events("IdentityConflict") if e["proven"]]
        assert proven
        assert "a state directory was copied" in proven[0]["message"]
    # Longer than a conflict is remembered: they go on seeing each other, so nothing is exchanged.
    counts = [(d.status()["exchanges"], d.status()["contributions"]) for d in (original, copy)]
    n_told = len(copy.events("IdentityConflict"))
    uptime_s = original.status()["uptime_s"]
    original.until(lambda s: s["uptime_s"] > uptime_s + 1.3 * quick.conflict_s, "has waited")
    assert [(d.status()["exchanges"], d.status()["contributions"]) for d in (original, copy)] == counts
    assert [d.status()["state"] for d in (original, copy)] == ["conflict", "conflict"]
    assert len(copy.events("IdentityConflict")) == n_told

    assert copy.terminate() == 0
    original.until(lambda s: s["state"] == "running" and not s["warnings"], "goes on alone")
    original.until(lambda s: s["exchanges"] > counts[0][0], "exchanges again")

    renewed = copy.command("identity", "renew")
    assert renewed.returncode == 0, renewed.stderr
    copy.serve(neighbour)
    copy.until(lambda s: s["exchanges"] > counts[1][0], "is a peer of its own now")
    assert original.status()["state"] == "running"
