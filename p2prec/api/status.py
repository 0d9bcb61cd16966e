"""What a status is made of: one description for the running daemon and for the stopped store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from p2prec.manifest import Manifest

REFUSED_PREFIX = "refused."
"""Counter of refused messages by reason: `refused.forged`."""
QUALITY_META = "quality"
"""The last quality measurement, as the JSON object of `status`."""
NO_QUALITY: Mapping[str, float | None] = {
    **{
        f"{model}{metric}": None
        for model in ("", "popularity_", "alone_")
        for metric in ("ndcg_at_10", "hr_at_10", "auc")
    },
    "held_out": 0,
}
"""The quality of a peer that could not measure it yet: the swarm's model, the most popular items, learning alone."""


def status_fields(
    *,
    peer_id: str,
    manifest: Manifest,
    state: str,
    interactions: int,
    contributions: int,
    epsilon_spent: float,
    uptime_s: float = 0.0,
    listen: str = "",
    transport: str = "",
    neighbours: int = 0,
    peers_seen: int = 0,
    rounds: int = 0,
    exchanges: int = 0,
    age_rounds: float = 0.0,
    bytes_in: int = 0,
    bytes_out: int = 0,
    refused_by_reason: Mapping[str, int] | None = None,
    connections_refused: int = 0,
    quality: Mapping[str, float | None] = NO_QUALITY,
    rss_bytes: int = 0,
    warnings: Sequence[str] = (),
    promise: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The result of `status`, of a running daemon and of a stopped store alike, ready for JSON.

    state: "running" (with neighbours), "searching" (running, with none), "conflict" (the same identity runs elsewhere),
    "starting" (a daemon holds the state directory but does not answer) or "stopped". An infinite `epsilon_spent` (no noise)
    becomes None. promise: by `p2prec.api.promise`; None where the swarm makes none.
    """
    budget = manifest.privacy.epsilon_budget if manifest.promise is None else manifest.promise.epsilon
    refused = {reason: count for reason, count in sorted((refused_by_reason or {}).items()) if count}
    return {
        "peer_id": peer_id,
        "swarm": manifest.name,
        "swarm_id": manifest.swarm_id.hex(),
        "state": state,
        "uptime_s": round(uptime_s, 1),
        "listen": listen,
        "transport": transport,
        "neighbours": neighbours,
        "peers_seen": peers_seen,
        "rounds": rounds,
        "exchanges": exchanges,
        "age_rounds": age_rounds,
        "contributions": contributions,
        "interactions": interactions,
        "items": manifest.catalogue.n_items,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "messages_refused": sum(refused.values()),
        "refused_by_reason": refused,
        "connections_refused": connections_refused,
        "privacy": {
            "epsilon_spent": epsilon_spent if math.isfinite(epsilon_spent) else None,
            "epsilon_budget": budget,
            "delta": manifest.privacy.delta if manifest.promise is None else manifest.promise.delta,
        },
        "promise": None if promise is None else dict(promise),
        "quality": {**NO_QUALITY, **quality},
        "rss_bytes": rss_bytes,
        "warnings": list(warnings),
    }


def peer_fields(
    *,
    peer_id: str,
    host: str,
    port: int,
    state: str,
    direction: str = "",
    last_seen_s: float | None = None,
    exchanges: int = 0,
    bytes_in: int = 0,
    bytes_out: int = 0,
) -> dict[str, Any]:
    """One entry of the result `{"peers": [...]}` of `peers`.

    state: "connected", "connecting", "known", or "other transport" (it cannot be met; peer_id is empty when only its address is
    known); direction: "in" or "out" (who dialled), empty when not connected;
    last_seen_s: seconds since it was last heard, None for never.
    """
    return {
        "peer_id": peer_id,
        "host": host,
        "port": port,
        "state": state,
        "direction": direction,
        "last_seen_s": None if last_seen_s is None else round(max(0.0, last_seen_s), 1),
        "exchanges": exchanges,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
    }
