from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from p2prec.data.interactions import Interaction
from p2prec.errors import ManifestError, StateError
from p2prec.identity import Identity
from p2prec.manifest import Manifest, reference_catalogue
from p2prec.storage import state as state_module
from p2prec.storage.invitation import Invitation, dump, load, load_manifest, membership_key_of
from p2prec.storage.state import MAX_SOCKET_PATH_BYTES, StateDirectory
from p2prec.types import ItemKey

SECRET = bytes(range(32))


def open_swarm(name: str = "films") -> Invitation:
    csv = b"item,title\n1,Toy Story (1995)\n2,Heat\n"
    return Invitation(Manifest(name=name, catalogue=reference_catalogue(csv, 2), seed="ab" * 32), None)


def private_swarm(name: str = "family") -> Invitation:
    import msgspec

    manifest = msgspec.structs.replace(open_swarm(name).manifest, membership_key=membership_key_of(SECRET))
    return Invitation(manifest, SECRET)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory.open(tmp_path / "state")


def test_a_new_directory_is_its_owner_s_alone(state: StateDirectory) -> None:
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert StateDirectory.open(state.path).path == state.path
    assert state.path.is_absolute()


def test_the_default_directory_is_the_platform_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert StateDirectory.open().path == tmp_path / "p2prec"


def test_a_file_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="state directory"):
        StateDirectory.open(tmp_path / "state")


# Identity


def test_the_identity_is_made_once_and_private(state: StateDirectory) -> None:
    first = state.identity()
    assert state.identity().peer_id == first.peer_id
    assert stat.S_IMODE(state.identity_path.stat().st_mode) == 0o600
    assert [file.name for file in state.path.iterdir()] == ["identity.key"]


def _send_peer_id(path: Path, start: tuple[int, int], pipe: int) -> None:
    os.close(start[1])
    os.read(start[0], 1)  # returns when the last one who could write has closed the other end
    os.write(pipe, StateDirectory.open(path).identity().peer_id.encode())


def test_processes_that_make_an_identity_at_once_get_the_same_one(state: StateDirectory) -> None:
    context = multiprocessing.get_context("fork")
    start, (reader, writer) = os.pipe(), os.pipe()
    processes = [context.Process(target=_send_peer_id, args=(state.path, start, writer)) for _ in range(4)]
    for process in processes:
        process.start()
    for end in start:
        os.close(end)
    for process in processes:
        process.join(60)
    os.close(writer)
    answers = os.read(reader, 10_000).decode()
    os.close(reader)
    assert answers == str(state.identity().peer_id) * 4


def test_renewing_keeps_the_old_key_beside_the_new_one(state: StateDirectory) -> None:
    old = state.identity()
    new, kept = state.renew_identity()
    assert new.peer_id != old.peer_id
    assert state.identity().peer_id == new.peer_id
    assert Identity.load(kept).peer_id == old.peer_id


def test_an_identity_is_not_renewed_under_a_running_daemon(state: StateDirectory) -> None:
    old = state.identity()
    with state.lock(), pytest.raises(StateError, match="in use"):
        state.renew_identity()
    assert state.identity().peer_id == old.peer_id


# Swarm


def test_before_joining_the_commands_to_do_so_are_named(state: StateDirectory) -> None:
    assert not state.has_swarm()
    with pytest.raises(StateError, match="no swarm has been joined") as error:
        state.swarm()
    assert "p2prec swarm join" in error.value.remedy


def test_an_open_swarm_is_joined_with_its_manifest(state: StateDirectory) -> None:
    assert state.join(open_swarm())
    assert state.swarm() == open_swarm().manifest
    assert state.membership_secret() is None
    assert state.catalogue().titles == ("Toy Story (1995)", "Heat")
    assert not state.join(open_swarm())


def test_a_private_swarm_s_secret_is_kept_private(state: StateDirectory) -> None:
    assert state.join(private_swarm())
    assert state.membership_secret() == SECRET
    assert stat.S_IMODE(state.membership_path.stat().st_mode) == 0o600
    assert state.invitation() == private_swarm()
    state.membership_path.chmod(0o640)
    with pytest.raises(StateError, match="other users") as error:
        state.membership_secret()
    assert "chmod 600" in error.value.remedy


@pytest.mark.parametrize("content", ["", "zz", "00" * 31])
def test_a_damaged_secret_is_noticed_and_mended_by_joining_again(state: StateDirectory, content: str) -> None:
    state.join(private_swarm())
    state.membership_path.write_text(content)
    with pytest.raises((StateError, ManifestError)):
        state.membership_secret()
    assert state.join(private_swarm())
    assert state.membership_secret() == SECRET


