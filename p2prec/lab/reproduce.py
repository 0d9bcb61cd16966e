"""Run declared experiments whose report is missing, or was made with other parameters than today's."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from p2prec.lab.results import Experiment, Results

State = Literal["missing", "outdated", "done"]


def state(results: Results, one: Experiment, seed: int) -> State:
    """`outdated`: what the report says about its configuration is not what would be run now, defaults included.

    Of commands other than `p2prec lab` nothing is known, so their reports count as done.
    """
    report = results.reports(one.name).get(seed)
    if report is None:
        return "missing"
    if one.method == "command":
        return "done"
    config = one.lab_config(seed)
    now = {
        **msgspec.to_builtins(config),
        "learning": msgspec.to_builtins(config.learning_parameters()),
        "privacy": msgspec.to_builtins(config.privacy_parameters()),
    }
    ran = report["config"]
    if config.backend == "auto" and ran.get("backend") in ("numpy", "numba"):
        del now["backend"]  # the same numbers to the bit
    return "done" if all(key in ran and ran[key] == value for key, value in now.items()) else "outdated"


def reproduce(results: Results, names: Sequence[str], *, again: bool, data_dir: Path | None) -> int:
    """Run them one after the other, each in a process of its own (so that its memory is its own), and say so on stderr.

    names: all where empty. again: whatever is there. Returns how many failed; one failure stops no other. An interruption
    loses what was running and nothing else. Raises UsageError for an experiment that there is not.
    """
    wanted = [results.experiment(name) for name in names or results.experiments]
    states = [(one, seed, state(results, one, seed)) for one in wanted for seed in one.seeds]
    waiting = [(one, seed, why) for one, seed, why in states if again or why != "done"]
    failed = 0
    for number, (one, seed, why) in enumerate(waiting, start=1):
        path = one.path(results.folder, seed)
        _say(f"[{number}/{len(waiting)}] {path.stem} ({why}): {one.command_text(path, seed)}")
        if not _run(results.folder, one, seed, data_dir):
            failed += 1
            _say(f"{path.stem}: failed")
    _say(f"{len(states)} reports wanted, {len(states) - len(waiting)} there already, {failed} failed")
    return failed


def _run(folder: Path, one: Experiment, seed: int, data_dir: Path | None) -> bool:
    """Whether there is a report now. It is put in place whole or not at all."""
    kept = one.path(folder, seed).absolute()
    beside = kept.with_name(f".{kept.name}.{os.getpid()}")
    line = shlex.split(one.command_text(beside, seed))
    is_lab = one.method != "command"
    if is_lab:
        line = [sys.executable, "-m", *line, *(["--data-dir", str(data_dir)] if data_dir else [])]
    try:
        # Other commands are meant for the repository's root, where the folder is; what the lab prints, the report has too.
        stdout, where = (subprocess.DEVNULL, None) if is_lab else (None, kept.parents[1])
        ended = subprocess.run(line, check=False, stdout=stdout, cwd=where)
        # A benchmark that misses a target exits with 1 as well, after it has written its figures.
        if not beside.is_file() or (is_lab and ended.returncode):
            return False
        report: dict[str, Any] = json.loads(beside.read_text("utf-8"))
        for key in one.omit:
            report.pop(key, None)
        beside.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(kept)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
