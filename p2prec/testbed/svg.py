"""Line charts as SVG text, for a page that is one file and asks for nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 34
COLOURS = ("#1b6ca8", "#c2571a", "#6b7280", "#2f855a")
N_TICKS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One line: points with y None are gaps."""

    label: str
    points: Sequence[tuple[float, float | None]]


def line_chart(title: str, unit: str, lines: Sequence[Line], *, zero: bool = True) -> str:
    """An <svg> element. unit: of y; x is seconds. zero: the y axis begins at 0."""
    values = [y for line in lines for _, y in line.points if y is not None and math.isfinite(y)]
    end = max((x for line in lines for x, _ in line.points), default=1.0) or 1.0
    ticks = _ticks(0.0 if zero else min(values, default=0.0), max(values, default=1.0))
    low, high = ticks[0], ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / end
        down = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)
        return round(across, 1), round(down, 1)

    parts = [f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>']
    for tick in ticks:
        _, y = at(0, tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" class="tick" text-anchor="end">{tick:.4g}</text>')
    for x in (0.0, end / 2, end):
        across, _ = at(x, low)
        parts.append(
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" class="tick" text-anchor="middle">{x:.0f} s</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{TOP - 2}" class="tick">{escape(unit)}</text>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        for run in _runs(line.points):
            path = " ".join(f"{across},{down}" for across, down in (at(x, y) for x, y in run))
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(
            f'<text x="{LEFT + 100 * number}" y="{HEIGHT - 4}" class="tick" fill="{colour}">{escape(line.label)}</text>'
        )
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The stretches between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is not None and math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    span = max(high - low, abs(high) * 1e-6, 1e-9)
    step = 10.0 ** math.floor(math.log10(span / N_TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * N_TICKS >= span)
    first = math.floor(low / step)
    return [step * number for number in range(first, max(first + 1, math.ceil(high / step - 1e-9)) + 1)]
