"""What `p2prec privacy` answers: what was promised, what has been spent, and who could know what. Read from the state directory,
where the ledger is complete before anything leaves, so it is the same whether a daemon runs or not.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from p2prec.api.promise import WHAT
from p2prec.daemon.sum_ledger import SumLedger
from p2prec.daemon.sum_notes import SumNote, load_notes
from p2prec.manifest import Manifest
from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.privacy.ledger import Budget
from p2prec.privacy.plan import COLLUDING, SUMS
from p2prec.storage.mark import LedgerMark
from p2prec.storage.state import StateDirectory
from p2prec.storage.store import Store

MEANINGFUL_EPSILON = 20.0
"""Above this the guarantee is too weak to be called one."""


@dataclass(frozen=True, slots=True)
class _Account:
    """What a swarm's ledger comes to."""

    contributions: int
    epsilon: float
    mu_squared: float
    """Of all Gaussian mechanisms together. Infinite without noise."""
    forgotten: int


def privacy_report(directory: StateDirectory) -> dict[str, Any]:
    """The result of `p2prec privacy --json` (docs/threat-model.md explains the terms).

    `promised`: what the swarm's manifest sets; `spent`: on this swarm; `lifetime`: on all swarms together that this device
    was ever in, at this swarm's delta; `forgotten`: contributions that only the second note outside of the store knows of (it
    comes from an old backup; they count); `sums`: what this device gave to each private sum of a swarm with a promise, empty in
    others. An infinite epsilon (no noise) becomes None. Raises StateError, ManifestError, StoreError.
    """
    manifest = directory.swarm()
    with directory.open_store() as store:
        totals = store.ledger_totals()
        interactions = store.count_interactions()
        account, sums = _account(manifest, store, directory.ledger_mark())
    here = next((total for total in totals if total.swarm_id == manifest.swarm_id), None)
    promised = _promised(manifest)
    most, delta = promised["max_contributions"], promised["delta"]
    elsewhere = [total for total in totals if total.swarm_id != manifest.swarm_id]
    mu_squared = math.fsum([account.mu_squared, *(total.mu_squared for total in elsewhere)])
    if sums:
        left: int | None = sum(one["open"] for one in sums)
    else:
        left = None if most is None else max(0, most - account.contributions)
    return {
        "swarm": manifest.name,
        "swarm_id": manifest.swarm_id.hex(),
        "private_swarm": manifest.is_private,
        "interactions": interactions,
        "promised": promised,
        "spent": {
            "epsilon": _finite(account.epsilon),
            "contributions": account.contributions,
            "contributions_left": left,
            "first_time": here.first_time if here else None,
            "last_time": here.last_time if here else None,
        },
        "sums": sums,
        "lifetime": {
            "epsilon": _finite(epsilon_of_mu(math.sqrt(mu_squared), delta)),
            "swarms": len(totals),
            "contributions": account.contributions + sum(total.contributions for total in elsewhere),
        },
        "forgotten": account.forgotten,
        "verdict": _verdict(manifest, account),
    }


def _promised(manifest: Manifest) -> dict[str, Any]:
    promise, budget = manifest.promise, Budget.of(manifest)
    return {
        "unit": "user",
        "kind": "noise of each device" if promise is None else "private sums",
        "epsilon_budget": budget.limit if promise is None else promise.epsilon,
        "delta": budget.delta if promise is None else promise.delta,
        "noise_multiplier": budget.noise_multiplier if promise is None else None,
        "max_contributions": budget.max_contributions() if promise is None else len(SUMS),
        "people_needed": None if promise is None else promise.n_people + COLLUDING,
        "colluding_partners": None if promise is None else COLLUDING,
    }


def _account(manifest: Manifest, store: Store, mark: LedgerMark) -> tuple[_Account, list[dict[str, Any]]]:
    """What was spent on a swarm, and what on each of its private sums."""
    if manifest.promise is not None:
        ledger, notes = (
            SumLedger(store, manifest.swarm_id, manifest.promise, mark),
            load_notes(store, manifest.swarm_id),
        )
        mu_squared = ledger.budget.mu_after(ledger.spent_on) ** 2
        return _Account(ledger.contributions, ledger.epsilon_spent, mu_squared, ledger.forgotten), [
            {
                "number": number,
                "about": WHAT[number],
                "epsilon": ledger.budget.epsilon_after({number}),
                "contributed": number in ledger.spent_on,
                "open": ledger.is_open(number) and time.time() < manifest.promise.end_of(number),
                **msgspec.structs.asdict(notes.get(number, SumNote())),
            }
            for number in SUMS
        ]
    budget, in_store = Budget.of(manifest), store.ledger_contributions(manifest.swarm_id)
    contributions = max(in_store, mark.contributions(manifest.swarm_id))
    releases = contributions * budget.releases_per_contribution
    mu_squared = (
        math.inf if releases and not budget.noise_multiplier else releases / (budget.noise_multiplier or 1) ** 2
    )
    return _Account(contributions, budget.epsilon_after(contributions), mu_squared, contributions - in_store), []


def _verdict(manifest: Manifest, account: _Account) -> str:
    """nothing-sent, no-noise, too-weak or protected."""
    if not account.contributions:
        return "nothing-sent"
    if manifest.promise is None and manifest.privacy.noise_multiplier == 0:
        return "no-noise"
    return "too-weak" if account.epsilon > MEANINGFUL_EPSILON else "protected"


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
