"""This machine's memory: what the lab takes of it, and whether something large fits. That is asked before it begins, since the
system ends a process that takes too much, and says nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from p2prec.errors import UsageError

_LIMITS = Path("/sys/fs/cgroup")
"""Of a container (control groups, version 2)."""
_MEMORY = Path("/proc/meminfo")


def require(needed_bytes: float, what: str, remedy: str) -> None:
    """Raises UsageError, with this remedy, if `what` (in the plural) need more than there is."""
    free = free_bytes()
    if needed_bytes > free:
        raise UsageError(
            f"{what} need {_gigabytes(needed_bytes)} of memory; {_gigabytes(free)} are free", remedy=remedy
        )


def rss_bytes() -> int:
    """What this process has resident now; 0 where the system does not tell."""
    return 1024 * _of_process("self", "VmRSS:")


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident, and what its child processes hold now, but for what all share."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = sum(_of_process(child.pid, "RssAnon:") for child in multiprocessing.active_children())
    return peak if sys.platform == "darwin" else (peak + children) * 1024


def free_bytes(limits: Path = _LIMITS, memory: Path = _MEMORY) -> float:
    """What can be taken without moving anything to disk, in bytes; infinity where that is not known."""
    free: list[float] = [_in_machine(memory)]
    limit, used = (_number(limits / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        free.append(limit - used + (_of_statistics(limits / "memory.stat", "inactive_file") or 0))
    return min(free)


def _in_machine(memory: Path) -> float:
    available = _of_statistics(memory, "MemAvailable:")
    if available is not None:
        return available * 1024
    try:  # macOS tells only how much there is in all
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _of_process(process: int | str | None, name: str) -> int:
    """Kilobytes; 0 where the system does not tell."""
    return _of_statistics(Path(f"/proc/{process}/status"), name) or 0


def _of_statistics(path: Path, name: str) -> int | None:
    """The number behind a name in a file of such lines; None without one."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError):
        return None
    return next((int(line[1]) for line in lines if len(line) > 1 and line[0] == name), None)


def _number(path: Path) -> float | None:
    """The number in a file; None if there is none, or it says that there is no limit."""
    try:
        return float(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
