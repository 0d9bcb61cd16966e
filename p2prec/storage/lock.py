"""The lock of a state directory: one daemon at a time, and anybody may ask which."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from p2prec.errors import StateError

_PROBE_PATIENCE_S = 0.5
"""`holder` takes a shared lock for an instant; whoever locks meanwhile tries again for this long."""


class StateLock:
    """A held lock. Released by `release`, at the end of a `with` block, or by the kernel when the process dies."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises StateError that names the process that holds it."""
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error
        try:
            _take(path, descriptor)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _take(path: Path, descriptor: int) -> None:
    give_up = time.monotonic() + _PROBE_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StateError(
                    f"{path}: cannot be locked ({error.strerror})", remedy="use a state directory on a local disk"
                ) from error
            if time.monotonic() >= give_up:
                raise StateError(
                    f"{path.parent} is in use by {_who(path)}",
                    remedy="stop that one first, or give this one its own --state directory",
                ) from None
            time.sleep(0.02)


def _who(path: Path) -> str:
    pid = _written_pid(path)
    return f"a running p2prec (process {pid})" if pid else "another p2prec process"


def holder(path: Path) -> int | None:
    """The process id of whoever holds the lock, 0 when it cannot be told, None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _written_pid(path)
    finally:
        os.close(descriptor)


def _written_pid(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return int(file.read(20))
    except (OSError, ValueError):
        return 0
