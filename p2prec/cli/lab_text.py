"""What `p2prec lab` shows: progress while it computes, and tables of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress() -> Iterator[Callable[[str, int, int, str], None]]:
    """One bar for each thing that is computed, on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figure]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(name: str, done: int, total: int, figure: str) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name.replace("_", " "), total=total, figure="")
            bars.update(tasks[name], completed=done, total=total, figure=figure)

        yield on_progress


def show_run(report: dict[str, Any]) -> None:
    """The report of `p2prec.lab.experiment.run`."""
    from p2prec.cli.screen import bytes_text, labelled, show, table, text
    from p2prec.lab.experiment import RUN_BASELINES

    names = ("swarm", *RUN_BASELINES)
    if report["config"]["objective"] == "explicit":
        header = ["", "RMSE", "worst decile", "sparse quarter"]
        rows = [
            [
                name.replace("_", " "),
                f"{report[name]['rmse']:.4f}",
                f"{report['fairness'][name]['worst_decile_rmse']:.3f}",
                f"{report['fairness'][name]['sparse_quarter_rmse']:.3f}",
            ]
            for name in names
        ]
    else:
        header = ["", "HR@10 full", "NDCG@10 full", "HR@10 sampled", "NDCG@10 sampled", "long tail"]
        rows = [
            [
                name.replace("_", " "),
                *(
                    f"{report[name][kind][metric]:.4f}"
                    for kind in ("full", "sampled")
                    for metric in ("hr_at_10", "ndcg_at_10")
                ),
                f"{100 * report['fairness'][name]['long_tail_share_at_10']:.0f}%",
            ]
            for name in names
        ]
    show([*about(report["config"]), text(""), *table(header, rows)], hang=None)
    sent = bytes_text(report["bytes_per_peer_round"])
    speed = f"{report['peer_rounds_per_second']:,.0f} peer-rounds/s, {bytes_text(report['peak_rss_bytes'])} at most"
    show(
        [
            text(""),
            labelled("sent", f"{sent} per peer and round, {report['messages']:,} messages"),
            labelled("copies", f"{report['consensus_distance']:.3f} apart, of the mean's norm"),
            labelled("speed", speed),
            *compared("of central", report["swarm_over_central"]),
        ]
    )


def show_private(report: dict[str, Any]) -> None:
    """The report of `p2prec.lab.private_run.run_private`."""
    from p2prec.cli.screen import bytes_text, labelled, show, table, text

    header = ["", "HR@10 full", "NDCG@10 full", "HR@10 sampled", "NDCG@10 sampled"]
    rows = [
        [
            name,
            *(
                f"{report[name][kind][metric]:.4f}"
                for kind in ("full", "sampled")
                for metric in ("hr_at_10", "ndcg_at_10")
            ),
        ]
        for name in ("swarm", "curator", "popularity")
    ]
    privacy, sums = report["privacy"], report["sums"]
    noise = ", ".join(f"{one['noise_over_curator']:.2f} ({name})" for name, one in sums.items())
    sent = sum(one["bytes_per_peer"] for one in sums.values())
    show([*about(report["config"]), text(""), *table(header, rows)], hang=None)
    show(
        [
            text(""),
            labelled("promise", f"epsilon {privacy['epsilon']:g}, delta {privacy['delta']:g}, for {privacy['unit']},"),
            text(
                f"  if at most {privacy['colluding_partners']} of a peer's mask partners collude with whoever sees every message"
            ),
            labelled("noise", f"{noise} times that of a trusted curator"),
            labelled("sent", f"{bytes_text(sent)} per peer in all"),
            *compared("of curator", report["swarm_over_curator"]),
            *compared("same draw", report["swarm_over_curator_same_draw"]),
        ]
    )


def show_audit(report: dict[str, Any]) -> None:
    """The report of `p2prec.lab.audit`."""
    from p2prec.cli.screen import labelled, show, table, text

    config, canaries = report["config"], report["canaries"]
    proven = (
        f"at least {report['epsilon_lower_bound']:.2f} with 95% confidence, {canaries['epsilon_point']:.2f} estimated"
    )
    show(
        [
            labelled("promise", f"epsilon {report['epsilon']:g}, delta {config['delta']:g}"),
            labelled("proven", f"{proven} ({canaries['trials']:,} canaries, AUC {canaries['auc']:.3f})"),
            text(""),
        ]
    )
    columns = ("auc_outside", "auc", "auc_daemon", "auc_without_privacy")
    rows = [
        [name.replace("_", " "), *(f"{found[column]:.3f}" for column in columns)]
        for name, found in report["attacks"].items()
        if "auc_outside" in found
    ]
    header = [
        "AUC of attacks on messages",
        "outside",
        f"{config['colluders']} colluding",
        "no promise",
        "without noise",
    ]
    show(table(header, rows), hang=None)


def compared(label: str, ratios: dict[str, Any]) -> list[Any]:
    """The swarm over what it is compared with, with standard errors over people; nothing where that has no figure but 0."""
    from p2prec.cli.screen import labelled

    names = {"rmse": "RMSE", "full": "NDCG@10 full", "sampled": "NDCG@10 sampled"}
    found = {name: ratio if name == "rmse" else ratio.get("ndcg_at_10") for name, ratio in ratios.items()}
    parts = [
        f"{names[name]} {one['ratio']:.3f} ± {one['standard_error']:.3f}"
        for name, one in found.items()
        if one is not None
    ]
    return [labelled(label, ", ".join(parts) + " (standard error over people)")] if parts else []


def about(config: dict[str, Any]) -> list[Any]:
    """What was run: the lines above every table."""
    from p2prec.cli.screen import counted, labelled

    people = counted(config["n_peers"], "peer")
    return [
        labelled("data", f"{config['data']}, {config['objective']}, split {config['split']}"),
        labelled(
            "swarm", f"{people}, {counted(config['rounds'], 'round')}, {config['topology']}, seed {config['seed']}"
        ),
    ]
