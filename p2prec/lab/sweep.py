"""Many experiments over a grid: one JSON a cell, on all cores or on a Ray cluster, going on where it was broken off."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import secrets
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2prec.errors import UsageError
from p2prec.lab.config import LabConfig, config_from
from p2prec.lab.experiment import run

MAX_CELLS = 10_000
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid."""

    config: LabConfig
    path: Path
    """Where its report is, or will be: the name follows from the configuration alone."""

    @property
    def is_done(self) -> bool:
        return self.path.is_file()


def read_sweep(path: Path, output: Path) -> list[Cell]:
    """The cells of a TOML file with a table `run` (fields of `LabConfig`) and a table `grid` (lists of values for
    further fields; `learning.NAME` and `privacy.NAME` reach into those). Raises UsageError.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    unknown = set(tables) - {"run", "grid"}
    if unknown or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"{path}: has the tables [run] and [grid] only, not {', '.join(sorted(unknown)) or 'values'}")
    grid = tables.get("grid", {})
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"{path}: grid: {name} must be a list of values", remedy=f"write {name} = [ ... ]")
    cells = [_cell(tables.get("run", {}), point, output) for point in _points(grid, path)]
    return list({cell.path: cell for cell in cells}.values())


def _points(grid: dict[str, list[Any]], path: Path) -> Iterator[dict[str, Any]]:
    n_cells = 1
    for values in grid.values():
        n_cells *= len(values)
    if n_cells > MAX_CELLS:
        raise UsageError(f"{path}: the grid has {n_cells:,} cells, more than {MAX_CELLS:,}")
    for combination in itertools.product(*grid.values()):
        yield dict(zip(grid, combination, strict=True))


def _cell(fixed: dict[str, Any], point: dict[str, Any], output: Path) -> Cell:
    fields = {name: dict(value) if isinstance(value, dict) else value for name, value in fixed.items()}
    for name, value in point.items():
        section, dot, key = name.partition(".")
        if dot:
            fields.setdefault(section, {})[key] = value
        else:
            fields[name] = value
    config = config_from(fields)
    canonical = json.dumps(msgspec.to_builtins(config), sort_keys=True).encode()
    return Cell(config, output / f"{Path(config.data).name}-{hashlib.sha256(canonical).hexdigest()[:16]}.json")


def run_cell(cell: Cell, data_dir: Path, cache: Path) -> None:
    """Run one cell and write its report, whole or not at all."""
    report = run(cell.config, data_dir, cache, lambda *_: None)
    beside = cell.path.with_name(f".{cell.path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        beside.replace(cell.path)
    finally:
        beside.unlink(missing_ok=True)


def run_cells(cells: Sequence[Cell], data_dir: Path, cache: Path, n_processes: int) -> Iterator[tuple[Cell, str]]:
    """Run those that are not done, and yield each with "" or what went wrong, as they end. One failure stops no other."""
    waiting = [cell for cell in cells if not cell.is_done]
    # One thread a process, set before a child loads numpy: cells already use all cores.
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        running = {pool.submit(run_cell, cell, data_dir, cache): cell for cell in waiting}
        for future in as_completed(running):
            error = future.exception()
            yield running[future], "" if error is None else f"{type(error).__name__}: {error}"


def run_cells_on_ray(cells: Sequence[Cell], data_dir: Path, cache: Path, address: str) -> Iterator[tuple[Cell, str]]:
    """The same on a cluster whose machines see the same data and output folders. Raises UsageError without ray."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs ray", remedy="pip install 'p2prec[ray]'") from error
    ray.init(address=address, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=1)(run_cell)
        running = {task.remote(cell, data_dir, cache): cell for cell in cells if not cell.is_done}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:
                yield cell, str(error).strip().splitlines()[-1]
            else:
                yield cell, ""
    finally:
        ray.shutdown()
