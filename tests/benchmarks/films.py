"""What the benchmarks run on: MovieLens-1M's catalogue and a few of its people, or made-up ones of the same size."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.data.synthetic import synthetic_histories
from p2prec.manifest import Manifest, recommended, reference_catalogue
from p2prec.types import ItemKey

DATA_VARIABLE = "P2PREC_DATA"
DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"
"""Beside the checkout: a folder with one folder a data set, each with items.csv.gz and ratings.csv.gz."""

N_ITEMS = 3706
"""Films of MovieLens-1M that somebody rated."""
MEAN_HISTORY = 166
"""Films that a person of MovieLens-1M rated, on average."""
N_PEOPLE = 3
SEED = 0


@dataclass(frozen=True, slots=True)
class Films:
    """A catalogue, and a few people whose histories are as long as the average."""

    source: str
    is_real: bool
    catalogue: Catalogue
    people: tuple[tuple[Interaction, ...], ...]

    def manifest(self, *, noise_multiplier: float = 0.02) -> Manifest:
        """A swarm with the recommended parameters and rounds of 10 s. Noise is on, since drawing it costs time."""
        learning, privacy = recommended("implicit")
        return Manifest(
            name="bench",
            catalogue=reference_catalogue(self.catalogue.canonical_csv(), len(self.catalogue)),
            seed="00" * 32,
            learning=msgspec.structs.replace(learning, round_interval_s=10.0),
            privacy=msgspec.structs.replace(privacy, noise_multiplier=noise_multiplier),
        )


def data_folder(option: Path | None, name: str) -> Path | None:
    """The folder of a data set: below `option`, else $P2PREC_DATA, else beside the checkout; None when it is not there."""
    folder = (option or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)) / name
    return folder if (folder / "ratings.csv.gz").is_file() else None


def load_films(data: Path | None) -> Films:
    """data: the folder of data sets, or None (see `data_folder`)."""
    folder = data_folder(data, "ml-1m")
    return _synthetic() if folder is None else _movielens(folder)


def _movielens(folder: Path) -> Films:
    """The rated films with their titles, and the first people whose histories are about as long as the average."""
    histories: dict[str, list[Interaction]] = {}
    rated: set[str] = set()
    for user, item, rating, timestamp in _rows(folder / "ratings.csv.gz", "user", "item", "rating", "timestamp"):
        rated.add(item)
        value, time = float(rating) if rating else None, float(timestamp or 0)
        histories.setdefault(user, []).append(Interaction(ItemKey(item), "rating", value, time))
    titles = {key: title for key, title in _rows(folder / "items.csv.gz", "item", "title") if key in rated}
    average = (person for person in histories.values() if abs(len(person) - MEAN_HISTORY) <= MEAN_HISTORY // 20)
    people = tuple(tuple(person) for person, _ in zip(average, range(N_PEOPLE), strict=False))
    catalogue = Catalogue(tuple(ItemKey(key) for key in titles), tuple(titles.values()))
    return Films("MovieLens-1M", True, catalogue, people)


def _rows(path: Path, *columns: str) -> list[tuple[str, ...]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        at = [header.index(name) for name in columns]
        return [tuple(row[i] for i in at) for row in reader]


def _synthetic() -> Films:
    """Made-up people and titles; as many and as long as MovieLens-1M's (24 characters on average, 10 of deviation)."""
    made = synthetic_histories(20 * N_PEOPLE, N_ITEMS, SEED, mean_history=MEAN_HISTORY)
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.normal(24, 10, N_ITEMS), 8, 82).astype(np.int64)
    letters = rng.choice(np.frombuffer(b"eeeaaaooottiinnsshhrrddlumcfgypwbvk ", np.uint8), (N_ITEMS, 82))
    titles = tuple(
        f"{bytes(row[:length]).decode().title().strip()} {number}"
        for number, (row, length) in enumerate(zip(letters, lengths, strict=True))
    )
    catalogue = Catalogue(made.catalogue.keys, tuple(" ".join(title.split()) for title in titles))
    nearest = np.argsort(np.abs(np.diff(made.offsets) - MEAN_HISTORY), kind="stable")[:N_PEOPLE]
    people = tuple(
        tuple(
            Interaction(catalogue.keys[item], "rating", float(value), float(time))
            for item, value, time in zip(pairs.items, pairs.values, pairs.times, strict=True)
        )
        for pairs in (made.of(int(person)) for person in nearest)
    )
    return Films("SYNTHETIC: made-up people and titles, as many as MovieLens-1M's", False, catalogue, people)
