"""What `p2prec privacy` answers: what was promised, what has been spent, and who could know what. Read from the state directory,
where the ledger is complete before anything leaves, so it is the same whether a daemon runs or not.
"""

from __future__ import annotations

import math
from typing import Any

from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.privacy.ledger import Budget
from p2prec.storage.state import StateDirectory

MEANINGFUL_EPSILON = 20.0
"""Above this the guarantee is too weak to be called one."""


def privacy_report(directory: StateDirectory) -> dict[str, Any]:
    """The result of `p2prec privacy --json` (docs/threat-model.md explains the terms).

    `promised`: what the swarm's manifest sets; `spent`: on this swarm; `lifetime`: on all swarms together that this device
    was ever in, at this swarm's delta; `forgotten`: contributions that only the second note outside of the store knows of (it
    comes from an old backup; they count). An infinite epsilon (no noise) becomes None. Raises StateError, ManifestError,
    StoreError.
    """
    manifest = directory.swarm()
    budget = Budget.of(manifest)
    with directory.open_store() as store:
        totals = store.ledger_totals()
        interactions = store.count_interactions()
    here = next((total for total in totals if total.swarm_id == manifest.swarm_id), None)
    in_store = here.contributions if here else 0
    contributions = max(in_store, directory.ledger_mark().contributions(manifest.swarm_id))
    spent = budget.epsilon_after(contributions)
    forgotten = contributions - in_store
    mu_squared = math.fsum(total.mu_squared for total in totals)
    if forgotten:
        unit = (
            math.inf if budget.noise_multiplier == 0 else budget.releases_per_contribution / budget.noise_multiplier**2
        )
        mu_squared += forgotten * unit
    most = budget.max_contributions()
    return {
        "swarm": manifest.name,
        "swarm_id": manifest.swarm_id.hex(),
        "private_swarm": manifest.is_private,
        "interactions": interactions,
        "promised": {
            "unit": "user",
            "epsilon_budget": budget.limit,
            "delta": budget.delta,
            "noise_multiplier": budget.noise_multiplier,
            "max_contributions": most,
        },
        "spent": {
            "epsilon": _finite(spent),
            "contributions": contributions,
            "contributions_left": None if most is None else max(0, most - contributions),
            "first_time": here.first_time if here else None,
            "last_time": here.last_time if here else None,
        },
        "lifetime": {
            "epsilon": _finite(epsilon_of_mu(math.sqrt(mu_squared), budget.delta)),
            "swarms": len(totals),
            "contributions": sum(total.contributions for total in totals) + forgotten,
        },
        "forgotten": forgotten,
        "verdict": _verdict(contributions, budget, spent),
    }


def _verdict(contributions: int, budget: Budget, spent: float) -> str:
    """nothing-sent, no-noise, too-weak or protected."""
    if not contributions:
        return "nothing-sent"
    if budget.noise_multiplier == 0:
        return "no-noise"
    return "too-weak" if spent > MEANINGFUL_EPSILON else "protected"


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None
