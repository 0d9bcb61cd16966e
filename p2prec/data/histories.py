"""Many people's histories at once, as arrays: what the demo hands out to its peers and the lab experiments on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2prec.data.catalogue import CATALOGUE_FILES, Catalogue, read_catalogue
from p2prec.data.delimited import BadRow
from p2prec.data.files import find_file
from p2prec.data.interactions import TrainingPairs
from p2prec.data.readers import interactions_file, read_interactions
from p2prec.data.split import random_fifth
from p2prec.errors import DataError
from p2prec.types import BoolArray, DoubleArray, FloatArray, IndexArray, ItemKey


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """The interactions of several people with one catalogue, one row per person and item, ordered by person, then by
    item."""

    catalogue: Catalogue
    users: tuple[str, ...]
    """Names as the data set has them."""
    offsets: IndexArray
    """(n_users + 1,) int64: person u has the rows offsets[u] to offsets[u + 1]."""
    items: IndexArray
    """(n_rows,) int64 catalogue rows, increasing within a person."""
    values: FloatArray
    """(n_rows,) float32: the latest rating; 1 where the data has no ratings."""
    times: DoubleArray
    """(n_rows,) float64, seconds since 1970; 0 where unknown."""

    def __len__(self) -> int:
        return len(self.users)

    def of(self, user: int) -> TrainingPairs:
        """The rows of one person (index into `users`)."""
        rows = slice(int(self.offsets[user]), int(self.offsets[user + 1]))
        return TrainingPairs(self.items[rows], self.values[rows], self.times[rows])

    def counts(self) -> IndexArray:
        """(n_items,) int64: how many people touched each item."""
        return np.bincount(self.items, minlength=len(self.catalogue)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One person's interactions, divided."""

    train: TrainingPairs
    test: TrainingPairs


def split_person(history: TrainingPairs, rng: np.random.Generator, fraction: float = 0.2) -> Split:
    """Set a random fifth (or another fraction) aside. Raises ValueError for fewer than two interactions."""
    test = random_fifth(len(history), rng, fraction)
    return Split(history.where(~test), history.where(test))


def group_histories(
    catalogue: Catalogue,
    users: Sequence[str],
    items: Sequence[ItemKey],
    values: Sequence[float] | FloatArray,
    times: Sequence[float] | DoubleArray,
) -> Histories:
    """Arrange rows of any order; of several rows with one person and item the latest counts. Items must be in the
    catalogue."""
    names, user_index = np.unique(np.asarray(users, dtype=np.str_), return_inverse=True)
    item_index = np.fromiter((catalogue.index_of(key) for key in items), dtype=np.int64, count=len(items))
    time = np.asarray(times, dtype=np.float64)
    order = np.lexsort((time, item_index, user_index))
    user_index, item_index = user_index[order].astype(np.int64), item_index[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (user_index[1:] != user_index[:-1]) | (item_index[1:] != item_index[:-1])
    return Histories(
        catalogue=catalogue,
        users=tuple(str(name) for name in names),
        offsets=np.searchsorted(user_index[last], np.arange(len(names) + 1)).astype(np.int64),
        items=item_index[last],
        values=np.asarray(values, dtype=np.float32)[order][last],
        times=time[order][last],
    )


def read_histories(path: Path) -> Histories:
    """A whole data set: a folder with a catalogue and an interactions file (MovieLens' layouts, or items.csv and
    ratings.csv, gzip or not), or interactions alone (a folder or a file), whose item keys then serve as titles.

    Bad rows and rows of unknown items are left out. Raises DataError when nothing is left or the rows name no user.
    """
    has_catalogue = path.is_dir() and find_file(path, CATALOGUE_FILES) is not None
    catalogue = read_catalogue(path).catalogue if has_catalogue else None
    users: list[str] = []
    items: list[ItemKey] = []
    values: list[float] = []
    times: list[float] = []
    for row in read_interactions(path):
        if isinstance(row, BadRow) or row.user is None or (catalogue and row.interaction.item not in catalogue):
            continue
        users.append(row.user)
        items.append(row.interaction.item)
        values.append(1.0 if row.interaction.value is None else row.interaction.value)
        times.append(row.interaction.time)
    if not users:
        raise DataError(f"{interactions_file(path)}: no usable row that names a user and an item")
    if catalogue is None:
        keys = tuple(sorted(set(items)))
        catalogue = Catalogue(keys, tuple(str(key) for key in keys))
    return group_histories(catalogue, users, items, values, times)


def choose_people(
    histories: Histories, n_people: int, *, n_titles: int = 1000, seed: int = 0, min_history: int = 20
) -> Histories:
    """Some people, drawn at random, and the most popular titles: a data set of the size that is wanted.

    n_titles: the titles that most of all people touched, in the catalogue's order; fewer if there are no more.
    min_history: only people with at least so many interactions with those titles are drawn.
    Raises DataError when there are too few such people.
    """
    counts = histories.counts()
    # Most popular first, then the catalogue's order among equals: the same choice on every machine.
    titles = np.sort(np.argsort(-counts, kind="stable")[: min(n_titles, int((counts > 0).sum()))])
    kept: BoolArray = np.isin(histories.items, titles)
    user_of_row = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    lengths = np.bincount(user_of_row[kept], minlength=len(histories))
    eligible = np.flatnonzero(lengths >= min_history)
    if len(eligible) < n_people:
        raise DataError(
            f"only {len(eligible)} people of the data set have {min_history} or more interactions with its "
            f"{len(titles)} most popular titles; {n_people} are wanted",
            remedy="ask for fewer peers, or give a larger data set with --data",
        )
    chosen = np.sort(np.random.default_rng(seed).choice(eligible, size=n_people, replace=False))
    return _restricted(histories, chosen, titles, kept & np.isin(user_of_row, chosen), lengths[chosen])


def _restricted(
    histories: Histories, people: IndexArray, titles: IndexArray, rows: BoolArray, lengths: IndexArray
) -> Histories:
    catalogue = Catalogue(
        tuple(histories.catalogue.keys[row] for row in titles), tuple(histories.catalogue.titles[row] for row in titles)
    )
    return Histories(
        catalogue=catalogue,
        users=tuple(histories.users[user] for user in people),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=np.searchsorted(titles, histories.items[rows]).astype(np.int64),
        values=histories.values[rows],
        times=histories.times[rows],
    )
