"""What is known about the people of a data set besides what they did: MovieLens' gender and age, for attacks on them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2prec.errors import DataError
from p2prec.types import BoolArray

YOUNG = 30
MAX_ROWS = 1_000_000


def attributes(data: str, data_dir: Path, users: Sequence[str]) -> dict[str, BoolArray]:
    """`female` and `young` (below YOUNG) of each user, from the `users.csv[.gz]` beside the ratings; empty where there is
    none, or where it does not know everybody. Raises DataError when the file cannot be read.
    """
    for folder in (Path(data), data_dir / data):
        for path in (folder / "users.csv.gz", folder / "users.csv"):
            if path.is_file():
                return _read(path, users)
    return {}


def _read(path: Path, users: Sequence[str]) -> dict[str, BoolArray]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            rows = {row["user"]: row for row, _ in zip(csv.DictReader(file), range(MAX_ROWS), strict=False)}
        chosen = [rows[user] for user in users]
        found = {}
        if all("gender" in row for row in chosen):
            found["gender"] = np.array([row["gender"] == "F" for row in chosen])
        if all("age" in row for row in chosen):
            found["age"] = np.array([float(row["age"]) < YOUNG for row in chosen])
    except KeyError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    return found