def test_another_swarm_replaces_the_first_only_when_asked(state: StateDirectory) -> None:
    state.join(private_swarm())
    with state.open_store() as store:
        store.add_interactions([Interaction(ItemKey("1"), "play", None, 1.0)])
    with pytest.raises(StateError, match="already in swarm 'family'") as error:
        state.join(open_swarm())
    assert "--replace" in error.value.remedy
    assert state.swarm() == private_swarm().manifest
    assert state.join(open_swarm(), replace=True)
    assert state.swarm() == open_swarm().manifest
    assert not state.membership_path.exists()
    with state.open_store() as store:
        assert store.count_interactions() == 1


def test_a_damaged_manifest_can_be_replaced(state: StateDirectory) -> None:
    state.swarm_path.write_text("name = 1")
    with pytest.raises(ManifestError, match=r"swarm\.toml"):
        state.join(open_swarm())
    assert state.join(open_swarm(), replace=True)


def test_no_swarm_is_joined_under_a_running_daemon(state: StateDirectory) -> None:
    with state.lock(), pytest.raises(StateError, match="in use"):
        state.join(open_swarm())
    assert not state.has_swarm()
    state.join(open_swarm())
    with state.lock():
        assert not state.join(open_swarm())  # nothing to do, so nothing to disturb


# Invitations


def test_an_invitation_reads_back_and_a_plain_manifest_is_one_for_an_open_swarm(tmp_path: Path) -> None:
    for invitation in (open_swarm(), private_swarm()):
        path = tmp_path / f"{invitation.manifest.name}.invite"
        path.write_text(dump(invitation))
        assert load(path) == invitation
        assert load_manifest(path) == invitation.manifest
    assert SECRET.hex() not in repr(private_swarm())


def test_a_private_manifest_alone_does_not_let_in(tmp_path: Path) -> None:
    from p2prec import manifest as manifests

    path = tmp_path / "family.toml"
    path.write_text(manifests.dump(private_swarm().manifest))
    assert load_manifest(path) == private_swarm().manifest
    with pytest.raises(ManifestError, match="private") as error:
        load(path)
    assert "invitation" in error.value.remedy


def test_secrets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not belong"):
        replace(private_swarm(), membership_secret=bytes(32))
    with pytest.raises(ManifestError, match="is open"):
        replace(open_swarm(), membership_secret=SECRET)
    path = tmp_path / "x.invite"
    for bad in ('"00"', "5", f'"{"0" * 63}g"', f'"{"A" * 64}"'):
        path.write_text(f"membership_secret = {bad}\n" + dump(open_swarm()))
        with pytest.raises(ManifestError, match="hexadecimal"):
            load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"name = 'x'\n"])
def test_what_is_no_invitation_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.invite"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"x\.invite"):
        load(path)
    with pytest.raises(ManifestError, match="No such file"):
        load(tmp_path / "absent")


# Lock


def _hold(path: Path, ready: int) -> None:
    with StateDirectory.open(path).lock():
        os.write(ready, b"!")
        signal.pause()


def test_one_daemon_at_a_time_and_a_killed_one_lets_go(state: StateDirectory) -> None:
    assert state.daemon_pid() is None
    reader, writer = os.pipe()
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(state.path, writer))
    holder.start()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    assert state.daemon_pid() == holder.pid
    with pytest.raises(StateError, match=f"process {holder.pid}"):
        state.lock()
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(60)
    assert state.daemon_pid() is None
    with state.lock() as lock:
        assert state.daemon_pid() == os.getpid()
        lock.release()
        assert state.daemon_pid() is None


# Control socket and disk


def test_the_control_socket_lies_in_the_directory_or_where_its_path_is_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_runtime = tmp_path / "r"
    short_runtime.mkdir()
    monkeypatch.setattr(state_module, "_runtime_directory", lambda: short_runtime / "p2prec")
    fits = StateDirectory(Path("/" + "x" * (MAX_SOCKET_PATH_BYTES - len("//control.sock"))))
    assert fits.control_socket_path == fits.path / "control.sock"
    too_long = StateDirectory(Path(f"{fits.path}x"))
    moved = too_long.prepare_control_socket()
    assert moved == too_long.control_socket_path
    assert moved.parent == short_runtime / "p2prec"
    assert stat.S_IMODE(moved.parent.stat().st_mode) == 0o700
    assert StateDirectory(Path(f"{fits.path}y")).control_socket_path != moved
    moved.parent.chmod(0o755)
    with pytest.raises(StateError, match="not a private directory"):
        too_long.prepare_control_socket()


@pytest.mark.parametrize("runtime", ["", "/nonexistent", "/" + "x" * 90])
def test_the_moved_socket_s_path_is_always_short(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    moved = StateDirectory(Path("/" + "x" * 300)).control_socket_path
    assert len(os.fsencode(moved)) <= MAX_SOCKET_PATH_BYTES


def test_too_little_disk_is_said(state: StateDirectory) -> None:
    assert state.free_bytes() > 0
    state.require_free(1)
    with pytest.raises(StateError, match="MB are free"):
        state.require_free(1 << 60)
