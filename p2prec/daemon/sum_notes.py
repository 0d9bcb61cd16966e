"""What a device remembers of its part in each private sum, for its owner: with how many it masked, and why it sat one out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2prec.storage.store import Store
from p2prec.types import SwarmId


class SumNote(msgspec.Struct, frozen=True):
    """One sum. Nothing is decided by it: the ledger does that."""

    enrolled: int = 0
    """Who took part, this device included."""
    partners: int = 0
    """With how many this device masked its contribution; 0 where it made none."""
    sat_out: str = ""
    """Why it contributed nothing, in words; "" if it did."""
    mixed_again: bool = False
    """Whether the sum was void at first."""
    is_void: bool = False
    """Whether its result has more noise than planned, since some has not cancelled."""


def load_notes(store: Store, swarm_id: SwarmId) -> dict[int, SumNote]:
    """By the number of the sum. What cannot be read is as if it had not been noted. Raises StoreError."""
    text = store.get_meta(_key(swarm_id))
    try:
        return msgspec.json.decode(text, type=dict[int, SumNote]) if text else {}
    except msgspec.DecodeError:
        return {}


def save_notes(store: Store, swarm_id: SwarmId, notes: Mapping[int, SumNote]) -> None:
    """Durable on return. Raises StoreError."""
    store.set_meta(_key(swarm_id), msgspec.json.encode(dict(notes)).decode())


def enrol_once(store: Store, swarm_id: SwarmId, number: int) -> bool:
    """Note, durably, that this device enrols in a sum. Whether it is the first time: an earlier run's mask key is lost, and the
    others have it. Raises StoreError.
    """
    key = f"enrolled {number} {swarm_id.hex()}"
    if store.get_meta(key):
        return False
    store.set_meta(key, "yes")
    return True


def _key(swarm_id: SwarmId) -> str:
    return f"sums {swarm_id.hex()}"
