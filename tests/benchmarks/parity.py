"""The demo's daemons against the lab's computation of the same rounds (`make parity`).

Real sockets, TLS and discovery on one side, `p2prec.lab.swarm` on the other; the same people, held-out parts, common start, mean
number of rounds and mean number of neighbours. What differs is chance: whom a peer meets, how values are rounded (and noise, off
unless asked for, since it would only blur the comparison). In the computation every exchange succeeds, so rounds are twice as
long here as in the demo, for the machine to keep up. Exits with 1 when the swarm's NDCG@10 or AUC, the mean over the seeds,
differ by more than 2%.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import platformdirs
from figures import machine

from p2prec.data.demo_data import load_demo_data, synthetic_demo_data
from p2prec.data.histories import choose_people
from p2prec.data.interactions import TrainingPairs
from p2prec.demo.plan import Plan, make_plan, round_interval_s
from p2prec.demo.run import Progress, run_demo
from p2prec.lab.swarm import LabSwarm
from p2prec.lab.topology import random_views
from p2prec.metrics.ranking import ranking_scores
from p2prec.model.topk import scores
from p2prec.model.user import solve_user
from p2prec.peer.learner import Learner
from p2prec.types import DoubleArray, FloatArray

METRICS = ("ndcg_at_10", "auc")
BOUND = 0.02
MIN_SUCCESS = 0.95
"""Of the exchanges. With fewer, a round of the daemons mixes noticeably less than a computed one."""
N_COMPUTED = 6
"""Runs of the lab's computation, each with chances of its own."""


def main() -> None:
    options = _options()
    if options.synthetic:
        data = synthetic_demo_data(max(options.peers, 50), 1000, 0)
    else:
        data = load_demo_data(options.data, platformdirs.user_cache_path("p2prec"))
    print(f"{data.source}: {options.peers} people, {options.seconds:g} s, seeds {options.seeds}")
    compared = []
    for seed in options.seeds:
        people = choose_people(data.histories, options.peers, seed=seed)
        interval_s = options.interval or 2 * round_interval_s(options.peers, options.processes)
        plan = with_noise(make_plan(people, seed=seed, round_interval_s=interval_s), options.noise)
        report = run_demo(plan, n_processes=options.processes, seconds=options.seconds, on_progress=_show)
        compared.append(_compared(plan, report) | {"seed": seed, "interval_s": interval_s})
        _show_seed(compared[-1])
    mean = {name: float(np.mean([one["ratio"][name] for one in compared])) for name in METRICS}
    print("mean ratio: " + ", ".join(f"{name} {ratio:.4f}" for name, ratio in mean.items()))
    if options.json is not None:
        report = {"machine": machine(), "data": data.source, "peers": options.peers, "noise_multiplier": options.noise}
        options.json.write_text(json.dumps({**report, "seeds": compared, "mean_ratio": mean}, indent=2) + "\n", "utf-8")
    sys.exit(any(abs(ratio - 1) > BOUND for ratio in mean.values()))


def _compared(plan: Plan, report: dict[str, Any]) -> dict[str, Any]:
    """One seed's figures: of the daemons, of the computation (mean and standard deviation of a run), and their ratio."""
    degree = round(report["neighbours"] / 2)  # links count both ways
    runs = np.array([compute(plan, report["rounds"], degree, run) for run in range(N_COMPUTED)])
    computed = dict(zip(METRICS, runs.mean(axis=0).tolist(), strict=True))
    return {
        "rounds": report["rounds"],
        "exchanges_succeeded": report["exchanges"] / (2 * report["rounds"]),
        "daemons": {name: report["swarm"][name] for name in METRICS},
        "computed": computed,
        "deviation": dict(zip(METRICS, runs.std(axis=0, ddof=1).tolist(), strict=True)),
        "ratio": {name: report["swarm"][name] / computed[name] for name in METRICS},
    }


def _show_seed(one: dict[str, Any]) -> None:
    success = one["exchanges_succeeded"]
    rounds = f"{one['rounds']:.1f} rounds of {one['interval_s']:g} s"
    print(f"seed {one['seed']}: {rounds}, {success:.0%} of the exchanges succeeded")
    if success < MIN_SUCCESS:
        print("  the machine did not keep up, so these are not the same rounds: give it a longer --interval")
    for name in METRICS:
        real, mean, ratio = one["daemons"][name], one["computed"][name], one["ratio"][name]
        run = f"(one run deviates by {one['deviation'][name] / mean:.2%})"
        print(f"  {name:<11} daemons {real:.4f}  computed {mean:.4f}  ratio {ratio:.4f}  {run}")


def with_noise(plan: Plan, noise_multiplier: float) -> Plan:
    privacy = msgspec.structs.replace(plan.manifest.privacy, noise_multiplier=noise_multiplier)
    return replace(plan, manifest=msgspec.structs.replace(plan.manifest, privacy=privacy))


def compute(plan: Plan, rounds: float, degree: int, run: int) -> DoubleArray:
    """The swarm's mean of each of METRICS, after as many rounds and with as many neighbours as the daemons had on average."""
    parts = [(plan.histories.of(person), plan.test_part(person)) for person in range(len(plan.histories))]
    train = [
        TrainingPairs(own.items[~test], np.ones(int((~test).sum()), np.float32), own.times[~test])
        for own, test in parts
    ]
    manifest = plan.manifest
    rng = np.random.default_rng([run, 2])
    swarm = LabSwarm(
        manifest.learning,
        manifest.privacy,
        plan.histories.catalogue.keys,
        bytes.fromhex(manifest.seed),
        train,
        rng,
        views=random_views(len(train), degree, rng),
    )
    swarm.run(max(1, round(rounds)))
    ranked = [
        ranking_scores(_scores(learner), own.items[test], own.items[~test])
        for learner, (own, test) in zip(swarm.learners, parts, strict=True)
        if test.any()
    ]
    return np.array([np.mean([one.ndcg for one in ranked]), np.mean([one.auc for one in ranked])])


def _scores(learner: Learner) -> FloatArray:
    """With all interactions counting alike, as devices measure themselves (`p2prec.peer.quality`)."""
    factors = learner.state.item_factors
    return scores(learner.parameters, factors, solve_user(learner.parameters, factors, learner.items, learner.values))


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress.elapsed_s:5.0f} s, {progress.rounds:5.1f} rounds ", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--interval", type=float, metavar="S", help="between rounds (default: twice the demo's)")
    parser.add_argument(
        "--noise", type=float, default=0.0, metavar="X", help="noise multiplier (default 0: less chance)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one demo each (default 0 1 2)")
    parser.add_argument("--data", type=Path, metavar="PATH", help="instead of MovieLens-latest-small")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument("--synthetic", action="store_true", help="made-up people")
    return parser.parse_args()


if __name__ == "__main__":
    main()
