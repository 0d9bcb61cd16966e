"""`p2prec lab run --epsilon E`: one private swarm, beside it what a trusted curator reaches with the same promise, and
popularity."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab import memory, topology
from p2prec.lab.config import LabConfig
from p2prec.lab.evaluate import Judgement, mean_of, paired
from p2prec.lab.experiment import (
    OnProgress,
    Task,
    describe,
    headline,
    prepare,
    run_baselines,
    versions,
)
from p2prec.lab.gossip_sum import Crashes
from p2prec.lab.private_peers import SimulatedPrivateSwarm
from p2prec.lab.private_swarm import Draw, FreshDraw, PrivateSwarm, SumResult, SwarmsDraw, learn_centrally, plan_of
from p2prec.model.pairs import pair_scores
from p2prec.privacy.plan import COLLUDING
from p2prec.privacy.promise import mixing_rounds
from p2prec.types import IndexArray

CURATORS = 10
"""Draws of a trusted curator's noise, whose mean a swarm is compared with: one alone comes to some 3% more or less (943 people;
at epsilon 2 up to 5%), as much as the difference that is looked for."""


def run_private(config: LabConfig, data_dir: Path, cache: Path, on_progress: OnProgress) -> dict[str, Any]:
    """The report (docs/how-to/lab.md). config.epsilon is set. Raises UsageError for a promise that is none, DataError."""
    started = time.perf_counter()
    assert config.epsilon is not None
    task = prepare(config, data_dir, cache)
    histories = task.train.histories
    items = [histories.of(person).items for person in range(task.train.n_people)]
    n_items, delta = task.train.n_items, config.privacy_parameters().delta
    # Who masks whom is drawn as a table; of everybody there are votes and three methods' scores.
    needed = 9 * len(items) ** 2 + 16 * len(items) * n_items
    memory.require(needed, f"{len(items):,} people with {n_items:,} items", remedy="try fewer --peers")
    rounds = mixing_rounds(len(items))
    views = topology.neighbours(config.topology, histories, task.rng(6), config.degree)
    crashes, rng = Crashes(config.crash), task.rng(5)
    swarm: PrivateSwarm | SimulatedPrivateSwarm
    try:
        if config.engine == "peers":
            swarm = SimulatedPrivateSwarm(items, n_items, config.epsilon, delta, rng, views=views, crashes=crashes)
        else:
            swarm = PrivateSwarm(
                items, n_items, config.epsilon, delta, rng, views=views, rounds=rounds, crashes=crashes
            )
    except ValueError as error:
        raise UsageError(str(error)) from error
    models = swarm.learn(lambda share: on_progress("swarm", round(100 * share), 100, ""))
    seconds = time.perf_counter() - started
    judged = {"swarm": task.judge.judge(swarm.scores(models))}
    on_progress("swarm", 100, 100, headline(judged["swarm"]))
    own_noise = SwarmsDraw(swarm.popularity_sum.noise, swarm.pair_sum.noise, models[0].selected, task.rng(8))
    judged["curator_same_draw"] = _curator(task, items, config, own_noise)
    judged["curator"] = _curators(task, items, config, on_progress)
    judged["popularity"] = run_baselines(task, ["popularity"], on_progress)["popularity"].judgement
    return {
        **{name: judgement.figures for name, judgement in judged.items()},
        "swarm_over_curator": paired(judged["swarm"], judged["curator"]),
        "swarm_over_curator_same_draw": paired(judged["swarm"], judged["curator_same_draw"]),
        "privacy": _privacy(swarm, rounds),
        "sums": {"popularity": _sum(swarm.popularity_sum), "pairs": _sum(swarm.pair_sum)},
        "seconds": time.perf_counter() - started,
        "seconds_of_swarm": seconds,
        "peak_rss_bytes": memory.peak_rss_bytes(),
        "fairness": {name: _fairness(judgement) for name, judgement in judged.items()},
        "config": describe(task) | {"n_peers": len(items), "rounds": rounds},
        "versions": versions(),
    }


def _curator(task: Task, items: Sequence[IndexArray], config: LabConfig, draw: Draw) -> Judgement:
    """A trusted curator's judgement, who promises the same: the same two sums, over everybody, with one noise."""
    assert config.epsilon is not None
    plan = plan_of(config.epsilon, config.privacy_parameters().delta, len(items))
    model = learn_centrally(items, task.train.n_items, plan, 1.0, draw)
    return task.judge.judge(np.stack([pair_scores(model, one) for one in items]))


def _curators(task: Task, items: Sequence[IndexArray], config: LabConfig, on_progress: OnProgress) -> Judgement:
    """The mean over CURATORS draws of a curator's noise."""
    judgements = []
    for draw in range(CURATORS):
        on_progress("curator", draw, CURATORS, "")
        judgements.append(_curator(task, items, config, FreshDraw(task.rng(7, draw))))
    mean = mean_of(judgements)
    on_progress("curator", CURATORS, CURATORS, headline(mean))
    return mean


def _privacy(swarm: PrivateSwarm | SimulatedPrivateSwarm, rounds: int) -> dict[str, Any]:
    plan = swarm.plan
    return {
        "epsilon": plan.epsilon,
        "delta": plan.delta,
        "unit": "a person's whole history, added or removed",
        "colluding_partners": COLLUDING,
        "honest_people": plan.n_people,
        "mu": {"popularity": plan.popularity.mu, "pairs": plan.pairs.mu, "total": plan.mu},
        "mixing_rounds": rounds,
    }


def _sum(result: SumResult) -> dict[str, Any]:
    return {
        "contributors": result.contributors,
        "crashed": int((~result.course.alive).sum()),
        "lost": result.course.lost,
        "voided": result.voided,
        "values": result.means.shape[1],
        "noise_over_curator": result.noise_ratio,
        "bytes_per_peer": result.bytes_per_peer,
        **({"work_per_peer": dict(result.work_per_peer)} if result.work_per_peer else {}),
    }


def _fairness(judgement: Judgement) -> dict[str, float]:
    return {name: value if math.isfinite(value) else 0.0 for name, value in judgement.fairness.items()}
