"""Where a swarm with a promise stands, for `p2prec status`: from its timetable, and what this device knows and has done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from p2prec.daemon.sum_notes import SumNote
from p2prec.manifest import Promise
from p2prec.privacy.plan import COLLUDING, SUMS

WHAT = {1: "what is popular", 2: "tastes"}
"""What each sum is about."""


def promise_status(
    promise: Promise,
    *,
    now: float,
    n_known: int,
    spent_on: Collection[int],
    notes: Mapping[int, SumNote],
    is_running: bool,
) -> dict[str, Any]:
    """The entry `promise` of a status, ready for JSON.

    now: seconds since 1970, UTC; n_known: of how many sums this device has the result; spent_on: sums that it has contributed
    to, or may have; notes: of its part in them, by sum; is_running: a daemon answers.

    `stage`: "waiting" (for `sum` to begin), "enrolling", "mixing", "over" (its time is, and this device has no result yet), or
    "learned" (both results are there; `sum` is None). `next_at`: when that changes, None where it does not.
    """
    stage, number, next_at = _stage(promise, now, n_known, notes)
    return {
        "epsilon": promise.epsilon,
        "delta": promise.delta,
        "people_needed": promise.n_people + COLLUDING,
        "stage": stage,
        "sum": number,
        "next_at": next_at,
        "known": [WHAT[sum_] for sum_ in SUMS[:n_known]],
        "contributed": sorted(spent_on),
        "sums": {str(one): msgspec.structs.asdict(note) for one, note in sorted(notes.items())},
        "text": _text(promise, stage, number, next_at, now, notes, is_running),
    }


def _stage(
    promise: Promise, now: float, n_known: int, notes: Mapping[int, SumNote]
) -> tuple[str, int | None, float | None]:
    if n_known >= len(SUMS):
        return "learned", None, None
    for number in SUMS[n_known:]:
        start = promise.start_of(number)
        end = promise.end_of(number) if _note(notes, number).mixed_again else start + promise.end_s + promise.notice_s
        if now < start:
            return "waiting", number, start
        if now < start + promise.contribute_s:
            return "enrolling", number, start + promise.contribute_s
        if now < end:
            return "mixing", number, end
        # The second sum needs the first one's result: without it there is nothing to wait for.
        return "over", number, None
    raise AssertionError


def _text(
    promise: Promise,
    stage: str,
    number: int | None,
    next_at: float | None,
    now: float,
    notes: Mapping[int, SumNote],
    is_running: bool,
) -> str:
    if number is None:
        void = [str(one) for one in SUMS if _note(notes, one).is_void]
        if void:
            return (
                f"both sums are done; noise has not cancelled in sum {' and '.join(void)}, so recommendations are poor"
            )
        return "both sums are done: recommendations follow your own taste, and nothing more is sent"
    name = f"sum {number} of 2 ({WHAT[number]})"
    wait = "" if next_at is None else _span(next_at - now)
    stopped = "" if is_running else "; this device takes part only while p2prec start runs"
    note = _note(notes, number)
    reason = note.sat_out
    if stage == "waiting":
        return f"{name} starts in {wait}{stopped}"
    if stage == "enrolling":
        people = f"{note.enrolled} of {promise.n_people + COLLUDING} people have enrolled; " if note.enrolled else ""
        return f"{name}: {people}contributions in {wait}{stopped}"
    if stage == "mixing":
        doing = (
            "its noise had not cancelled, so it is mixed again" if note.mixed_again else "contributions are being mixed"
        )
        part = f"; this device sits it out: {reason}" if reason else ""
        return f"{name}: {doing}, the result in {wait}{part}{stopped}"
    asking = "its neighbours are asked for theirs" if is_running else "with p2prec start it asks others for theirs"
    why = f" (it sat out, since {reason})" if reason else ""
    return f"{name} is over, and this device has no result yet{why}: {asking}; if nobody has one, it takes a new swarm"


def _note(notes: Mapping[int, SumNote], number: int) -> SumNote:
    return notes.get(number, SumNote())


def _span(seconds: float) -> str:
    """Like `3 min` or `45 s`: the largest unit, rounded."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, round(seconds))} s"
