"""A deadline for waits that come one after the other, by one timer of the loop for many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Patience:
    """`asyncio.timeout` sets up a timer for each wait, which takes a tenth of what a frame costs, and nearly none ever goes off.
    This one moves its only timer when that goes off too early.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        """on_end: called when a wait takes too long."""
        self._loop, self._on_end = loop, on_end
        self._ends_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, ends_at: float) -> None:
        """A wait begins that has to be over at this time of the loop's. inf: it may take for ever."""
        self._ends_at = ends_at
        if self._timer is not None and self._timer.when() > ends_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and ends_at < float("inf"):
            self._timer = self._loop.call_at(ends_at, self._off)

    def end(self) -> None:
        """The wait is over."""
        self._ends_at = float("inf")

    def close(self) -> None:
        """No wait will come any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _off(self) -> None:
        self._timer = None
        if self._loop.time() < self._ends_at:
            self.begin(self._ends_at)
        else:
            self._on_end()
