"""The state directory: all that makes a device this peer, in one folder of its owner's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from p2prec import manifest as manifests
from p2prec.errors import ManifestError, StateError
from p2prec.manifest import Manifest
from p2prec.storage.invitation import Invitation, check_secret, write_atomically
from p2prec.storage.lock import StateLock, holder
from p2prec.storage.mark import LedgerMark

if TYPE_CHECKING:
    from p2prec.data.catalogue import Catalogue
    from p2prec.identity import Identity
    from p2prec.storage.store import Store

MAX_SOCKET_PATH_BYTES = 100
"""Unix socket addresses hold 104 (macOS) to 108 (Linux) bytes."""
MIN_FREE_BYTES = 64 << 20
"""A daemon does not start with less: SQLite needs room for its write-ahead log."""


def default_state_path() -> Path:
    """Where a user's peer lives unless `--state` says otherwise."""
    import platformdirs

    return platformdirs.user_data_path("p2prec")


class StateDirectory:
    """The paths and files of one peer. Made by `open`."""

    def __init__(self, path: Path) -> None:
        """path: absolute."""
        self.path = path
        self.identity_path = path / "identity.key"
        self.swarm_path = path / "swarm.toml"
        self.membership_path = path / "membership.key"
        self.store_path = path / "p2prec.sqlite3"
        self.mark_path = path / "ledger.mark"
        self.lock_path = path / "lock"

    @classmethod
    def open(cls, path: Path | None = None) -> StateDirectory:
        """The directory at `path` (default: `default_state_path`), made with permissions 0700 if it is not there.

        Raises StateError when it cannot be made, or is no directory of this user's.
        """
        where = (path or default_state_path()).expanduser().absolute()
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"state directory {where}: {error.strerror or error}") from error
        if not os.access(where, os.R_OK | os.W_OK | os.X_OK):
            raise StateError(f"state directory {where}: no permission to use it")
        return cls(where)

    # Who this peer is

    def identity(self) -> Identity:
        """This peer's identity, made at the first call. Raises StateError when the key file is unreadable or not
        private."""
        from p2prec.identity import Identity

        if not self.identity_path.exists():
            fresh = self.path / f".identity.{secrets.token_hex(4)}"
            Identity.generate().save(fresh)
            # A link fails where a rename would replace: of two processes that start at once, one identity wins.
            with contextlib.suppress(FileExistsError):
                self.identity_path.hardlink_to(fresh)
            fresh.unlink()
        return Identity.load(self.identity_path)

    def renew_identity(self) -> tuple[Identity, Path]:
        """Give this peer a new identity. Returns it and where the old key was kept.

        Raises StateError while a daemon runs here.
        """
        with self.lock():
            old = self.identity()
            kept = self.path / f"identity-{old.peer_id[-8:]}.key"
            self.identity_path.replace(kept)
            return self.identity(), kept

    # Which swarm it belongs to

    def has_swarm(self) -> bool:
        return self.swarm_path.exists()

    def swarm(self) -> Manifest:
        """The manifest of the swarm that was joined. Raises StateError before that, ManifestError when it is
        damaged."""
        if not self.has_swarm():
            raise StateError(
                f"no swarm has been joined yet ({self.path})",
                remedy="p2prec swarm join FILE, or make one: p2prec swarm create NAME --catalogue FILE",
            )
        return manifests.load(self.swarm_path)

    def catalogue(self) -> Catalogue:
        """The items of the swarm that was joined. Raises as `swarm`, and DataError when they are not in canonical
        form."""
        from p2prec.data.catalogue import Catalogue

        return Catalogue.from_canonical_csv(self.swarm().catalogue_csv())

    def membership_secret(self) -> bytes | None:
        """The secret of a private swarm, None for an open one. Raises StateError when it is missing, damaged or
        readable by others, ManifestError when it is another swarm's."""
        manifest = self.swarm()
        if manifest.membership_key is None:
            return None
        try:
            mode = stat.S_IMODE(self.membership_path.stat().st_mode)
            secret = bytes.fromhex(self.membership_path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise StateError(
                f"{self.membership_path}: the membership secret cannot be read ({error})",
                remedy="join again with the invitation: p2prec swarm join INVITATION --replace",
            ) from error
        if mode & 0o077:
            raise StateError(
                f"{self.membership_path}: other users may read it (mode {mode:o})",
                remedy=f"chmod 600 {self.membership_path}",
            )
        check_secret(manifest, secret)
        return secret

    def invitation(self) -> Invitation:
        """What `swarm invite` hands out. Raises as `swarm` and `membership_secret`."""
        return Invitation(self.swarm(), self.membership_secret())

    def join(self, invitation: Invitation, *, replace: bool = False) -> bool:
        """Make this peer a member of a swarm; False when it was one already. Interactions and the privacy ledger are
        kept.

        Raises StateError when it is in another swarm and `replace` is not set, or while a daemon runs here.
        """
        if self._is_member(invitation):
            return False
        with self.lock():
            if self.has_swarm() and not replace:
                current = self.swarm()
                if current.swarm_id != invitation.manifest.swarm_id:
                    raise StateError(
                        f"this peer is already in swarm {current.name!r} ({self.path})",
                        remedy="leave it and join the new one with --replace, or use another --state directory",
                    )
            # The secret first: a crash in between leaves a mismatch, which is noticed and mended by joining again.
            if invitation.membership_secret is None:
                self.membership_path.unlink(missing_ok=True)
            else:
                self._write(self.membership_path, f"{invitation.membership_secret.hex()}\n", private=True)
            self._write(self.swarm_path, manifests.dump(invitation.manifest), private=False)
            with self.open_store() as store:
                store.enter_swarm(invitation.manifest.swarm_id)
            return True

    def _is_member(self, invitation: Invitation) -> bool:
        try:
            return self.has_swarm() and self.invitation() == invitation
        except (StateError, ManifestError):
            return False

    def _write(self, path: Path, text: str, *, private: bool) -> None:
        try:
            write_atomically(path, text, private=private)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error

    # What it stores, and who is using it

    def open_store(self, *, verify: bool = False) -> Store:
        """Open the store. Raises StoreError."""
        from p2prec.storage.store import Store

        return Store.open(self.store_path, verify=verify)

    def ledger_mark(self) -> LedgerMark:
        """The second note of the privacy ledger, outside of the store."""
        return LedgerMark(self.mark_path)

    def lock(self) -> StateLock:
        """Claim the directory for one daemon (or for a change that no daemon may see half done).

        Raises StateError that names the process that holds it.
        """
        return StateLock(self.lock_path)

    def daemon_pid(self) -> int | None:
        """The process id of the daemon that runs here; 0 when one runs that cannot be told, None when none does."""
        return holder(self.lock_path)

    @property
    def control_socket_path(self) -> Path:
        """Where the daemon listens for commands: in the directory, or, where that path is too long for a socket
        address, in a runtime directory of this user's under a name derived from it."""
        here = self.path / "control.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH_BYTES:
            return here
        name = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:16]
        return _runtime_directory() / f"{name}.sock"

    def prepare_control_socket(self) -> Path:
        """`control_socket_path`, with its folder made and known to be this user's alone. Raises StateError."""
        path = self.control_socket_path
        if path.parent == self.path:
            return path
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            found = path.parent.lstat()
        except OSError as error:
            raise StateError(f"{path.parent}: {error.strerror or error}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StateError(
                f"{path.parent}: not a private directory of this user's",
                remedy="remove it, or use a shorter --state path",
            )
        return path

    def free_bytes(self) -> int:
        """Free space on the directory's disk, for this user."""
        return shutil.disk_usage(self.path).free

    def require_free(self, n_bytes: int = MIN_FREE_BYTES) -> None:
        """Raises StateError when less than `n_bytes` are free."""
        free = self.free_bytes()
        if free < n_bytes:
            raise StateError(
                f"only {free >> 20} MB are free on the disk of {self.path}; {n_bytes >> 20} MB are needed",
                remedy="free some space, or use a --state directory on another disk",
            )


def _runtime_directory() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir() and len(os.fsencode(runtime)) < 60:
        return Path(runtime) / "p2prec"
    return Path("/tmp" if len(tempfile.gettempdir()) > 60 else tempfile.gettempdir()) / f"p2prec-{os.getuid()}"
