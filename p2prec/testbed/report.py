"""From a run's samples to its report: discovery, learning, traffic, CPU and memory, of each peer and of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from p2prec.testbed.folder import Run
from p2prec.testbed.sample import METRICS, MODELS, Sample, by_host, mean_quality, total

QUALITY_WINDOW_S = 60.0
"""Over how long, at the end, quality is averaged: a single measurement of few people jitters."""
SERIES_POINTS = 120
"""Moments of a run that are kept for its plots."""

DISCOVERY_TARGET_S = 60.0
MEMORY_TARGET_BYTES = 70e6
LEARNING_TARGET_S = 600.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, what was measured, and whether it holds."""

    name: str
    measured: str
    holds: bool


def build_report(
    run: Run, history: Sequence[Sample], trials: Sequence[dict[str, Any]] = (), *, window_s: float = QUALITY_WINDOW_S
) -> dict[str, Any]:
    """The report, ready for JSON. history: all samples of the run, in order."""
    peers = by_host(history)
    rows = [_peer(run, samples, window_s) for samples in peers.values()]
    rows.sort(key=lambda row: str(row["person"]))
    last_start_s = max((samples[0].started_at for samples in peers.values()), default=0.0)
    discovery = _discovery(rows, last_start_s)
    series = _series(run, peers)
    quality = _quality(rows)
    report = {
        "run": {**_plain(run), "seconds": round(max((s.t for s in history), default=0.0), 1)},
        "peers_seen_by_testbed": len(rows),
        "discovery": discovery,
        "quality": quality,
        "learned_after_s": _learned_after_s(series),
        "cost": _cost(rows),
        "network": _network(rows),
        "series": series,
        "per_peer": rows,
        "faults": list(trials),
    }
    return {**report, "checks": [asdict(check) for check in checks(report)]}


def checks(report: dict[str, Any]) -> list[Check]:
    """What a swarm of weak devices must show."""
    n, up = report["run"]["peers"], report["peers_seen_by_testbed"]
    found_s, memory = report["discovery"]["all_found_after_s"], report["cost"]["memory_bytes"]["max"]
    quality, learned_s = report["quality"], report["learned_after_s"]
    swarm, popularity = quality["swarm"], quality["popularity"]
    found = "not all yet" if found_s is None else f"{found_s:.0f} s after the last start"
    learned = "not yet" if learned_s is None else f"{learned_s:.0f} s"
    result = [
        Check("all peers came up", f"{up} of {n}", up == n),
        Check("all found by each other within 60 s", found, found_s is not None and found_s <= DISCOVERY_TARGET_S),
        Check(
            "resident memory of each at most 70 MB", f"{memory / 1e6:.1f} MB at most", 0 < memory <= MEMORY_TARGET_BYTES
        ),
        Check(
            "AUC above popularity's, NDCG@10 at least popularity's, within 10 minutes",
            learned,
            learned_s is not None and learned_s <= LEARNING_TARGET_S,
        ),
    ]
    for name, wanted, at_least in (
        ("AUC", "auc", "above popularity's"),
        ("NDCG@10", "ndcg_at_10", "at least popularity's"),
    ):
        ours, theirs = swarm[wanted], popularity[wanted]
        holds = ours is not None and (ours > theirs if wanted == "auc" else ours >= theirs)
        result.append(Check(f"{name} {at_least}, at the end", _compared(ours, theirs), holds))
    people = [row["person"] for row in report["per_peer"]]
    result.append(Check("no two peers share a person", f"{len(set(people))} people", len(set(people)) == len(people)))
    refused, queued = report["network"]["messages_refused"]["sum"], report["network"]["queued_frames"]["max"]
    result.append(Check("no message broke the protocol", f"{refused:.0f}", refused == 0))
    result.append(Check("no send queue grew beyond its bound of 33 frames", f"{queued:.0f} at most", queued <= 33))
    return result


def _compared(ours: float | None, theirs: float | None) -> str:
    return "not measured" if ours is None or theirs is None else f"{ours:.3f}, popularity {theirs:.3f}"


def _plain(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__struct_fields__}


# --- one peer ---


def _peer(run: Run, samples: Sequence[Sample], window_s: float) -> dict[str, Any]:
    last = samples[-1]
    window = [sample for sample in samples if sample.t > last.t - window_s]
    alive_s = max(last.t - samples[0].started_at, 1e-9)
    cpu_s = total(samples, "cpu_s") or 0.0
    found_all_at = next((sample.t for sample in samples if sample.seen >= run.peers - 1), None)
    bytes_out = total(samples, "bytes_out") or 0.0
    return {
        "person": last.person,
        "host": last.host,
        "peer_id": last.peer_id,
        "state": last.state,
        "started_s": round(samples[0].started_at, 1),
        "found_all_s": None if found_all_at is None else round(found_all_at, 1),
        "seen": last.seen,
        "neighbours": last.neighbours,
        "rounds": last.rounds,
        "exchanges": last.exchanges,
        "bytes_in": total(samples, "bytes_in") or 0.0,
        "bytes_out": bytes_out,
        "bytes_out_per_round": bytes_out / max(1, last.rounds),
        "cpu_s": round(cpu_s, 2),
        "cpu_share": cpu_s / alive_s,
        "rss_bytes": max(sample.rss_bytes for sample in samples),
        "cgroup_bytes": max((s.memory_bytes for s in samples if s.memory_bytes is not None), default=None),
        "datagrams_in": total(samples, "datagrams_in"),
        "datagrams_lost": total(samples, "datagrams_lost"),
        "dialled": total(samples, "dialled"),
        "accepted": total(samples, "accepted"),
        "queued_frames": max(sample.queued for sample in samples),
        "messages_refused": last.refused,
        "quality": mean_quality(window),
    }


