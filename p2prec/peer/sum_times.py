"""When what happens in a private sum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

BEAT = 2
"""In notices: between moments at which everybody says what there is to say of the dead."""
PATIENT = 3
"""Beats between `contribute_s` and `recover_s`, at least: by then it has to be known who had died before it could contribute."""
EARLY = 0.1
"""Of a notice: how much sooner than meant somebody may be told whose clock is behind."""


@dataclass(frozen=True)
class Timetable:
    """In seconds; the same for the whole swarm (the manifest's)."""

    start: float
    enrol_s: float = 60.0
    """After the start: who takes part is settled, mask partners confirm."""
    contribute_s: float = 120.0
    """After the start: contributions enter, mixing begins."""
    recover_s: float = 300.0
    """After the start: masks of those who never appeared are taken out."""
    end_s: float = 600.0
    """After the start: the result is there, or void."""
    again_s: float = 480.0
    """After the end: how long a void sum is mixed again; at least `notice_s`."""
    exchange_s: float = 10.0
    """Between exchanges that a peer begins."""
    notice_s: float = 10.0
    """Until claims and notices have reached everybody."""
    answer_s: float = 10.0
    """Wait for an answer."""

    @cached_property
    def phases(self) -> tuple[float, ...]:
        """When each phase begins, after the start: enrol, pair, contribute, recover, take out, end, decide, end again."""
        taken_out, decided = self.recover_s + 2 * self.notice_s, self.end_s + self.notice_s
        times = (0.0, self.enrol_s, self.contribute_s, self.recover_s, taken_out, self.end_s, decided)
        return (*times, self.end_s + self.again_s)

    @cached_property
    def beat_s(self) -> float:
        """What is said of the dead waits for moments that are common to all, so far apart, so that the words about all who have
        died since the last one are passed on together. 0: the sum is in a hurry, and nothing waits.
        """
        beat_s = BEAT * self.notice_s
        return beat_s if self.recover_s - self.contribute_s >= PATIENT * beat_s else 0.0

    def beat(self, at: float) -> float:
        """The first of these moments from then on."""
        return self.start + self.beat_s * math.ceil((at - self.start) / self.beat_s) if self.beat_s else at

    def latest_beat(self, now: float) -> int | None:
        """The number of the last beat; already that of the next one shortly before it, by a clock that is behind. None without
        beats, and before the sum.
        """
        since_start = now + EARLY * self.notice_s - self.start
        return int(since_start // self.beat_s) if self.beat_s and since_start >= 0 else None

    def suspects(self, at: float) -> float:
        """When to say that somebody seems to have died. Not while others enrol: nobody has anything yet."""
        return self.beat(max(at, self.start + self.enrol_s - 2 * self.beat_s) if self.beat_s else at)

    def noticed(self, now: float) -> float:
        """When what is heard now has been heard by all, and, if it was said at one of the common moments, all agree on when."""
        return self.beat(now + (1 - EARLY) * self.notice_s) if self.beat_s else now + self.notice_s
