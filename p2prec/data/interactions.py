"""What a person did with an item, and what of it a peer trains on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from p2prec.data.catalogue import MAX_KEY_CHARS, Catalogue
from p2prec.types import DoubleArray, FloatArray, IndexArray, ItemKey

RATING = "rating"
"""The event whose value is an explicit rating."""
MAX_EVENT_CHARS = 32
MAX_RATING = 1e6
MAX_TIME = 253_402_300_800.0
"""The end of the year 9999, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """One thing that the device's owner did. Private: it never leaves the device."""

    item: ItemKey
    event: str
    """What was done: "rating", or a word of the application's ("play", "click", "purchase")."""
    value: float | None
    """The rating for "rating"; for other events a quantity, if there is one."""
    time: float
    """Seconds since 1970, UTC."""


def interaction_problem(interaction: Interaction) -> str | None:
    """Why an interaction may not be stored, or None."""
    if not interaction.item or len(interaction.item) > MAX_KEY_CHARS:
        return f"an item key has 1 to {MAX_KEY_CHARS} characters"
    if not 1 <= len(interaction.event) <= MAX_EVENT_CHARS or not interaction.event.isprintable():
        return f"an event has 1 to {MAX_EVENT_CHARS} printable characters"
    if interaction.event == RATING and interaction.value is None:
        return "a rating needs a value"
    if interaction.value is not None and not abs(interaction.value) <= MAX_RATING:
        return f"value {interaction.value} is not a number within +-{MAX_RATING:g}"
    if not (math.isfinite(interaction.time) and 0 <= interaction.time < MAX_TIME):
        return f"time {interaction.time} is not in the years 1970 to 9999"
    return None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPairs:
    """One row per item that the peer touched, in catalogue order."""

    items: IndexArray
    """(n,) int64, strictly increasing model rows."""
    values: FloatArray
    """(n,) float32: the latest rating (explicit), or 1 (implicit)."""
    times: DoubleArray
    """(n,) float64: the latest interaction with the item, seconds since 1970."""

    def __len__(self) -> int:
        return len(self.items)

    def where(self, keep: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> TrainingPairs:
        """The rows that `keep` (n,) marks."""
        return TrainingPairs(self.items[keep], self.values[keep], self.times[keep])


def training_pairs(
    interactions: Iterable[Interaction], catalogue: Catalogue, objective: Literal["implicit", "explicit"]
) -> TrainingPairs:
    """Reduce a history to one row per item of the catalogue; items outside it are left out (they wait for a swarm
    with them).

    explicit: the latest rating of each item counts (at equal times the one that comes last); other events do not.
    implicit: any event counts, as 1.
    """
    latest: dict[int, tuple[float, float]] = {}
    for interaction in interactions:
        if interaction.item not in catalogue:
            continue
        if objective == "explicit" and (interaction.event != RATING or interaction.value is None):
            continue
        row = catalogue.index_of(interaction.item)
        value = interaction.value if objective == "explicit" and interaction.value is not None else 1.0
        if row not in latest or interaction.time >= latest[row][1]:
            latest[row] = (value, interaction.time)
    rows = sorted(latest)
    return TrainingPairs(
        items=np.array(rows, dtype=np.int64),
        values=np.array([latest[row][0] for row in rows], dtype=np.float32),
        times=np.array([latest[row][1] for row in rows], dtype=np.float64),
    )
