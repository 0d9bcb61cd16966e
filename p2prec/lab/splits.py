"""Dividing everybody's histories into what is learned from and what is measured on: the same for every method.

All splits are functions of the data and a seed. A row is in the training part, in the test part, or (in a published split
that says so) in neither; never in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2prec.data.delimited import BadRow
from p2prec.data.histories import Histories
from p2prec.data.readers import read_interactions
from p2prec.errors import DataError
from p2prec.lab.dataset import person_of_row, take_people, take_rows
from p2prec.types import BoolArray, IndexArray, ItemKey

KINDS = ("last", "random", "random-one")
TEST_FRACTION = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class LabSplit:
    """Two parts of the same people's histories, with the same catalogue and order of people."""

    train: Histories
    test: Histories
    left_out: int
    """People of the data set whose history could not be split (a single interaction, no times)."""

    @property
    def n_peers(self) -> int:
        return len(self.train)


def split(histories: Histories, kind: str, rng: np.random.Generator) -> LabSplit:
    """Divide by rule, or as a published split's file says.

    kind: `last` (leave-last-out: each person's latest interaction is the test; equal times are decided by lot),
    `random` (80/20 over all rows), `random-one` (one random interaction of each person), or the path of a test file;
    `X.test` and `X.base` (CSV, gzip or not) are taken as a pair. Raises DataError.
    """
    if kind == "last":
        return _one_each(histories, _has_times(histories), histories.times, rng)
    if kind == "random-one":
        return _one_each(histories, np.ones(len(histories), np.bool_), np.zeros(len(histories.items)), rng)
    if kind == "random":
        test = np.zeros(len(histories.items), np.bool_)
        test[rng.permutation(len(test))[: round(TEST_FRACTION * len(test))]] = True
        return _checked(LabSplit(take_rows(histories, ~test), take_rows(histories, test), 0))
    path = Path(kind)
    if path.is_file():
        return _from_files(histories, path)
    raise DataError(f"--split {kind}: no such file, and not one of {', '.join(KINDS)}")


def split_people(histories: Histories, kind: str) -> IndexArray:
    """(n,) indices of the people whose histories a split of this kind can divide."""
    lengths = np.diff(histories.offsets)
    if kind not in ("last", "random-one"):
        return np.flatnonzero(lengths > 0)
    fits = lengths >= 2
    return np.flatnonzero(fits & _has_times(histories) if kind == "last" else fits)


def _has_times(histories: Histories) -> BoolArray:
    """Whether a person's rows have known times: leave-last-out means nothing without them."""
    known: BoolArray = np.bincount(person_of_row(histories), histories.times, minlength=len(histories)) > 0
    return known


def _one_each(histories: Histories, eligible: BoolArray, key: np.ndarray, rng: np.random.Generator) -> LabSplit:
    """The row with the largest key of each eligible person with two rows or more is the test part."""
    people = np.flatnonzero(eligible & (np.diff(histories.offsets) >= 2))
    # A row's lot is drawn by its place in the data set, whoever else is eligible.
    order = np.lexsort((rng.random(len(histories.items)), key, person_of_row(histories)))
    test = np.zeros(len(histories.items), np.bool_)
    test[order[histories.offsets[people + 1] - 1]] = True
    train, held = (take_people(take_rows(histories, rows), people) for rows in (~test, test))
    return _checked(LabSplit(train, held, len(histories) - len(people)))


def _from_files(histories: Histories, path: Path) -> LabSplit:
    test = _mark(histories, path)
    base = _partner(path)
    train = ~test if base is None else _mark(histories, base)
    if (train & test).any():
        raise DataError(f"{path} and {base} share {int((train & test).sum())} rows: they are no split")
    people = np.flatnonzero(np.bincount(person_of_row(histories)[train | test], minlength=len(histories)) > 0)
    learned, held = (take_people(take_rows(histories, rows), people) for rows in (train, test))
    return _checked(LabSplit(learned, held, len(histories) - len(people)))


def _partner(path: Path) -> Path | None:
    """`u1.base.csv.gz` for `u1.test.csv.gz`, where it exists."""
    if ".test" not in path.name:
        return None
    base = path.with_name(path.name.replace(".test", ".base"))
    return base if base.is_file() else None


def _mark(histories: Histories, path: Path) -> BoolArray:
    """Which rows of the data set a file lists. Raises DataError for rows that the data set does not have."""
    number = {user: index for index, user in enumerate(histories.users)}
    marked = np.zeros(len(histories.items), np.bool_)
    for line, user, item in _listed(path):
        person = number.get(user)
        if person is None or item not in histories.catalogue:
            raise DataError(f"{path}: line {line}: user {user!r} or item {item!r} is not in the data set")
        start, end = histories.offsets[person : person + 2]
        row = start + np.searchsorted(histories.items[start:end], histories.catalogue.index_of(item))
        if row == end or histories.items[row] != histories.catalogue.index_of(item):
            raise DataError(f"{path}: line {line}: the data set has no interaction of {user!r} with {item!r}")
        marked[row] = True
    return marked


def _listed(path: Path) -> Iterator[tuple[int, str, ItemKey]]:
    for row in read_interactions(path):
        if isinstance(row, BadRow):
            raise DataError(f"{path}: line {row.line}: {row.reason}")
        if row.user is None:
            raise DataError(f"{path}: line {row.line}: names no user")
        yield row.line, row.user, row.interaction.item


def _checked(parts: LabSplit) -> LabSplit:
    if len(parts.train.items) == 0 or len(parts.test.items) == 0:
        raise DataError(
            "the split leaves nothing to learn from or nothing to measure on",
            remedy="leave-last-out needs times and two interactions a person; try --split random",
        )
    return parts
