"""How far the privacy ledger had got: a second note, outside of the database, against a database restored from an old backup.

A restored database forgets contributions that were sent, and a device that believed it would promise what it can no longer
keep. So each contribution is noted twice, first in the ledger, then here, both before anything leaves. Whoever restores the
whole folder restores both; docs/threat-model.md says so.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

from p2prec.errors import StoreError
from p2prec.storage.database import DISK_FULL
from p2prec.storage.invitation import write_atomically
from p2prec.types import SwarmId

MAX_BYTES = 1 << 20


class LedgerMark:
    """The number of the last contribution to each swarm, in one small file. Never goes backwards."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def contributions(self, swarm_id: SwarmId) -> int:
        """The highest number noted for a swarm, 0 for none. Raises StoreError when the file is damaged."""
        return self._read().get(swarm_id.hex(), 0)

    def note(self, swarm_id: SwarmId, contribution: int) -> None:
        """Durable on return. A lower number than the one noted changes nothing. Raises StoreError."""
        noted = self._read()
        if contribution <= noted.get(swarm_id.hex(), 0):
            return
        noted[swarm_id.hex()] = contribution
        try:
            write_atomically(self._path, json.dumps(noted, sort_keys=True) + "\n", private=True)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StoreError(f"{self._path}: {DISK_FULL if is_full else error.strerror or error}") from error

    def _read(self) -> dict[str, int]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ValueError("too large")
            noted = json.loads(self._path.read_text(encoding="ascii"))
            if not isinstance(noted, dict) or not all(type(n) is int and n >= 0 for n in noted.values()):
                raise ValueError("not a map of numbers")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._path}: the second note of the privacy ledger cannot be read ({error}); if p2prec privacy shows what you"
                " expect, delete this file to go on"
            ) from error
        return noted
