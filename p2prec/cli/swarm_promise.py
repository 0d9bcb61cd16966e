"""`p2prec swarm create --epsilon`: what was asked for as a promise, or why there can be none and what to do instead."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2prec.errors import UsageError

if TYPE_CHECKING:
    from p2prec.manifest import Promise

DEFAULT_DELTA = 1e-5
DEFAULT_START_IN = "1h"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LATEST_START_S = 366 * 86400


def promise_asked_for(
    *,
    epsilon: float,
    delta: float | None,
    people: int | None,
    start: str | None,
    start_in: str | None,
    exchange_s: float,
    now: float,
    others: Mapping[str, Any],
) -> Promise:
    """others: options of swarms without a promise, by name; those that are not None contradict it. now: seconds since 1970, UTC.

    Raises UsageError.
    """
    from p2prec.privacy.promise import FEWEST_PEOPLE, make_promise

    for option, value in others.items():
        if value is not None:
            raise UsageError(
                f"--epsilon decides about contributions and noise by itself: it cannot be combined with {option}",
                remedy=f"leave {option} out; or leave --epsilon out, for a swarm without a promise",
            )
    if people is None:
        raise UsageError(
            "a promise depends on how many people share it",
            remedy="say with --people N how many will surely take part: with fewer, nothing would be sent or learned",
        )
    if people < FEWEST_PEOPLE:
        raise UsageError(
            f"{people} people are too few for a promise: noise that hides one of them would hide everything else too;"
            f" at least {FEWEST_PEOPLE} have to take part",
            remedy="wait until there are more; or make the swarm without --epsilon, for people who trust each other",
        )
    try:
        begin = start_time(start, start_in, now)
        return make_promise(epsilon, DEFAULT_DELTA if delta is None else delta, people, begin, exchange_s)
    except ValueError as error:
        raise UsageError(f"no such promise can be made: {error}") from error


def start_time(start: str | None, start_in: str | None, now: float) -> int:
    """When the first sum begins, seconds since 1970, UTC. Raises UsageError.

    start: ISO 8601, without a zone in local time; start_in: like 10m, 2h or 1d.
    """
    if start is not None and start_in is not None:
        raise UsageError("--start and --start-in say the same thing", remedy="give one of them")
    begin = now + _seconds(start_in or DEFAULT_START_IN) if start is None else _instant(start)
    if not now < begin <= now + _LATEST_START_S:
        raise UsageError("the first sum must begin in the future, within a year", remedy="for example --start-in 2h")
    return round(begin)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if found is None:
        raise UsageError(f"--start-in {text!r}: expected a number and s, m, h or d, like 10m or 2h")
    return int(found[1]) * _UNITS[found[2]]


def _instant(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--start {text!r}: expected a date and time like 2027-01-31T20:00") from None
