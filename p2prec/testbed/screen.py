"""What a person sees of the testbed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from p2prec.testbed.follow import STALE_S, Watch, fresh
from p2prec.testbed.sample import Sample

PLAIN_EVERY_S = 10.0
HEADER = ("person", "state", "found", "neighbours", "rounds", "sent", "CPU", "memory", "NDCG@10", "popularity", "AUC")


def summary(now: float, samples: Sequence[Sample], peers: int) -> str:
    """The swarm in one line."""
    current = fresh(samples, now)
    if not current:
        return f"0/{peers} peers up"
    measured = [sample.quality for sample in current if sample.quality is not None]
    quality = ""
    if measured:
        ours, theirs, auc = (
            fmean(quality[name] for quality in measured) for name in ("ndcg_at_10", "popularity_ndcg_at_10", "auc")
        )
        quality = f", NDCG@10 {ours:.3f} (popularity {theirs:.3f}), AUC {auc:.3f}"
    return (
        f"{len(current)}/{peers} peers up, each has found {fmean(s.seen for s in current):.1f} and talks to "
        f"{fmean(s.neighbours for s in current):.1f}, round {fmean(s.rounds for s in current):.0f}, "
        f"{max(s.rss_bytes for s in current) / 1e6:.1f} MB{quality}"
    )


def rows(now: float, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
    """A row of cells under `HEADER` for each peer."""
    return [_row(now, sample) for sample in samples]


def _row(now: float, sample: Sample) -> tuple[str, ...]:
    quality = sample.quality
    silent_s = now - sample.t
    return (
        sample.person,
        sample.state if silent_s <= STALE_S else f"silent for {silent_s:.0f} s",
        str(sample.seen),
        str(sample.neighbours),
        str(sample.rounds),
        f"{sample.bytes_out / 1e6:.2f} MB",
        f"{sample.cpu_s:.1f} s",
        f"{sample.rss_bytes / 1e6:.1f} MB",
        *(("", "", "") if quality is None else tuple(f"{quality[name]:.3f}" for name in _SHOWN)),
    )


_SHOWN = ("ndcg_at_10", "popularity_ndcg_at_10", "auc")


@contextmanager
def live(peers: int, *, table: bool = False) -> Iterator[Watch]:
    """Show the swarm while the block runs: redrawn on a terminal (`table`: a row for each peer), else a line now and then."""
    if not sys.stderr.isatty():
        yield _plain(peers)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def drawn(now: float, samples: Sequence[Sample]) -> Any:
        line = f"{now:4.0f} s  {summary(now, samples, peers)}"
        if not table:
            return Text(line)
        grid = Table(*HEADER, title=line, title_justify="left")
        for row in rows(now, samples):
            grid.add_row(*row)
        return grid

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as display:
        yield lambda now, samples: display.update(drawn(now, samples), refresh=True)


def _plain(peers: int) -> Callable[[float, Sequence[Sample]], None]:
    due = 0.0

    def show(now: float, samples: Sequence[Sample]) -> None:
        nonlocal due
        if now >= due:
            due = now + PLAIN_EVERY_S
            print(f"{now:4.0f} s  {summary(now, samples, peers)}", file=sys.stderr, flush=True)

    return show


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report in short."""
    run, cost, quality, discovery = report["run"], report["cost"], report["quality"], report["discovery"]
    lines = [f"{run['peers']} peers at {run['cpus']:g} cores, {run['seconds']:.0f} s", ""]
    lines.append(f"{'':12} {'NDCG@10':>8} {'hit rate@10':>12} {'AUC':>6}")
    for model in ("swarm", "popularity", "alone"):
        scores = quality[model]
        cells = [("-" if scores[m] is None else f"{scores[m]:.3f}") for m in ("ndcg_at_10", "hr_at_10", "auc")]
        lines.append(f"{model:12} {cells[0]:>8} {cells[1]:>12} {cells[2]:>6}")
    network = report["network"]
    lines += [
        "",
        f"discovery  {discovery['complete']} have found all others; after its own start a peer took "
        f"{discovery['after_own_start_s']['mean']:.1f} s ({discovery['after_own_start_s']['max']:.1f} s at most)",
        f"per peer   {cost['rounds']['mean']:.0f} rounds, {cost['exchanges']['mean']:.0f} exchanges, "
        f"{cost['bytes_out']['mean'] / 1e6:.2f} MB sent, {cost['cpu_s']['mean']:.1f} s of CPU "
        f"({100 * cost['cpu_share']['mean']:.1f} % of a core), {cost['memory_bytes']['mean'] / 1e6:.1f} MB resident "
        f"({cost['memory_bytes']['max'] / 1e6:.1f} MB at most; control group {cost['cgroup_bytes']['max'] / 1e6:.1f} MB)",
        f"network    {network['datagrams_in']['mean']:.0f} datagrams received a peer, "
        f"{network['datagrams_lost']['mean']:.1f} lost; "
        f"{network['dialled']['mean']:.1f} connections dialled ({network['dialled']['max']:.0f} at most); "
        f"longest send queue {network['queued_frames']['max']:.0f}",
        "",
    ]
    for trial in report["faults"]:
        lines.append(f"{_mark(trial['holds'])}  {trial['title']}: {trial_text(trial)}")
    return lines + [f"{_mark(check['holds'])}  {check['name']}: {check['measured']}" for check in report["checks"]]


def trial_text(trial: dict[str, Any]) -> str:
    """What became of the swarm after a fault."""
    back = "not all came back" if trial["back_after_s"] is None else f"all back after {trial['back_after_s']:.0f} s"
    if not trial["ratios"]:
        return f"{back}; quality not measured"
    ndcg, auc = (
        f"{trial['ratios'][metric]['value']:.3f} (+- {trial['ratios'][metric]['error']:.3f})"
        for metric in ("ndcg_at_10", "auc")
    )
    return f"{back}; NDCG@10 {ndcg} and AUC {auc} times those without the fault"


def _mark(holds: bool) -> str:
    return "holds" if holds else "FAILS"
