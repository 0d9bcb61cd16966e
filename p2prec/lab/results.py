"""What was promised and what was measured: experiments declared in a TOML file, their reports as JSON files beside it, and the
figures in those.

A figure is named by a path into a report, `per_round[round=60].rmse`: keys with dots between them, and in brackets which entry
of a list (the one with that value). `NAME:path` is a figure of another experiment. Figures and numbers can be multiplied and
divided, from left to right, with spaces around the sign: `swarm.rmse / central.rmse`.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import statistics
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from p2prec.errors import DataError, UsageError
from p2prec.lab.config import LabConfig, config_from

EXPERIMENTS = "experiments.toml"
SHARE_OF_FINAL = 0.99
"""Of its final quality, at which a swarm has learned as good as all."""
Report = dict[str, Any]
Value = float | str

_NAME = r"[a-z0-9-]+"
_SEGMENT = re.compile(r"(?P<key>\w+)(?:\[(?P<field>\w+)=(?P<value>[^\]]+)\])?(?:\.(?=\w)|$)")
_OTHER = re.compile(rf"(?P<name>{_NAME}):(?P<path>\S.*)")


class Target(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure that was promised: `at_least`, `at_most`, or both bounds."""

    claim: str
    figure: str
    """What is measured (see above), of this experiment unless it says another's."""
    at_least: float | None = None
    at_most: float | None = None
    shown: str = ".4f"
    """How the figure is written, in Python's format language."""

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a target needs at_least or at_most")

    @property
    def bounds(self) -> str:
        """For people: `at least 5,000`."""
        known = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:,.12g}" for word, bound in known if bound is not None)

    def verdict(self, measured: float | None) -> str:
        if measured is None:
            return "not measured"
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return "pass" if low <= measured <= high else "**missed**"


