"""All methods on the same split: quality, bytes and time in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2prec.errors import UsageError
from p2prec.lab.baselines.registry import baselines
from p2prec.lab.config import LabConfig
from p2prec.lab.experiment import OnProgress, Result, describe, prepare, run_baselines, run_swarm, versions

SWARM = "swarm"


def compare(
    config: LabConfig, names: Sequence[str] | None, data_dir: Path, cache: Path, on_progress: OnProgress
) -> dict[str, Any]:
    """The report of `p2prec lab compare`: `{"methods": {name: figures, fairness, bytes, seconds}, "skipped", "config",
    "versions"}`. One method after the other, so that their seconds compare.

    names: the methods wanted, `swarm` among them or not; None: all, less those whose package is not installed or that are too
    large for this machine, which `skipped` then names with the reason.
    """
    task = prepare(config, data_dir, cache)
    known = list(baselines(config.learning_parameters(), config.privacy_parameters(), config.swarm_seed))
    wanted = [SWARM, *known] if names is None else list(dict.fromkeys(names))
    results: dict[str, Result] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        if name == SWARM:
            results[name] = run_swarm(task, on_progress)[0]
            continue
        try:
            results |= run_baselines(task, [name], on_progress)
        except UsageError as error:
            if names is not None:
                raise
            skipped[name] = f"{error}; {error.remedy}"
    return {
        "methods": {name: _entry(result) for name, result in results.items()},
        "skipped": skipped,
        "config": describe(task) | {"n_peers": task.parts.n_peers},
        "versions": versions(),
    }


def _entry(result: Result) -> dict[str, Any]:
    return {
        **result.judgement.figures,
        "fairness": result.judgement.fairness,
        "sent_bytes_per_peer_round": result.sent_bytes,
        "received_bytes_per_peer_round": result.received_bytes,
        "rounds": result.rounds,
        "seconds": result.seconds,
    }


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    explicit = report["config"]["objective"] == "explicit"
    quality = ["RMSE"] if explicit else ["HR@10 full", "NDCG@10 full", "HR@10 sampled", "NDCG@10 sampled"]
    fair = "worst decile RMSE" if explicit else "worst decile AUC"
    header = ["method", *quality, fair, "long tail", "sent/peer/round", "seconds"]
    rows = []
    for name, entry in report["methods"].items():
        if explicit:
            figures = [entry["rmse"]]
        else:
            figures = [entry[kind][metric] for kind in ("full", "sampled") for metric in ("hr_at_10", "ndcg_at_10")]
        fairness = entry["fairness"]
        worst = fairness["worst_decile_rmse" if explicit else "worst_decile_auc"]
        sent = entry["sent_bytes_per_peer_round"]
        rows.append(
            [
                name,
                *(f"{figure:.4f}" for figure in figures),
                f"{worst:.3f}",
                f"{100 * fairness['long_tail_share_at_10']:.0f}%",
                f"{sent:,.0f}" if sent else "-",
                f"{entry['seconds']:.1f}",
            ]
        )
    return header, rows
