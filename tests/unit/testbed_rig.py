"""A made-up run of the testbed: what its peers would have written, without containers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from p2prec.testbed.folder import Run, RunFolder
from p2prec.testbed.sample import METRICS, MODELS, Sample

RUN = Run(peers=3, cpus=0.1, round_interval_s=2.0, began_at=1000.0, ready_s=5.0, engine="Docker 1")
QUALITY = {f"{prefix}{metric}": 0.5 for prefix in MODELS.values() for metric in METRICS} | {
    "popularity_ndcg_at_10": 0.4,
    "popularity_auc": 0.4,
}


def sample(host: str, t: float, **changes: Any) -> Sample:
    """What a well peer says."""
    fields: dict[str, Any] = {
        "t": t,
        "host": host,
        "person": f"person-of-{host}",
        "peer_id": f"id-of-{host}",
        "uptime_s": t,
        "state": "running",
        "seen": 2,
        "neighbours": 2,
        "rounds": int(t / 2),
        "exchanges": int(t),
        "bytes_in": int(1000 * t),
        "bytes_out": int(1000 * t),
        "refused": 0,
        "queued": 1,
        "rss_bytes": 66_000_000,
        "memory_bytes": 34_000_000,
        "cpu_s": t / 100,
        "datagrams_in": int(t),
        "datagrams_lost": 0,
        "dialled": 2,
        "accepted": 1,
        "quality": QUALITY,
    }
    return Sample(**(fields | changes))


def well(seconds: int = 100, every_s: int = 10, hosts: str = "abc", **changes: Any) -> list[Sample]:
    """A run in which nothing happens."""
    return [sample(host, float(t), **changes) for t in range(every_s, seconds + 1, every_s) for host in hosts]


def status_content(**status: Any) -> dict[str, Any]:
    """A status file's content, as `p2prec.api.status_file` writes it."""
    return {
        "written_at": 0.0,
        "status": {
            "peer_id": "12D3KooWx",
            "uptime_s": 3.0,
            "state": "running",
            "peers_seen": 2,
            "neighbours": 2,
            "rounds": 4,
            "exchanges": 5,
            "bytes_in": 6,
            "bytes_out": 7,
            "messages_refused": 0,
            "rss_bytes": 60_000_000,
            "quality": QUALITY,
            **status,
        },
        "usage": {"cpu_s": 1.5, "cgroup": None, "network": None},
        "queued_frames": 0,
    }


def write_status(folder: RunFolder, stem: str, written_at: float, content: dict[str, Any] | None = None) -> Path:
    """As a peer does. written_at: seconds since 1970, by this machine's clock."""
    path = folder.status / f"{stem}.json"
    path.write_text(json.dumps(content or status_content()))
    os.utime(path, (written_at, written_at))
    return path
