"""One experiment from data to report: the swarm, and next to it what it has to be compared with."""

from __future__ import annotations

import platform
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import p2prec
from p2prec.errors import DataError, UsageError
from p2prec.lab import memory
from p2prec.lab.baselines.base import Baseline, Fitted, OnRound, Training
from p2prec.lab.baselines.registry import baselines
from p2prec.lab.config import MAX_SIMULATED_PEERS, LabConfig
from p2prec.lab.dataset import LabData, load, sample_people, take_people
from p2prec.lab.engines import measured_rounds, moments
from p2prec.lab.evaluate import Judge, Judgement, paired
from p2prec.lab.side_by_side import side_by_side
from p2prec.lab.splits import LabSplit, split, split_people
from p2prec.lab.swarm import part_bytes
from p2prec.lab.team import team_size

RUN_BASELINES = ("central", "popularity", "alone", "gossip_learning")
OnProgress = Callable[[str, int, int, str], None]
"""Told what is being computed, how much of it is done, of how much, and a figure to show (or "")."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What the swarm and every baseline are given alike."""

    config: LabConfig
    parts: LabSplit
    train: Training
    judge: Judge

    def rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *stream])


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One method's figures, and what they cost."""

    judgement: Judgement
    seconds: float
    sent_bytes: float
    """Per peer and round."""
    received_bytes: float
    rounds: int
    own_rss_bytes: int = 0
    """The most memory of a process that did nothing else; 0 if it had none."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the rounds of the swarm took."""

    messages: int
    peer_rounds_per_second: float
    consensus_distance: float
    """At the end."""
    peak_rss_bytes: int


def prepare(config: LabConfig, data_dir: Path, cache: Path) -> Task:
    """Load, choose people, split. Raises DataError or UsageError."""
    data: LabData = load(config.data, data_dir, cache)
    histories = take_people(data.histories, split_people(data.histories, config.split))
    rng = np.random.default_rng([config.seed, 0])
    chosen = sample_people(histories, config.peers, rng)
    if config.engine == "peers" and len(chosen) > MAX_SIMULATED_PEERS:
        raise UsageError(f"--engine peers runs up to {MAX_SIMULATED_PEERS} peers, not {len(chosen)}; give --peers")
    if config.objective == "explicit" and np.ptp(chosen.values) == 0:
        raise DataError(f"{data.name}: no ratings, or all the same", remedy="use --objective implicit")
    parts = split(chosen, config.split, rng)
    train = Training.of(parts.train, config.objective, config.rounds)
    judge = Judge(parts, config.objective, np.random.default_rng([config.seed, 1]))
    return Task(config, parts, train, judge)


def run(config: LabConfig, data_dir: Path, cache: Path, on_progress: OnProgress) -> dict[str, Any]:
    """The report of `p2prec lab run` (docs/how-to/lab.md explains each field)."""
    started = time.perf_counter()
    task = prepare(config, data_dir, cache)
    swarm, cost, per_round = run_swarm(task, on_progress)
    at_once = team_size(task.parts.n_peers)
    compared = run_baselines(task, RUN_BASELINES, on_progress, at_once=at_once)
    results = {"swarm": swarm} | compared
    beside = sum(sorted(result.own_rss_bytes for result in compared.values())[-at_once:])
    return {
        **{name: result.judgement.figures for name, result in results.items()},
        "swarm_over_central": paired(swarm.judgement, results["central"].judgement),
        "per_round": per_round,
        "bytes_per_peer_round": swarm.sent_bytes,
        "largest_message_bytes": max(part_bytes(config.learning_parameters(), task.train.n_items)),
        "messages": cost.messages,
        "peer_rounds_per_second": cost.peer_rounds_per_second,
        "seconds": time.perf_counter() - started,
        "peak_rss_bytes": max(cost.peak_rss_bytes, memory.rss_bytes() + beside),
        "consensus_distance": cost.consensus_distance,
        "fairness": {name: result.judgement.fairness for name, result in results.items()},
        "config": describe(task) | {"n_peers": task.parts.n_peers},
        "versions": versions(),
    }


