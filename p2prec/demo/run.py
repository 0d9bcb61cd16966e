"""The demo's parent process: starts the workers, follows them, and gathers what they measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.demo.plan import Plan, write_plans
from p2prec.errors import P2PRecError
from p2prec.metrics.ranking import RankingScores
from p2prec.privacy.ledger import Budget

FINISH_DEADLINE_S = 60.0
LARGER_SWARMS = (10_000, 1_000_000)
METRICS = ("ndcg_at_10", "hr_at_10", "auc")


@dataclass(frozen=True, slots=True)
class Progress:
    """The swarm at one moment, as the workers last reported it."""

    elapsed_s: float
    peers_up: int
    meetings: float
    """Mean number of other peers that a peer has heard of."""
    neighbours: float
    rounds: float
    ndcg_at_10: float | None
    """Mean over the peers that have measured."""


@dataclass(slots=True)
class _Worker:
    """One child process and the last that it said."""

    process: subprocess.Popen[bytes]
    errors: Path
    progress: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] | None = None

    def follow(self) -> None:
        """Read its lines until it closes its output. Runs in a thread of its own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if "final" in message:
                self.final = message
            else:
                self.progress = message


def run_demo(
    plan: Plan, *, n_processes: int, seconds: float, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Run the swarm for `seconds` and return the report (docs: README). Raises P2PRecError when a worker fails."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="p2prec-demo-") as name:
        directory = Path(name)
        with _workers(write_plans(plan, directory, n_processes)) as workers:
            while (elapsed := time.monotonic() - started) < seconds:
                _check(workers)
                on_progress(_progress(workers, elapsed))
                time.sleep(min(1.0, seconds - elapsed))
            learned_s = time.monotonic() - started
            _finish(workers)
        finals = sorted(
            (peer for worker in workers if worker.final for peer in worker.final["final"]), key=lambda p: p["number"]
        )
        return _report(plan, finals, workers, learned_s)


@contextmanager
def _workers(paths: list[Path]) -> Iterator[list[_Worker]]:
    """Child processes that never outlive this block."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    workers = []
    for path in paths:
        errors = path.with_suffix(".log")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "p2prec.demo.worker", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        workers.append(_Worker(process, errors))
    threads = [threading.Thread(target=worker.follow, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        yield workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
        for thread in threads:
            thread.join()


def _check(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.process.poll() is not None:
            tail = "\n".join(worker.errors.read_text(errors="replace").splitlines()[-15:])
            raise P2PRecError(f"a process of the demo ended early (exit status {worker.process.returncode}):\n{tail}")


def _finish(workers: list[_Worker]) -> None:
    """Ask all to measure and stop; raises P2PRecError when one does not."""
    for worker in workers:
        assert worker.process.stdin is not None
        worker.process.stdin.close()
    deadline = time.monotonic() + FINISH_DEADLINE_S
    for worker in workers:
        try:
            worker.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise P2PRecError("a process of the demo did not stop when asked to") from None
        if worker.process.returncode:
            _check([worker])


def _progress(workers: list[_Worker], elapsed_s: float) -> Progress:
    peers = [peer for worker in workers for peer in worker.progress.get("progress", [])]
    measured = [peer["ndcg"] for peer in peers if peer["ndcg"] is not None]

    def mean(name: str) -> float:
        return float(np.mean([peer[name] for peer in peers])) if peers else 0.0

    return Progress(
        elapsed_s=elapsed_s,
        peers_up=len(peers),
        meetings=mean("seen"),
        neighbours=mean("neighbours"),
        rounds=mean("rounds"),
        ndcg_at_10=float(np.mean(measured)) if measured else None,
    )


def _report(plan: Plan, finals: list[dict[str, Any]], workers: list[_Worker], seconds: float) -> dict[str, Any]:
    statuses = [final["status"] for final in finals]
    measured = [status["quality"] for status in statuses if status["quality"]["ndcg_at_10"] is not None]
    sources: Counter[str] = Counter()
    for final in finals:
        sources.update(final["sighted"])
    sighted = [final["all_sighted_s"] for final in finals]
    shown = next(final for final in finals if final["number"] == plan.shown)
    history = plan.histories.of(plan.shown)
    titles = plan.histories.catalogue.titles
    liked = history.items[np.argsort(-history.values, kind="stable")[:5]]
    learning, privacy = plan.manifest.learning, plan.manifest.privacy
    return {
        "swarm": {name: _mean(quality[name] for quality in measured) for name in METRICS},
        "alone": {name: _mean(quality[f"alone_{name}"] for quality in measured) for name in METRICS},
        "popularity": _popularity(plan.popularity()),
        "peers": len(finals),
        "peers_measured": len(measured),
        "processes": len(workers),
        "seconds": round(seconds, 1),
        "rounds": _mean(status["rounds"] for status in statuses),
        "exchanges": _mean(status["exchanges"] for status in statuses),
        "contributions": _mean(status["contributions"] for status in statuses),
        "neighbours": _mean(status["neighbours"] for status in statuses),
        "peers_seen": _mean(status["peers_seen"] for status in statuses),
        "met_by": dict(sources),
        "all_seen_within_s": None if None in sighted else round(max(sighted), 1),
        "messages_refused": sum(status["messages_refused"] for status in statuses),
        "bytes_out_per_peer": _mean(status["bytes_out"] for status in statuses),
        "bytes_out_per_peer_and_round": _mean(status["bytes_out"] / max(1, status["rounds"]) for status in statuses),
        "rss_bytes_total": sum(worker.final["rss_bytes"] for worker in workers if worker.final),
        "cpu_s_total": round(sum(worker.final["cpu_s"] for worker in workers if worker.final), 1),
        "items": len(titles),
        "n_factors": learning.n_factors,
        "round_interval_s": learning.round_interval_s,
        "noise_multiplier": privacy.noise_multiplier,
        "privacy": shown["status"]["privacy"],
        "larger_swarms": _larger_swarms(plan, shown["status"]["contributions"]),
        "person": {
            "name": plan.histories.users[plan.shown],
            "interactions": len(history),
            "rated_highest": [titles[item] for item in liked.tolist()],
            "recommendations": shown["recommendations"],
        },
    }


def _larger_swarms(plan: Plan, contributions: int) -> list[dict[str, float]]:
    """What the same accuracy would cost in privacy among more people.

    Independent noise averages out: among n times as many, each may add sqrt(n) times as much for the same noise in the model.
    """
    budget = Budget.of(plan.manifest)
    swarms = []
    for n_peers in LARGER_SWARMS:
        noise = budget.noise_multiplier * math.sqrt(n_peers / len(plan.histories))
        epsilon = replace(budget, noise_multiplier=noise).epsilon_after(contributions)
        swarms.append({"peers": n_peers, "noise_multiplier": noise, "epsilon": epsilon})
    return swarms


def _popularity(scores: list[RankingScores]) -> dict[str, float]:
    return {
        "ndcg_at_10": _mean(s.ndcg for s in scores),
        "hr_at_10": _mean(s.hit_rate for s in scores),
        "auc": _mean(s.auc for s in scores),
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
