"""What a person sees of the demo: live progress, and the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from p2prec.demo.run import Progress

PLAIN_EVERY_S = 10.0


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
    ratio = report["swarm"]["ndcg_at_10"] / max(report["popularity"]["ndcg_at_10"], 1e-9)
    print(
        f"\nThe swarm's NDCG@10 is {ratio:.2f} times popularity's. Means over {report['peers_measured']} people, full ranking of "
        f"{report['items']} titles,\non a random fifth of each person's history, which no peer has trained on.\n"
    )
    _show_cost(report)
    _show_privacy(report)
    _show_person(report["person"])


def _show_cost(report: dict[str, Any]) -> None:
    met = ", ".join(f"{count} by {source}" for source, count in sorted(report["met_by"].items())) or "none"
    all_seen = report["all_seen_within_s"]
    print(
        f"Discovery: {report['peers_seen']:.0f} of {report['peers'] - 1} others found by each peer ({met}; none from a list)"
        + ("" if all_seen is None else f", all within {all_seen:.0f} s")
    )
    print(
        f"Per peer:  {report['rounds']:.0f} rounds, {report['exchanges']:.0f} exchanges, "
        f"{report['bytes_out_per_peer'] / 1e6:.1f} MB sent ({report['bytes_out_per_peer_and_round'] / 1e3:.0f} kB a round), "
        f"{report['rss_bytes_total'] / report['peers'] / 2**20:.1f} MiB of memory"
    )
    print(f"In all:    {report['rss_bytes_total'] / 2**20:.0f} MiB, {report['cpu_s_total']:.0f} s of CPU\n")


def _show_privacy(report: dict[str, Any]) -> None:
    privacy = report["privacy"]
    print("Privacy:   no history left its device; what was sent is clipped, noised and mixed.")
    if privacy["epsilon_spent"] is None:
        print("           This run added no noise: there is no formal guarantee.\n")
        return
    print(
        f"           {report['peers']} people are too few to hide in: at this circle's noise, {report['noise_multiplier']:g} times the\n"
        f"           clip norm, {report['contributions']:.0f} contributions amount to epsilon {privacy['epsilon_spent']:,.0f} "
        f"(delta {privacy['delta']:g}), which promises\n"
        "           nothing against somebody who sees every message. With the same noise in the model, each member of"
    )
    print("           a larger swarm would get", end="")
    swarms = [f" epsilon {swarm['epsilon']:,.3g} among {swarm['peers']:,}" for swarm in report["larger_swarms"]]
    print(",".join(swarms) + ".\n")


def _show_person(person: dict[str, Any]) -> None:
    print(
        f"Person {person['name']} ({person['interactions']} titles; rated highest: {'; '.join(person['rated_highest'][:3])})"
    )
    for rank, item in enumerate(person["recommendations"], 1):
        print(f"{rank:4}. {item['title']}  ({item['reason']})")
