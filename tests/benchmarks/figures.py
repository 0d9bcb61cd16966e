"""A measured figure, its target, and the table of many."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a report."""

    name: str
    value: float
    unit: str
    target: float | None = None
    """The value must not be larger. None: nothing was promised."""
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "pass" if self.value <= self.target else "MISSED"


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown CPU"
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a table."""
    print(title)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        target = "" if figure.target is None else f"at most {figure.target:g} {figure.unit}"
        line = f"  {figure.name:<{width}}  {figure.value:>10,.4g} {figure.unit:<5} {target:<16} {figure.verdict:<6} {figure.note}"
        print(line.rstrip())


def write_json(path: Path, data: str, figures: Sequence[Figure]) -> None:
    report = {
        "machine": machine(),
        "data": data,
        "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in figures],
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
