"""Limits of one kernel that carries a whole network of containers."""

from __future__ import annotations

from pathlib import Path

NEIGHBOUR_TABLE = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
ENTRIES_PER_PEER = 30
"""Link-layer addresses that one peer needs at a time: at most 24 neighbours, and some that it dials or answers."""


def neighbour_table_note(peers: int, limit_file: Path = NEIGHBOUR_TABLE) -> str | None:
    """What to do when this kernel's table of link-layer addresses, common to all containers, is too small for so many peers."""
    try:
        limit = int(limit_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # not Linux, or not told: it may be another machine that runs the containers
    needed = peers * ENTRIES_PER_PEER
    if limit >= needed:
        return None
    return (
        f"This kernel keeps {limit:,} link-layer addresses for all containers together, and {peers} peers want {needed:,}: "
        f"some may not reach each other. As root: sysctl -w net.ipv4.neigh.default.gc_thresh3={needed}"
    )
