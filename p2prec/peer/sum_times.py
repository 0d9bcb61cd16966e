"""When what happens in a private sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


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
