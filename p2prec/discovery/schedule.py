"""When to speak on the multicast network, so that it stays quiet however many peers are on it.

What n peers say reaches n peers, so every packet of each costs n^2. Two rules keep that small. A peer announces itself several
times, at growing intervals (RFC 6762, 8.3): once everybody hears it, and what is lost is said again; so a peer that is up has
hardly to ask. And a peer that asks names the answers that it has as long as they fit two packets, and asks for answers to itself
alone when they do not: among hundreds, the lists of known answers would be most of the traffic.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

FIRST_ANNOUNCEMENT_S = (0.02, 0.12)
ANNOUNCEMENT_INTERVALS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Each at least twice the one before, and no more than seven: what RFC 6762 allows."""
FIRST_QUESTION_S = (2.0, 5.0)
"""Later than others who start at the same time announce themselves. Nobody waits for it: whoever is there already has heard the
newcomer, and dials."""
QUESTION_INTERVALS_S = (1.0, 4.0, 20.0, 300.0, 1200.0, 3000.0)
"""The question half a minute after the start finds those who have been there for minutes and are silent by now. The last interval
is kept for ever: less than the 75 minutes for which a record is good."""
JITTER = 1.2
"""An interval is drawn between its length and this many times it: peers that started together drift apart."""


def announcement_delays(rng: Random) -> Iterator[float]:
    """Seconds until the first announcement, then between one and the next; it ends with the last."""
    yield rng.uniform(*FIRST_ANNOUNCEMENT_S)
    for interval_s in ANNOUNCEMENT_INTERVALS_S:
        yield rng.uniform(interval_s, JITTER * interval_s)


def question_delays(rng: Random) -> Iterator[float]:
    """Seconds until the first question, then between one and the next, without end."""
    yield rng.uniform(*FIRST_QUESTION_S)
    for interval_s in QUESTION_INTERVALS_S:
        yield rng.uniform(interval_s, JITTER * interval_s)
    while True:
        yield rng.uniform(QUESTION_INTERVALS_S[-1], JITTER * QUESTION_INTERVALS_S[-1])
