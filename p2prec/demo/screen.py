"""What a person sees of the demo: live progress, and the report at the end."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from p2prec.demo.run import Progress

PLAIN_EVERY_S = 10.0
WIDTH = 100


@contextmanager
def follow(seconds: float, n_peers: int) -> Iterator[Callable[[Progress], None]]:
    """Show progress while the block runs: redrawn on a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _plain_lines(seconds, n_peers)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=seconds)
        yield lambda progress: bar.update(task, completed=progress.elapsed_s, description=_line(progress, n_peers))


def _plain_lines(seconds: float, n_peers: int) -> Callable[[Progress], None]:
    due = 0.0

    def show(progress: Progress) -> None:
        nonlocal due
        if progress.elapsed_s >= due:
            due = progress.elapsed_s + PLAIN_EVERY_S
            print(
                f"{progress.elapsed_s:4.0f} of {seconds:.0f} s  {_line(progress, n_peers)}", file=sys.stderr, flush=True
            )

    return show


def _line(progress: Progress, n_peers: int) -> str:
    quality = "" if progress.ndcg_at_10 is None else f", NDCG@10 {progress.ndcg_at_10:.3f}"
    return (
        f"{progress.peers_up}/{n_peers} peers up, each has found {progress.meetings:.0f} and talks to "
        f"{progress.neighbours:.0f}, round {progress.rounds:.0f}{quality}"
    )


def show(report: dict[str, Any], source: str) -> None:
    """Print the report for people."""
    print(f"\n{report['peers']} peers in {report['processes']} processes for {report['seconds']:.0f} s, {source}\n")
    print(f"{'':12} {'NDCG@10':>8} {'hit rate@10':>12} {'AUC':>6}")
    for name in ("swarm", "alone", "popularity"):
        scores = report[name]
        print(f"{name:12} {scores['ndcg_at_10']:8.3f} {scores['hr_at_10']:12.3f} {scores['auc']:6.3f}")
    print()
    for label, text in (
        ("Quality", _quality(report)),
        ("Discovery", _discovery(report)),
        ("Per peer", _cost(report)),
        ("Privacy", _privacy(report)),
    ):
        print(textwrap.fill(f"{label + ':':11}{text}", WIDTH, subsequent_indent=" " * 11))
    print()
    _show_person(report["person"])


def _quality(report: dict[str, Any]) -> str:
    ratio = report["swarm"]["ndcg_at_10"] / max(report["popularity"]["ndcg_at_10"], 1e-9)
    return (
        f"the swarm's NDCG@10 is {ratio:.2f} times popularity's. Means over {report['peers_measured']} people, full ranking "
        f"of {report['items']} titles, on a random fifth of each person's history that no peer has trained on."
    )


def _discovery(report: dict[str, Any]) -> str:
    met = ", ".join(f"{count:,} by {source}" for source, count in sorted(report["met_by"].items())) or "none"
    within = "" if report["all_seen_within_s"] is None else f", all within {report['all_seen_within_s']:.0f} s"
    return (
        f"each peer found {report['peers_seen']:.0f} of {report['peers'] - 1} others{within} ({met}; none from a list)."
    )


def _cost(report: dict[str, Any]) -> str:
    return (
        f"{report['rounds']:.0f} rounds, {report['exchanges']:.0f} exchanges, {report['bytes_out_per_peer'] / 1e6:.1f} MB "
        f"sent ({report['bytes_out_per_peer_and_round'] / 1e3:.0f} kB a round), "
        f"{report['rss_bytes_total'] / report['peers'] / 1e6:.1f} MB of memory, "
        f"{report['cpu_s_total'] / report['peers']:.2f} s of CPU. "
        f"In all {report['rss_bytes_total'] / 1e6:.0f} MB and {report['cpu_s_total']:.0f} s."
    )


def _privacy(report: dict[str, Any]) -> str:
    stayed = "no history left its device; what was sent is clipped, noised and mixed."
    spent, delta = report["privacy"]["epsilon_spent"], report["privacy"]["delta"]
    if spent is None:
        return f"{stayed} This run added no noise, so there is no formal guarantee."
    larger = " or ".join(f"{swarm['epsilon']:,.3g} among {swarm['peers']:,}" for swarm in report["larger_swarms"])
    return (
        f"{stayed} But {report['peers']} people are too few to hide in: at this circle's noise ({report['noise_multiplier']:g} "
        f"times the clip norm), {report['contributions']:.0f} contributions amount to epsilon {spent:,.0f} (delta {delta:g}), "
        "which promises nothing against somebody who sees every message. In a larger swarm each member can add more for the "
        f"same noise in the model: epsilon {larger} people."
    )


def _show_person(person: dict[str, Any]) -> None:
    liked = "; ".join(person["rated_highest"][:3])
    print(f"Person {person['name']} ({person['interactions']} titles; rated highest: {liked}) is recommended:")
    for rank, item in enumerate(person["recommendations"], 1):
        print(f"{rank:4}. {item['title']}  ({item['reason']})")
