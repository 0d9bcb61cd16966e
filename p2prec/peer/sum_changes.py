"""What is to change a peer's value otherwise than an exchange: between an offer and its commit the value must stay as it is."""

from __future__ import annotations

from collections.abc import Callable

from p2prec.peer.sum_exchange import SumExchanger
from p2prec.peer.sum_messages import Outgoing

Change = Callable[[], Outgoing]
"""Changes the value, and returns what to say of it."""


class Changes:
    """Those that wait until no exchange of this peer's is open, in their order."""

    def __init__(self, exchanger: SumExchanger) -> None:
        self._exchanger = exchanger
        self._waiting: list[Change] = []

    @property
    def are_waiting(self) -> bool:
        return bool(self._waiting)

    def when_free(self, change: Change) -> Outgoing:
        """Now, or as soon as no exchange is open; returns what to say already."""
        if self._exchanger.is_free and not self._waiting:
            return change()
        self._waiting.append(change)
        return []

    def catch_up(self) -> Outgoing:
        """Do what has waited, as far as it can be done now."""
        out: Outgoing = []
        while self._waiting and self._exchanger.is_free:
            out += self._waiting.pop(0)()
        return out

    def clear(self) -> None:
        """Mixing is over: what waits comes too late."""
        self._waiting.clear()
