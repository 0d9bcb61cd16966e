"""From what somebody wants to promise to a manifest's `Promise`: how many must take part, and when what happens."""

from __future__ import annotations

import math

from p2prec.manifest import Promise
from p2prec.privacy.plan import COLLUDING, MIN_PEOPLE, PrivacyPlan

FEWEST_PEOPLE = MIN_PEOPLE + COLLUDING
"""Of a swarm with a promise: so many honest people, and those who may collude."""
ENROL_EXCHANGES = 60
"""How long everybody's device may take to appear, in exchange intervals: ten minutes at the usual ten seconds."""
PAIR_EXCHANGES = 6
RECOVER_EXCHANGES = 10
"""After contributions enter, until those who never appeared are noticed."""
PATIENCE = 1.5
"""Time for mixing, over what undisturbed exchanges would take."""
NOTICE_S = 10.0
"""Until a notice has reached everybody: a flood's few hops, and slow links."""
WAITING_NOTICES = 8
"""Four beats, of two notices each: the one at which all say that they contribute, and three until somebody who dies then is
restored. All of it has to be mixed after that.
"""
PAUSE_S = 60.0


def make_promise(epsilon: float, delta: float, people: int, start: int, exchange_s: float) -> Promise:
    """people: the fewest who take part, so that all are sure to; start: of the first sum, seconds since 1970, UTC; exchange_s:
    between exchanges that a device begins, 0.05 to 86,400.

    Raises ValueError for a promise that is none.
    """
    n_people = people - COLLUDING
    PrivacyPlan.of(epsilon, delta, n_people)
    contribute_s = (ENROL_EXCHANGES + PAIR_EXCHANGES) * exchange_s
    mixing_s = PATIENCE * mixing_rounds(people) * exchange_s + WAITING_NOTICES * NOTICE_S
    return Promise(
        epsilon=epsilon,
        delta=delta,
        n_people=n_people,
        start=start,
        second_after_s=contribute_s + 2 * mixing_s + PAUSE_S,
        enrol_s=ENROL_EXCHANGES * exchange_s,
        contribute_s=contribute_s,
        recover_s=contribute_s + RECOVER_EXCHANGES * exchange_s,
        end_s=contribute_s + mixing_s,
        exchange_s=exchange_s,
        notice_s=NOTICE_S,
        answer_s=max(NOTICE_S, exchange_s),
    )


def mixing_rounds(n: int) -> int:
    """Rounds until the masks are mixed away among n peers whose graph mixes well: each round divides a copy's distance from
    the mean by about sqrt(e), from 9 times the noise of the sum to a twentieth of its n-th.
    """
    return round(11 + 2 * math.log(30 * n))
