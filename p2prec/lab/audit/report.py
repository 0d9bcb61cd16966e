"""The audit as a whole: canaries against the stated epsilon, and attacks on the people of a data set, with and without
privacy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.audit import attacks, canary
from p2prec.lab.audit.bound import CONFIDENCE, lower_bound
from p2prec.lab.audit.observed import Observed, alone, protected, unprotected
from p2prec.lab.audit.people import attributes
from p2prec.lab.dataset import load, sample_people
from p2prec.lab.experiment import OnProgress, versions
from p2prec.privacy.plan import COLLUDING
from p2prec.types import BoolArray, IndexArray

CANARY_TRIALS = 2400


def audit(
    data: str,
    epsilon: float,
    delta: float,
    data_dir: Path,
    cache: Path,
    on_progress: OnProgress,
    *,
    colluders: int = COLLUDING,
    peers: int | None = None,
    trials: int = CANARY_TRIALS,
    seed: int = 0,
) -> dict[str, Any]:
    """The report of `p2prec lab audit` (docs/how-to/lab.md). peers: people drawn at random; None: all.

    Raises DataError, and UsageError for a promise that is none or more colluders than it is made for.
    """
    started = time.perf_counter()
    if not 0 <= colluders <= COLLUDING:
        raise UsageError(f"--colluders {colluders}: the promise is made for 0 to {COLLUDING} of a peer's mask partners")
    rng = np.random.default_rng([seed, 0])
    source = load(data, data_dir, cache)
    histories = sample_people(source.histories, peers, rng)
    people = [histories.of(person).items for person in range(len(histories))]
    n_items = len(histories.catalogue)
    known = attributes(data, data_dir, [str(user) for user in histories.users])
    try:
        on_progress("canaries", 0, 1, "")
        scores = canary.cancelling(epsilon, delta, colluders, trials, rng)
        outside = protected(people, n_items, epsilon, delta, 0, rng)
        near = protected(people, n_items, epsilon, delta, colluders, rng)
    except ValueError as error:
        raise UsageError(str(error)) from error
    level = 1 - (1 - CONFIDENCE) / len(scores)
    bounds = {name: lower_bound(one.inside, one.outside, delta, level) for name, one in scores.items()}
    bound = max(bounds.values(), key=lambda one: one.epsilon)
    on_progress("canaries", 1, 1, f"epsilon >= {bound.epsilon:.2f}")
    seen = {
        "outside": outside,
        "colluding": near,
        "daemon": alone(people, histories.catalogue.keys, rng),
        "without_privacy": unprotected(people, n_items),
    }
    found: dict[str, Any] = {
        f"canary_{name}": {"auc": one.auc, "epsilon_lower_bound": one.epsilon} for name, one in bounds.items()
    }
    for number, (name, observed) in enumerate(seen.items()):
        on_progress("attacks", number, len(seen), name)
        for attack, area in _attacks(observed, people, known, rng).items():
            found.setdefault(attack, {})["auc" if name == "colluding" else f"auc_{name}"] = area
    on_progress("attacks", len(seen), len(seen), "")
    return {
        "epsilon": epsilon,
        "epsilon_lower_bound": bound.epsilon,
        "holds": bound.epsilon <= epsilon,
        "confidence": CONFIDENCE,
        "canaries": asdict(bound),
        "attacks": found,
        "config": {
            "data": data,
            "delta": delta,
            "colluders": colluders,
            "people": len(people),
            "items": n_items,
            "trials": bound.trials,
            "seed": seed,
        },
        "seconds": time.perf_counter() - started,
        "versions": versions(),
    }


def _attacks(
    observed: Observed, people: Sequence[IndexArray], known: Mapping[str, BoolArray], rng: np.random.Generator
) -> dict[str, float]:
    areas = {
        "touched_items": attacks.touched_items(observed.messages, people),
        "membership": attacks.membership(observed.messages, observed.silent, observed.clear),
        "community": attacks.community(observed.messages, observed.clear),
    }
    for name, is_so in known.items():
        try:
            areas[name] = attacks.attribute(observed.messages, observed.clear, is_so, rng)
        except ValueError:
            continue  # too few people of one kind
    return areas
