"""A picture of one run: quality round by round, with what it is compared with as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from p2prec.errors import UsageError
from p2prec.lab.experiment import RUN_BASELINES

_COLOURS = {"central": "#1b9e77", "popularity": "#7570b3", "alone": "#999999", "gossip_learning": "#d95f02"}


def check_available(path: Path) -> None:
    """Before a long run, not after it. Raises UsageError when matplotlib is missing or cannot write this kind of file."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise UsageError("--plot needs matplotlib", remedy="pip install 'p2prec[lab]'") from error
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FigureCanvasAgg.get_supported_filetypes():
        raise UsageError(
            f"--plot {path}: cannot draw a {path.suffix or 'nameless'} file", remedy="name it FILE.png or FILE.svg"
        )


def draw(report: dict[str, Any], path: Path) -> None:
    """Write the picture; the format follows from the file's suffix."""
    from matplotlib.figure import Figure

    metric, of = _metric(report)
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    rounds = [moment["round"] for moment in report["per_round"]]
    axes.plot(rounds, [of(moment) for moment in report["per_round"]], marker="o", markersize=3, label="swarm")
    for name in RUN_BASELINES:
        axes.axhline(of(report[name]), color=_COLOURS[name], linestyle="--", linewidth=1, label=name.replace("_", " "))
    config = report["config"]
    axes.set_xlabel("rounds")
    axes.set_ylabel(metric)
    axes.set_title(
        f"{config['data']}, {config['n_peers']} peers, {config['topology']}, seed {config['seed']}", fontsize=10
    )
    mb = report["bytes_per_peer_round"] / 1e6
    sent = axes.secondary_xaxis("top", functions=(lambda r: np.asarray(r) * mb, lambda sent: np.asarray(sent) / mb))
    sent.set_xlabel("MB sent per peer", fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def _metric(report: dict[str, Any]) -> tuple[str, Any]:
    if report["config"]["objective"] == "explicit":
        return "RMSE (lower is better)", lambda figures: figures["rmse"]
    return "NDCG@10, full ranking", lambda figures: figures["full"]["ndcg_at_10"]
