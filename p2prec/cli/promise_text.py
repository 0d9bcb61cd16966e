"""What a swarm's promise means, to whom it is made, when its sums run and what may be expected of it: in plain words."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, Any

from p2prec.manifest import Promise
from p2prec.privacy.expected_quality import Expectation, expected
from p2prec.privacy.plan import COLLUDING

if TYPE_CHECKING:
    from rich.text import Text

FAINT_FACTOR = 20.0
"""Up to here a factor of likelihood is worth spelling out as reassuring."""


def promised(promise: Promise) -> str:
    """Epsilon, and what it covers."""
    return f"epsilon {promise.epsilon:g} (delta {promise.delta:g}) for everything you ever did together"


def meaning(epsilon: float) -> str:
    """What an epsilon says about what others can conclude."""
    factor = math.exp(epsilon)
    text = (
        "whatever somebody concludes about you from all messages of this swarm, it would have been at most"
        f" {factor:,.{0 if factor >= 100 else 1}f} times less likely without your history"
    )
    if factor <= FAINT_FACTOR:
        return text
    return f"{text}: good guesses about you remain possible, certainty does not"


def promise_lines(promise: Promise, now: float) -> list[Text]:
    """A few labelled lines for a person who wonders whether to join. now: seconds since 1970, UTC."""
    from p2prec.cli.screen import labelled

    people = promise.n_people + COLLUDING
    return [
        labelled("Promise", promised(promise)),
        labelled("Means", meaning(promise.epsilon)),
        labelled(
            "Holds",
            f"against whoever sees every message, even with {COLLUDING} of your device's mask partners on their side;"
            " not against who controls most of the members",
        ),
        labelled(
            "Costs",
            "two sums, once: what is popular, then which tastes go together. Nothing else that depends on you is ever sent",
        ),
        labelled("Sum 1", f"{when(promise, 1, now)}: what is popular"),
        labelled("Sum 2", f"{when(promise, 2, now)}: tastes"),
        labelled(
            "Needs",
            f"{people} people whose devices are on, with p2prec start, when each sum begins and until it ends; with fewer nothing"
            " is sent, spent or learned",
        ),
        labelled("Expect", expectation(expected(people, promise.epsilon))),
    ]


def when(promise: Promise, number: int, now: float) -> str:
    """From when to when a sum runs, by this device's clock and time zone."""
    start, end = promise.start_of(number), promise.start_of(number) + promise.end_s
    days = "%Y-%m-%d "
    first, last = _local(start), _local(end)
    same_day = first.date() == last.date()
    past = " (over)" if now > promise.end_of(number) else ""
    return f"{first.strftime(days + '%H:%M')} to {last.strftime(('' if same_day else days) + '%H:%M')}{past}"


def expectation(found: Expectation) -> str:
    """Measured quality in words, against the yardstick that everybody has: a list of the most popular items."""
    row = found.row
    verdict = {
        "better": "better than a list of the most popular items",
        "same": "no better than a list of the most popular items",
        "worse": "no better than popularity, worse even: among so few people the noise hides what is popular",
    }[row.verdict]
    figures = f"NDCG@10 {_figure(row.ndcg_at_10)} against {_figure(row.popularity_ndcg_at_10)} by popularity"
    measured = f"{figures} among {row.people} people at epsilon {row.epsilon:g} ({_name(found.data)})"
    less = "; expect less here, the swarm is smaller or promises more" if found.is_optimistic else ""
    return f"{verdict}; measured: {measured}{less}"


def promise_fields(promise: Promise) -> dict[str, Any]:
    """What follows from a promise, ready for JSON."""
    found = expected(promise.n_people + COLLUDING, promise.epsilon)
    return {
        "people_needed": promise.n_people + COLLUDING,
        "colluding_partners": COLLUDING,
        "sums": [{"number": k, "start": promise.start_of(k), "final": promise.end_of(k)} for k in (1, 2)],
        "expected": {
            "verdict": found.row.verdict,
            "ndcg_at_10": found.row.ndcg_at_10,
            "popularity_ndcg_at_10": found.row.popularity_ndcg_at_10,
            "people": found.row.people,
            "epsilon": found.row.epsilon,
            "data": found.data,
            "is_optimistic": found.is_optimistic,
        },
    }


def _local(time: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).astimezone()


def _figure(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _name(data: str) -> str:
    return {"ml-100k": "MovieLens-100K"}.get(data, data)
