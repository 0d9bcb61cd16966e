"""What goes into the store and comes out of it, besides interactions and ledger entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2prec.errors import StoreError
from p2prec.types import FloatArray, PeerId, SwarmId


@dataclass(frozen=True, slots=True)
class Added:
    """What became of rows given to `Store.add_interactions`."""

    added: int
    already_present: int
    """Rows with the same item, event, time and value as one that is stored, or twice among the given ones."""


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """Where a peer was last reached; dialled at the next start."""

    peer_id: PeerId
    host: str
    """An IPv4 or IPv6 literal."""
    port: int
    last_seen: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredModel:
    """A snapshot of the shared tables. Names and shapes are the learner's business."""

    swarm_id: SwarmId
    age: float
    """Rounds of training behind it."""
    tables: Mapping[str, FloatArray]
    """Any shapes; float32; saved as raw little-endian rows."""


def pack_tables(model: StoredModel) -> tuple[list[tuple[str, str, bytes]], bytes]:
    """(name, shape as JSON, data) of each table in the order of names, and the checksum over all of it."""
    rows = [
        (name, json.dumps(table.shape), np.ascontiguousarray(table, dtype="<f4").tobytes())
        for name, table in sorted(model.tables.items())
    ]
    return rows, _checksum(model.swarm_id, model.age, rows)


def unpack_tables(swarm_id: SwarmId, age: float, rows: list[tuple[str, str, bytes]], checksum: bytes) -> StoredModel:
    """The reverse of `pack_tables`, into arrays that own their memory. Raises StoreError when the checksum does not
    hold."""
    rows = sorted(rows)
    if _checksum(swarm_id, age, rows) != checksum:
        raise StoreError("the saved model is damaged (its checksum does not match)")
    tables = {
        name: np.frombuffer(data, dtype="<f4").reshape(json.loads(shape)).astype(np.float32)
        for name, shape, data in rows
    }
    return StoredModel(swarm_id, age, tables)


def _checksum(swarm_id: bytes, age: float, rows: list[tuple[str, str, bytes]]) -> bytes:
    digest = hashlib.sha256(
        json.dumps([swarm_id.hex(), float(age), [(name, shape) for name, shape, _ in rows]]).encode()
    )
    for _, _, data in rows:
        digest.update(data)
    return digest.digest()