# --- all peers ---


def _discovery(rows: Sequence[dict[str, Any]], last_start_s: float) -> dict[str, Any]:
    complete = [row["found_all_s"] for row in rows if row["found_all_s"] is not None]
    own = [row["found_all_s"] - row["started_s"] for row in rows if row["found_all_s"] is not None]
    all_found = len(complete) == len(rows) and bool(rows)
    return {
        "last_start_s": round(last_start_s, 1),
        "complete": len(complete),
        "all_found_after_s": round(max(0.0, max(complete) - last_start_s), 1) if all_found else None,
        "after_own_start_s": _spread(own),
    }


def _quality(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measured = [row["quality"] for row in rows if row["quality"] is not None]
    means: dict[str, Any] = {"peers_measured": len(measured)}
    for model, prefix in MODELS.items():
        means[model] = {
            metric: fmean(quality[f"{prefix}{metric}"] for quality in measured) if measured else None
            for metric in METRICS
        }
    return means


def _cost(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rounds": _spread(row["rounds"] for row in rows),
        "exchanges": _spread(row["exchanges"] for row in rows),
        "neighbours": _spread(row["neighbours"] for row in rows),
        "bytes_out": _spread(row["bytes_out"] for row in rows),
        "bytes_out_per_round": _spread(row["bytes_out_per_round"] for row in rows),
        "cpu_s": _spread(row["cpu_s"] for row in rows),
        "cpu_share": _spread(row["cpu_share"] for row in rows),
        "memory_bytes": _spread(row["rss_bytes"] for row in rows),
        "cgroup_bytes": _spread(row["cgroup_bytes"] for row in rows),
    }


def _network(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("datagrams_in", "datagrams_lost", "dialled", "accepted", "queued_frames", "messages_refused")
    return {name: _spread(row[name] for row in rows) for name in names}


def _spread(values: Iterable[float | None]) -> dict[str, float]:
    known = [float(value) for value in values if value is not None]
    if not known:
        return {"mean": 0.0, "min": 0.0, "max": 0.0, "sum": 0.0}
    return {"mean": fmean(known), "min": min(known), "max": max(known), "sum": sum(known)}


# --- over time ---


def _series(run: Run, peers: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    """Means over the peers at evenly spaced moments; each peer counts with what it last said before."""
    end = max((samples[-1].t for samples in peers.values()), default=0.0)
    moments = [end * (number + 1) / SERIES_POINTS for number in range(SERIES_POINTS)] if end else []
    places = dict.fromkeys(peers, -1)
    series = []
    for moment in moments:
        for host, samples in peers.items():
            while places[host] + 1 < len(samples) and samples[places[host] + 1].t <= moment:
                places[host] += 1
        current = [peers[host][place] for host, place in places.items() if place >= 0]
        if current:
            series.append(_moment(run, moment, current))
    return series


def _moment(run: Run, moment: float, current: Sequence[Sample]) -> dict[str, Any]:
    measured = [sample.quality for sample in current if sample.quality is not None]

    def mean(of: Callable[[Sample], float]) -> float:
        return fmean(of(sample) for sample in current)

    point: dict[str, Any] = {
        "t": round(moment, 1),
        "up": len(current),
        "measured": len(measured),
        "found_share": mean(lambda s: min(1.0, s.seen / max(1, run.peers - 1))),
        "neighbours": mean(lambda s: s.neighbours),
        "rounds": mean(lambda s: s.rounds),
        "rss_bytes_max": max(sample.rss_bytes for sample in current),
        "rss_bytes_mean": mean(lambda s: s.rss_bytes),
        "cpu_s": mean(lambda s: s.cpu_s),
        "datagrams_in": mean(lambda s: s.datagrams_in or 0),
        "queued_max": max(sample.queued for sample in current),
    }
    for prefix in MODELS.values():
        for metric in METRICS:
            name = f"{prefix}{metric}"
            point[name] = fmean(quality[name] for quality in measured) if measured else None
    return point


def _learned_after_s(series: Sequence[dict[str, Any]]) -> float | None:
    """When the means first were better than popularity's, of at least as many peers as are up."""
    for point in series:
        if (
            point["measured"] == point["up"]
            and point["auc"] > point["popularity_auc"]
            and point["ndcg_at_10"] >= point["popularity_ndcg_at_10"]
        ):
            return float(point["t"])
    return None
