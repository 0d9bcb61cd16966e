"""Where a swarm with a promise stands, for `p2prec status`: from its timetable, and what this device knows and has done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from p2prec.manifest import Promise
from p2prec.privacy.plan import COLLUDING
from p2prec.privacy.sum_budget import SUMS

WHAT = {1: "what is popular", 2: "tastes"}
"""What each sum is about."""


def promise_status(
    promise: Promise,
    *,
    now: float,
    n_known: int,
    spent_on: Collection[int],
    is_running: bool = False,
    enrolled: int | None = None,
    partners: Mapping[int, int] | None = None,
    sat_out: Mapping[int, str] | None = None,
    mixes_again: bool = False,
) -> dict[str, Any]:
    """The entry `promise` of a status, ready for JSON.

    now: seconds since 1970, UTC; n_known: of how many sums this device has the result; spent_on: sums that it has contributed
    to, or may have; is_running: a daemon answers; enrolled: who takes part in the sum under way, this device included, None when
    not known; partners: with how many peers this device masks, by sum; sat_out: why it did not contribute, by sum; mixes_again:
    the sum under way was void at first.

    `stage`: "waiting" (for `sum` to begin), "enrolling", "mixing", "over" (its time is, and this device has no result yet), or
    "learned" (both results are there; `sum` is None). `next_at`: when that changes, None where it does not.
    """
    stage, number, next_at = _stage(promise, now, n_known, mixes_again)
    reasons = dict(sat_out or {})
    return {
        "epsilon": promise.epsilon,
        "delta": promise.delta,
        "people_needed": promise.n_people + COLLUDING,
        "stage": stage,
        "sum": number,
        "next_at": next_at,
        "enrolled": enrolled,
        "known": [WHAT[sum_] for sum_ in SUMS[:n_known]],
        "contributed": sorted(spent_on),
        "partners": {str(sum_): count for sum_, count in sorted((partners or {}).items())},
        "sat_out": {str(sum_): reason for sum_, reason in sorted(reasons.items()) if reason},
        "text": _text(promise, stage, number, next_at, now, enrolled, reasons, mixes_again, is_running),
    }


def _stage(promise: Promise, now: float, n_known: int, mixes_again: bool) -> tuple[str, int | None, float | None]:
    if n_known >= len(SUMS):
        return "learned", None, None
    for number in SUMS[n_known:]:
        start = promise.start_of(number)
        end = promise.end_of(number) if mixes_again else start + promise.end_s + promise.notice_s
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
    enrolled: int | None,
    sat_out: Mapping[int, str],
    mixes_again: bool,
    is_running: bool,
) -> str:
    if number is None:
        return "both sums are done: recommendations follow your own taste, and nothing more is sent"
    name = f"sum {number} of 2 ({WHAT[number]})"
    wait = "" if next_at is None else _span(next_at - now)
    stopped = "" if is_running else "; this device takes part only while p2prec start runs"
    reason = sat_out.get(number, "")
    if stage == "waiting":
        return f"{name} starts in {wait}{stopped}"
    if stage == "enrolling":
        people = "" if enrolled is None else f"{enrolled} of {promise.n_people + COLLUDING} people have enrolled; "
        return f"{name}: {people}contributions in {wait}{stopped}"
    if stage == "mixing":
        doing = "its noise had not cancelled, so it is mixed again" if mixes_again else "contributions are being mixed"
        part = f"; this device sits it out: {reason}" if reason else ""
        return f"{name}: {doing}, the result in {wait}{part}{stopped}"
    return f"{name} is over, and this device has no result" + (f": it sat out, since {reason}" if reason else "")


def _span(seconds: float) -> str:
    """Like `3 min` or `45 s`: the largest unit, rounded."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, round(seconds))} s"
