"""The store of one peer: its interactions, the model snapshot, the ledger, the peers it knew, its counters.

A write is on disk when the method returns. Several processes may have one store open; `data_version` and
`interactions_revision` tell the daemon that the command line has written.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from p2prec.data.interactions import Interaction, interaction_problem
from p2prec.errors import DataError, StoreError
from p2prec.privacy.ledger import LedgerEntry, LedgerTotal
from p2prec.storage.database import Database
from p2prec.storage.records import Added, KnownPeer, StoredModel, pack_tables, unpack_tables
from p2prec.types import ItemKey, PeerId, SwarmId

_SECRET_BYTES = 32
_REVISION = "interactions_revision"


class Store:
    """Made by `open`; a context manager that closes. Every method raises StoreError when the disk or the file fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Store:
        """Open or create the store at `path`; `verify` walks the whole file for damage first."""
        return cls(Database.open(path, verify=verify))

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    # Interactions

    def add_interactions(self, interactions: Iterable[Interaction]) -> Added:
        """Store all of them or, if the iterator or the disk fails half way, none.

        The rows are collected in a temporary table first, so that the daemon waits for one short transaction only,
        however long the source takes to read. Raises DataError for an interaction out of bounds.
        """
        with self._database.alone():
            self._collect(interactions)
            return self._store_collected()

    def _collect(self, interactions: Iterable[Interaction]) -> None:
        with self._database.read() as connection:
            connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS incoming (item TEXT, event TEXT, value REAL, time REAL)"
            )
            connection.execute("DELETE FROM temp.incoming")
            connection.executemany("INSERT INTO temp.incoming VALUES (?, ?, ?, ?)", _rows(interactions))

    def _store_collected(self) -> Added:
        with self._database.write() as connection:
            given: int = connection.execute("SELECT count(*) FROM temp.incoming").fetchone()[0]
            added = connection.execute(
                "INSERT OR IGNORE INTO interaction (item, event, value, time)"
                " SELECT item, event, value, time FROM temp.incoming ORDER BY rowid"
            ).rowcount
            connection.execute("DELETE FROM temp.incoming")
            if added:
                self._advance_revision()
        return Added(added, given - added)

    def interactions(self) -> list[Interaction]:
        """All interactions in the order they were logged."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT item, event, value, time FROM interaction ORDER BY id").fetchall()
        return [Interaction(ItemKey(item), event, value, time) for item, event, value, time in rows]

    def count_interactions(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM interaction").fetchone()[0])

    def forget(self, item: ItemKey) -> int:
        """Erase all interactions with an item; how many there were."""
        return self._forget("DELETE FROM interaction WHERE item = ?", (item,))

    def forget_all(self) -> int:
        """Erase every interaction; how many there were."""
        return self._forget("DELETE FROM interaction", ())

    def _forget(self, statement: str, arguments: tuple[str, ...]) -> int:
        with self._database.write() as connection:
            erased = connection.execute(statement, arguments).rowcount
            if erased:
                self._advance_revision()
        # The log still has the old pages. Best effort: a reader in another process may hold it until the next
        # checkpoint.
        self._database.pragma("wal_checkpoint(TRUNCATE)")
        return erased

    def interactions_revision(self) -> int:
        """Grows whenever interactions are added or forgotten, by any process."""
        return int(self.get_meta(_REVISION) or 0)

    def _advance_revision(self) -> None:
        """Inside a write transaction."""
        self.set_meta(_REVISION, str(self.interactions_revision() + 1))

    # Ledger

    def append_ledger(self, entry: LedgerEntry) -> None:
        """Add the row of one contribution; only then may anything that carries it be sent.

        Raises StoreError when its number or its epsilon does not lie beyond all earlier ones of the swarm.
        """
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO ledger (swarm_id, contribution, time, noise_multiplier, releases, epsilon_after, delta)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    bytes(entry.swarm_id),
                    entry.contribution,
                    entry.time,
                    entry.noise_multiplier,
                    entry.releases,
                    entry.epsilon_after,
                    entry.delta,
                ),
            )

    def ledger_contributions(self, swarm_id: SwarmId) -> int:
        """The number of the last contribution to a swarm; 0 if none was made."""
        last = self.last_ledger_entry(swarm_id)
        return last.contribution if last else 0

    def ledger_numbers(self, swarm_id: SwarmId) -> list[int]:
        """The numbers of all contributions to a swarm, ascending."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT contribution FROM ledger WHERE swarm_id = ? ORDER BY contribution", (bytes(swarm_id),)
            ).fetchall()
        return [int(number) for (number,) in rows]

    def last_ledger_entry(self, swarm_id: SwarmId) -> LedgerEntry | None:
        """What has been spent on a swarm so far."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT contribution, time, swarm_id, noise_multiplier, releases, epsilon_after, delta FROM ledger"
                " WHERE swarm_id = ? ORDER BY contribution DESC LIMIT 1",
                (bytes(swarm_id),),
            ).fetchone()
        return LedgerEntry(*row) if row else None

    def ledger_totals(self) -> list[LedgerTotal]:
        """What has been spent on each swarm that this device was ever in, the first one joined first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT swarm_id, max(contribution), min(time), max(time),"
                " sum(CASE WHEN noise_multiplier > 0 THEN releases / (noise_multiplier * noise_multiplier) ELSE 9e999 END)"
                " FROM ledger GROUP BY swarm_id ORDER BY min(time), swarm_id"
            ).fetchall()
        return [LedgerTotal(*row) for row in rows]

    # Swarm and model

    def enter_swarm(self, swarm_id: SwarmId) -> bool:
        """Make this the store of a swarm: when it was another one's, its model, peers and counters are dropped.
        Interactions and the ledger stay. Returns whether it was another one's."""
        with self._database.write() as connection:
            before = self.get_meta("swarm_id")
            if before == swarm_id.hex():
                return False
            for table in ("model", "model_table", "known_peer", "counter"):
                connection.execute(f"DELETE FROM {table}")
            self.set_meta("swarm_id", swarm_id.hex())
        return before is not None

    def save_model(self, model: StoredModel) -> None:
        """Replace the snapshot."""
        rows, checksum = pack_tables(model)
        with self._database.write() as connection:
            connection.execute("DELETE FROM model_table")
            connection.executemany("INSERT INTO model_table (name, shape, data) VALUES (?, ?, ?)", rows)
            connection.execute(
                "INSERT OR REPLACE INTO model (id, swarm_id, age, checksum) VALUES (1, ?, ?, ?)",
                (bytes(model.swarm_id), model.age, checksum),
            )

    def load_model(self, swarm_id: SwarmId) -> StoredModel | None:
        """The snapshot, or None when there is none of this swarm. Raises StoreError when it is damaged: `drop_model`
        then starts anew, and nothing but training time is lost."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT age, checksum FROM model WHERE swarm_id = ?", (bytes(swarm_id),)
            ).fetchone()
            if row is None:
                return None
            tables = connection.execute("SELECT name, shape, data FROM model_table").fetchall()
        return unpack_tables(swarm_id, row[0], tables, row[1])

    def drop_model(self) -> None:
        """Delete the snapshot."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM model")
            connection.execute("DELETE FROM model_table")

    # Peers and counters

    def save_peers(self, peers: Sequence[KnownPeer]) -> None:
        """Replace the list of known peers."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM known_peer")
            connection.executemany(
                "INSERT OR REPLACE INTO known_peer (peer_id, host, port, last_seen) VALUES (?, ?, ?, ?)",
                [(peer.peer_id, peer.host, peer.port, peer.last_seen) for peer in peers],
            )

    def load_peers(self) -> list[KnownPeer]:
        """The known peers, the most recently seen first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT peer_id, host, port, last_seen FROM known_peer ORDER BY last_seen DESC, peer_id"
            ).fetchall()
        return [KnownPeer(PeerId(peer_id), host, port, last_seen) for peer_id, host, port, last_seen in rows]

    def add_counters(self, increments: Mapping[str, int]) -> None:
        """Add to named totals (rounds, bytes, refused messages); new names start at 0. Raises ValueError on a
        negative one."""
        if any(increment < 0 for increment in increments.values()):
            raise ValueError(f"counters only grow: {dict(increments)}")
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO counter (name, value) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET value = value + excluded.value",
                list(increments.items()),
            )

    def counters(self) -> dict[str, int]:
        """All totals by name."""
        with self._database.read() as connection:
            return dict(connection.execute("SELECT name, value FROM counter ORDER BY name").fetchall())

    # Small values

    def get_meta(self, key: str) -> str | None:
        """A named small text, or None."""
        with self._database.read() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def set_meta(self, key: str, value: str) -> None:
        """Set a named small text."""
        with self._database.write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def local_secret(self, name: str) -> bytes:
        """32 random bytes that this device keeps for one purpose, drawn at the first request."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO secret (name, value) VALUES (?, ?)", (name, secrets.token_bytes(_SECRET_BYTES))
            )
            row = connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        if len(row[0]) != _SECRET_BYTES:
            raise StoreError(f"the secret {name!r} in the store has {len(row[0])} bytes, not {_SECRET_BYTES}")
        return bytes(row[0])

    def set_patience(self, seconds: float) -> None:
        """Wait this long for other processes' transactions from now on, then raise StoreError (15 s until this is called)."""
        self._database.set_patience(seconds)

    def data_version(self) -> int:
        """Changes whenever another connection has written; cheap enough to ask every second."""
        return self._database.pragma("data_version")


def _rows(interactions: Iterable[Interaction]) -> Iterator[tuple[str, str, float | None, float]]:
    for interaction in interactions:
        problem = interaction_problem(interaction)
        if problem:
            raise DataError(f"item {interaction.item[:40]!r}: {problem}")
        # -0.0 and 0.0 are one value to a person; NaN never gets here.
        value = None if interaction.value is None else float(interaction.value) + 0.0
        yield interaction.item, interaction.event, value, float(interaction.time)
