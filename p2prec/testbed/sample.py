"""What one peer said of itself at one moment, as far as the testbed's tables and plots need it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

import msgspec

from p2prec.errors import P2PRecError

METRICS = ("ndcg_at_10", "hr_at_10", "auc")
MODELS = {"swarm": "", "popularity": "popularity_", "alone": "alone_"}
"""Whose recommendations were measured, and how the status begins the names of their figures."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One status. Counters of traffic and rounds go on over restarts; those of CPU and network begin anew with the container."""

    t: float
    """Seconds since the run began."""
    host: str
    person: str
    peer_id: str
    uptime_s: float
    state: str
    seen: int
    """Other peers that it has heard of."""
    neighbours: int
    rounds: int
    exchanges: int
    bytes_in: int
    bytes_out: int
    refused: int
    """Messages that broke the protocol."""
    queued: int
    """Frames that wait for the slowest neighbour."""
    rss_bytes: int
    memory_bytes: int | None
    """Of the container's control group; None where the kernel does not tell."""
    cpu_s: float
    datagrams_in: int | None
    datagrams_lost: int | None
    dialled: int | None
    accepted: int | None
    quality: dict[str, float] | None
    """The figures of `status`, once measured."""

    @property
    def started_at(self) -> float:
        """Seconds of the run at which this life of the peer began."""
        return self.t - self.uptime_s


def sample_of(stem: str, t: float, content: bytes) -> Sample:
    """Read a status file. stem: its name, PERSON-HOST. Raises P2PRecError when a peer of another version wrote it."""
    person, _, host = stem.partition("-")
    try:
        return _sample(person, host, t, msgspec.json.decode(content))
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise P2PRecError(
            f"the status of {host} is not understood ({error}); is the image of another version?"
        ) from error


def _sample(person: str, host: str, t: float, content: dict[str, Any]) -> Sample:
    status, usage = content["status"], content["usage"]
    cgroup, network, quality = usage["cgroup"] or {}, usage["network"] or {}, status["quality"]
    return Sample(
        t=round(t, 2),
        host=host,
        person=person,
        peer_id=status["peer_id"],
        uptime_s=status["uptime_s"],
        state=status["state"],
        seen=status["peers_seen"],
        neighbours=status["neighbours"],
        rounds=status["rounds"],
        exchanges=status["exchanges"],
        bytes_in=status["bytes_in"],
        bytes_out=status["bytes_out"],
        refused=status["messages_refused"],
        queued=content["queued_frames"],
        rss_bytes=status["rss_bytes"],
        memory_bytes=cgroup.get("memory_bytes"),
        cpu_s=cgroup.get("cpu_s", usage["cpu_s"]),
        datagrams_in=network.get("datagrams_in"),
        datagrams_lost=network.get("datagrams_lost"),
        dialled=network.get("connections_dialled"),
        accepted=network.get("connections_accepted"),
        quality=None if quality["ndcg_at_10"] is None else quality,
    )


def by_host(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Each peer's samples, in order."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.host, []).append(sample)
    return found


def total(samples: Sequence[Sample], name: str) -> float | None:
    """What a counter that begins anew with the container has counted in all; None when it was never told."""
    values = [value for sample in samples if (value := getattr(sample, name)) is not None]
    if not values:
        return None
    return float(values[0]) + sum(
        float(later - earlier) if later >= earlier else float(later) for earlier, later in pairwise(values)
    )


def mean_quality(samples: Iterable[Sample]) -> dict[str, float] | None:
    """Means of the figures over those samples of one peer in which it had measured; None when there is none."""
    measured = [sample.quality for sample in samples if sample.quality is not None]
    if not measured:
        return None
    names = [f"{prefix}{metric}" for prefix in MODELS.values() for metric in METRICS]
    return {name: fmean(quality[name] for quality in measured) for name in names}
