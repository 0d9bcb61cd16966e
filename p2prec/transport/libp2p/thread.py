"""A thread that runs trio, py-libp2p's event loop, and the only way into it from the asyncio loop that owns it.

Nothing queues up between the two: each side hands over single operations, and whoever starts one waits for its outcome before
it starts the next of that kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from p2prec.errors import TransportFailure

T = TypeVar("T")
_CLOSED = "the transport is closed"


class TrioThread:
    """Made, used and closed in one asyncio loop. `start` it first; it may be closed once."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._started = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._outcomes: set[asyncio.Future[Any]] = set()
        # The rest belongs to the trio thread, once that runs.
        self._token: trio.lowlevel.TrioToken
        self._nursery: trio.Nursery
        self._stop: trio.Event

    async def start(self) -> None:
        """Returns when trio runs. Idempotent. Raises TransportFailure after `close`."""
        if self._over.done():
            raise TransportFailure(_CLOSED)
        if not self._started:
            self._started = True
            self._thread.start()
        await asyncio.shield(self._ready)

    def submit(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> asyncio.Future[T]:
        """Start `work` in the trio thread. The future gets its result, its error, or TransportFailure when the thread ends.

        Giving the future up does not stop the work: what it belongs to has a way of its own to be closed.
        """
        outcome: asyncio.Future[T] = self._loop.create_future()
        self._outcomes.add(outcome)
        outcome.add_done_callback(self._outcomes.discard)
        if not self.tell(self._begin, work, arguments, outcome):
            _settle(outcome, None, TransportFailure(_CLOSED))
        return outcome

    def tell(self, call: Callable[..., object], *arguments: Any) -> bool:
        """Run a function in the trio thread, soon. It must not raise. False when the thread has ended."""
        try:
            self._token.run_sync_soon(call, *arguments)
        except trio.RunFinishedError:
            return False
        return True

    async def close(self, *, patience_s: float) -> None:
        """End the thread: work that runs may come to its own end within `patience_s`, then it is cancelled."""
        if self._started:
            await asyncio.shield(self._ready)
            self.tell(self._wind_down, patience_s)
            await asyncio.shield(self._over)
            self._thread.join()
        elif not self._over.done():
            self._over.set_result(None)

    # --- in the trio thread ---

    def _main(self) -> None:
        try:
            trio.run(self._serve)
        finally:
            self._tell_loop(self._end)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._tell_loop(self._ready.set_result, None)
            await self._stop.wait()

    def _wind_down(self, patience_s: float) -> None:
        self._nursery.cancel_scope.deadline = trio.current_time() + patience_s
        self._stop.set()

    def _begin(self, work: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], outcome: asyncio.Future[T]) -> None:
        try:
            self._nursery.start_soon(self._carry_out, work, arguments, outcome)
        except RuntimeError:  # the nursery is closed: the thread is about to end
            self._tell_loop(_settle, outcome, None, TransportFailure(_CLOSED))

    async def _carry_out(
        self, work: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], outcome: asyncio.Future[T]
    ) -> None:
        try:
            value = await work(*arguments)
        except trio.Cancelled:
            self._tell_loop(_settle, outcome, None, TransportFailure(_CLOSED))
            raise
        except Exception as error:
            self._tell_loop(_settle, outcome, None, error)
        else:
            self._tell_loop(_settle, outcome, value, None)

    def _tell_loop(self, call: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)

    # --- in the asyncio loop again ---

    def _end(self) -> None:
        for outcome in list(self._outcomes):
            _settle(outcome, None, TransportFailure(_CLOSED))
        for future in (self._ready, self._over):
            if not future.done():
                future.set_result(None)


def _settle(outcome: asyncio.Future[T], value: T | None, error: Exception | None) -> None:
    if outcome.done():  # given up meanwhile
        return
    if error is None:
        outcome.set_result(value)  # type: ignore[arg-type]  # None only where T allows it
    else:
        outcome.set_exception(error)
        outcome.exception()  # counts as looked at: a connection that is closed leaves such outcomes behind