def run_swarm(task: Task, on_progress: OnProgress) -> tuple[Result, Cost, list[dict[str, Any]]]:
    """The swarm's result, what it took, and its figures on the way. Its memory and processes are free again."""
    config, n_peers = task.config, task.parts.n_peers
    wanted, per_round, figure = set(measured_rounds(config)), [], ""
    for moment in moments(config, task.train, task.rng(2)):
        if moment.round in wanted:
            judgement = task.judge.judge(moment.scores())
            per_round.append(
                {
                    "round": moment.round,
                    **judgement.figures,
                    "sent_bytes_per_peer": moment.sent_bytes / n_peers,
                    "consensus_distance": moment.consensus_distance,
                    "seconds": moment.seconds,
                }
            )
            figure = headline(judgement)
        on_progress("swarm", moment.round, config.rounds, figure)
    sent = moment.sent_bytes / (n_peers * config.rounds)
    speed = moment.peer_rounds / max(moment.seconds, 1e-9)
    cost = Cost(moment.messages, speed, moment.consensus_distance, memory.peak_rss_bytes())
    return Result(judgement, moment.seconds, sent, sent, config.rounds), cost, per_round


def run_baselines(
    task: Task, names: Sequence[str] | None, on_progress: OnProgress, *, at_once: int = 1
) -> dict[str, Result]:
    """The named baselines that fit the objective; None: all. Raises UsageError for a name that there is not.

    at_once: how many at a time, each in a process of its own if more than one.
    """
    config = task.config
    known = baselines(config.learning_parameters(), config.privacy_parameters(), config.swarm_seed)
    chosen = list(names or known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise UsageError(
            f"no {config.objective} baseline {', '.join(unknown)}", remedy=f"there are: swarm, {', '.join(known)}"
        )
    totals = {name: task.parts.n_peers if name == "alone" else config.rounds for name in chosen}

    def on_step(name: str, done: int) -> None:
        on_progress(name, min(done, totals[name]), totals[name], "")

    fits = side_by_side({name: partial(_fit, task, known[name]) for name in chosen}, at_once, on_step)
    results = {}
    for name, fit in fits.items():
        fitted, seconds = fit.result
        judgement = task.judge.judge(fitted.scores)
        on_progress(name, totals[name], totals[name], headline(judgement))
        sent, received = fitted.sent_bytes, fitted.received_bytes
        results[name] = Result(judgement, seconds, sent, received, fitted.rounds, fit.peak_rss_bytes)
    return results


def _fit(task: Task, baseline: Baseline, on_round: OnRound) -> tuple[Fitted, float]:
    """A baseline after training, and the seconds that it took."""
    on_round(0)
    started = time.perf_counter()
    fitted = baseline.fit(task.train, task.rng(3, zlib.crc32(baseline.name.encode())), on_round)
    return fitted, time.perf_counter() - started


def headline(judgement: Judgement) -> str:
    """The one figure to watch, in words."""
    figures: dict[str, Any] = judgement.figures
    return f"RMSE {figures['rmse']:.4f}" if "rmse" in figures else f"NDCG@10 {figures['full']['ndcg_at_10']:.4f}"


def describe(task: Task) -> dict[str, Any]:
    """The configuration as it was run: every default filled in, and what the split came to."""
    config = task.config
    return {
        **msgspec.to_builtins(config),
        "learning": msgspec.to_builtins(config.learning_parameters()),
        "privacy": msgspec.to_builtins(config.privacy_parameters()),
        "n_items": task.train.n_items,
        "n_train": len(task.parts.train.items),
        "n_test": len(task.parts.test.items),
        "people_judged": len(task.judge.people),
    }


def versions() -> dict[str, str]:
    return {
        "p2prec": p2prec.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