class Experiment(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One command, and the report that it leaves for each seed."""

    name: Annotated[str, Meta(pattern=f"^{_NAME}$")]
    title: str = ""
    """Its heading."""
    about: str = ""
    """A sentence or two on what it shows."""
    method: Literal["run", "compare", "command"] = "run"
    """`p2prec lab run`, `p2prec lab compare`, or another command that writes figures."""
    config: dict[str, Any] = {}
    """Fields of `LabConfig`, for `run` and `compare`."""
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)] = (0,)
    command: str = ""
    """For `command`: what writes the report; `{json}` in it stands for where, `{seed}` for the seed."""
    omit: list[str] = []
    """Keys of the report that are left out of the kept file: no figures, or not ours to publish."""
    yardstick: str = ""
    """The experiment whose final quality `sent_bytes_until_99_percent` refers to. Empty: this one."""
    target: list[Target] = []

    def path(self, folder: Path, seed: int) -> Path:
        return folder / (f"{self.name}.json" if len(self.seeds) == 1 else f"{self.name}.seed{seed}.json")

    def lab_config(self, seed: int) -> LabConfig:
        """Raises UsageError."""
        return config_from({**self.config, "seed": seed})

    def command_text(self, path: Path, seed: int) -> str:
        """What writes the report of one seed to `path`, as typed into a shell. Raises UsageError."""
        if self.method == "command":
            return self.command.replace("{json}", str(path)).replace("{seed}", str(seed))
        words = ["p2prec", "lab", self.method, *_options(self.lab_config(seed)), "--json", str(path)]
        return shlex.join(words)


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    experiment: list[Experiment]


def read_experiments(folder: Path) -> dict[str, Experiment]:
    """By name, in the order of the file. Raises UsageError that says what is wrong in it."""
    path = folder / EXPERIMENTS
    try:
        known = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).experiment
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error
    experiments = {one.name: one for one in known}
    if len(experiments) < len(known):
        raise UsageError(f"{path}: two experiments have the same name")
    for one in known:
        if (one.method == "command") != bool(one.command) or (one.method == "command") == bool(one.config):
            raise UsageError(f"{path}: {one.name}: a command for the method `command`, a config for the others")
        if one.yardstick and one.yardstick not in experiments:
            raise UsageError(f"{path}: {one.name}: no experiment {one.yardstick} to measure by")
    return experiments


class Results:
    """The reports that are there, and figures out of them."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for a declaration that is wrong."""
        self.folder = folder
        self.experiments = read_experiments(folder)
        self.reports = cache(self._reports)
        """Of an experiment's name: seed -> report, for the seeds that have been run."""

    def experiment(self, name: str) -> Experiment:
        """Raises UsageError."""
        if name not in self.experiments:
            raise UsageError(f"no experiment {name}", remedy=f"there are: {', '.join(self.experiments)}")
        return self.experiments[name]

    def value(self, expression: str, name: str = "") -> Value | None:
        """A figure, or what several figures come to; the mean over the seeds that have been run. None: not measured.

        name: the experiment whose figures are meant where no name is given. Raises DataError for a path that a report does
        not have, UsageError for an experiment that there is not.
        """
        if not name:
            return self._reckoned(expression, None, name)
        values = self.values(expression, name)
        numbers = [value for value in values if not isinstance(value, str)]
        if len(numbers) < len(values):
            return values[0]
        return statistics.fmean(numbers) if numbers else None

    def values(self, expression: str, name: str) -> list[Value]:
        """The same for each seed; of other experiments that it refers to, the mean."""
        values = (self._reckoned(expression, report, name) for report in self.reports(name).values())
        return [value for value in values if value is not None]

    def _reports(self, name: str) -> dict[int, Report]:
        one = self.experiment(name)
        paths = {seed: one.path(self.folder, seed) for seed in one.seeds}
        return {seed: _read(path) for seed, path in paths.items() if path.is_file()}

    def _reckoned(self, expression: str, report: Report | None, name: str) -> Value | None:
        first, *rest = (part.strip() for part in re.split(r"\s([*/])\s", expression))
        value = self._term(first, report, name)
        for sign, term in zip(rest[::2], rest[1::2], strict=True):
            other = self._term(term, report, name)
            if value is None or other is None:
                return None
            if isinstance(value, str) or isinstance(other, str):
                raise DataError(f"{expression}: text cannot be reckoned with")
            value = value * other if sign == "*" else value / other
        return value

    def _term(self, text: str, report: Report | None, name: str) -> Value | None:
        try:
            return float(text)
        except ValueError:
            pass
        if other := _OTHER.fullmatch(text):
            return self.value(other["path"], other["name"])
        if report is None:
            raise DataError(f"{text}: of which experiment? Write NAME:{text}")
        if text == "sent_bytes_until_99_percent":
            return self._sent_until(report, name)
        return _figure(report, text, name)

    def _sent_until(self, report: Report, name: str) -> float | None:
        """What a peer had sent when the swarm first had 99% of the yardstick's final quality; infinite if it never had."""
        yardstick = self.reports(self.experiments[name].yardstick or name)
        seed = next(seed for seed, other in self.reports(name).items() if other is report)
        # Seeds differ in what is asked, too: the same one's, where it has been run.
        finals = [quality(other["swarm"]) for other in ([yardstick[seed]] if seed in yardstick else yardstick.values())]
        if not finals:
            return None
        enough = SHARE_OF_FINAL * statistics.fmean(finals)
        sent = (moment["sent_bytes_per_peer"] for moment in report["per_round"] if quality(moment) >= enough)
        return float(next(sent, math.inf))


def _read(path: Path) -> Report:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}", remedy="delete it and run the experiment again") from error
    if not isinstance(report, dict):
        raise DataError(f"{path}: no report")
    return report


def _figure(report: Report, path: str, name: str) -> Value:
    value: Any = report
    for key, field, wanted in _segments(path):
        try:
            value = value[key]
            if field:
                value = next(entry for entry in value if str(entry[field]) == wanted)
        except (KeyError, TypeError, StopIteration) as error:
            raise DataError(f"{name}: the report has no figure {path}") from error
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DataError(f"{name}: {path} is no figure")
    return value if isinstance(value, str) else float(value)


def quality(figures: dict[str, Any]) -> float:
    """One number of which more is better, and 99% means something: NDCG@10, or 1 / RMSE.

    Among sampled negatives: by full ranking, a thousand people's NDCG@10 goes up and down by more than 1% from round to round.
    """
    return float(figures["sampled"]["ndcg_at_10"]) if "sampled" in figures else 1 / float(figures["rmse"])


def _segments(path: str) -> Iterator[tuple[str, str | None, str | None]]:
    at = 0
    while at < len(path):
        segment = _SEGMENT.match(path, at)
        if segment is None:
            raise DataError(f"{path}: not of the form key.key[field=value].key")
        yield segment["key"], segment["field"], segment["value"]
        at = segment.end()


def _options(config: LabConfig) -> list[str]:
    """The command line options of a configuration: what differs from the defaults, and the seed."""
    words: list[str] = []
    for field in msgspec.structs.fields(config):
        value = getattr(config, field.name)
        if field.name in ("learning", "privacy"):
            for key, setting in value.items():
                text = setting if isinstance(setting, str) else json.dumps(setting)
                words += ["--set", f"{field.name}.{key}={text}"]
        elif field.name == "seed" or value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return words
