"""Watching for a second machine with this identity: a state directory that was copied.

Two devices with one identity would spend one privacy budget twice, so both stop exchanging once a handshake has proven it. What
neighbours say of it is a reason to look and to tell the owner, never one to stop: they may lie.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2prec.config import PeerSettings


@dataclass(slots=True)
class DoubleWatch:
    """When this peer's double was met or heard of, and when to look for it again."""

    settings: PeerSettings
    host: str | None = None
    """Where it was last met, while that stops this peer's exchanges."""
    _port: int = 0
    _over_at: float = float("-inf")
    _look_at: float = float("-inf")
    _hearsay_until: float | None = None

    def met(self, host: str, port: int, now: float) -> bool:
        """Its key has proven that it is at `host`; `port`: where it listens, 0 if unknown. Returns True when that is news."""
        is_news = self.host is None
        self.host, self._port = host, port
        self._over_at = now + self.settings.conflict_s
        self._look_at = now + self.settings.conflict_s / 4
        return is_news

    def heard(self, now: float) -> bool:
        """A neighbour says that there is one. Returns True when that is news."""
        is_news = self.host is None and self._hearsay_until is None
        self._hearsay_until = now + self.settings.conflict_s
        return is_news

    def may_look(self, now: float) -> bool:
        """Whether to dial where it is said to be, at most a few times per `conflict_s`: anybody can announce anything."""
        if now < self._look_at:
            return False
        self._look_at = now + self.settings.conflict_s / 4
        return True

    def due(self, now: float) -> tuple[str, int] | None:
        """The address to dial now, to see whether the double that was met is still there."""
        if self.host is None or not self._port or not self.may_look(now):
            return None
        return self.host, self._port

    def expire(self, now: float) -> bool:
        """Returns True when the last sign of it has just become too old to count."""
        over = False
        if self.host is not None and now >= self._over_at:
            self.host, over = None, True
        if self._hearsay_until is not None and now >= self._hearsay_until:
            self._hearsay_until, over = None, True
        return over and self.host is None and self._hearsay_until is None
