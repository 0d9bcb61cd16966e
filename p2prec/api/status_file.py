"""The status in a file, written every few seconds: what a monitor, or a testbed of weak devices, can follow at the least cost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from p2prec.daemon.accounting import usage
from p2prec.daemon.pump import Pump

logger = logging.getLogger("p2prec")


class StatusFile:
    """Keeps `path` up to date. A reader always finds a whole JSON object: {"written_at", "status", "usage", "queued_frames"}.

    `written_at`: seconds since 1970 by this device's clock. `status`: as of `p2prec status --json`. `usage`: see
    `p2prec.daemon.accounting.usage`. `queued_frames`: that wait for the slowest neighbour, at most `MAX_QUEUED_FRAMES` + 1.
    """

    def __init__(self, path: Path, every_s: float, status: Callable[[], dict[str, Any]], pump: Pump) -> None:
        self._path = path
        self._every_s = every_s
        self._status = status
        self._pump = pump
        self._failed = False

    async def run(self) -> None:
        """Write now and every `every_s` seconds, until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(self._every_s)

    def write(self) -> None:
        """Write once. A file that cannot be written is logged once, and tried again the next time."""
        figures = {
            "written_at": time.time(),
            "status": self._status(),
            "usage": usage(),
            "queued_frames": max(self._pump.queued_frames, default=0),
        }
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            partial.write_bytes(msgspec.json.encode(figures))
            partial.replace(self._path)
        except OSError as error:
            if not self._failed:
                logger.warning("the status file %s cannot be written: %s", self._path, error.strerror or error)
            self._failed = True
        else:
            self._failed = False
