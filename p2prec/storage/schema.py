"""The store's tables, as a list of migrations: entry i brings a store from schema i to i + 1 in one transaction.

Never change an entry that was released; append one.
"""

from __future__ import annotations

APPLICATION_ID = 0x70327072
""""p2pr" in the SQLite header: tells our file from anybody else's."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        # AUTOINCREMENT: the id of a forgotten interaction is never given to another one.
        """CREATE TABLE interaction (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            item TEXT NOT NULL,
            event TEXT NOT NULL,
            value REAL,
            time REAL NOT NULL
        )""",
        # Also finds an item's interactions. NULL is distinct from NULL in an index, hence the stand-in.
        "CREATE UNIQUE INDEX interaction_once ON interaction (item, time, event, ifnull(value, 'none'))",
        """CREATE TABLE ledger (
            swarm_id BLOB NOT NULL,
            contribution INTEGER NOT NULL,
            time REAL NOT NULL,
            noise_multiplier REAL NOT NULL,
            releases INTEGER NOT NULL,
            epsilon_after REAL NOT NULL,
            delta REAL NOT NULL,
            PRIMARY KEY (swarm_id, contribution)
        ) WITHOUT ROWID""",
        # The database itself holds the ledger append-only and monotone, whatever a later version's code may do.
        """CREATE TRIGGER ledger_keep BEFORE DELETE ON ledger
            BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END""",
        """CREATE TRIGGER ledger_fixed BEFORE UPDATE ON ledger
            BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END""",
        """CREATE TRIGGER ledger_forward BEFORE INSERT ON ledger WHEN EXISTS (
            SELECT 1 FROM ledger WHERE swarm_id = new.swarm_id
            AND (contribution >= new.contribution OR epsilon_after > new.epsilon_after)
        ) BEGIN SELECT raise(ABORT, 'the ledger never goes backwards'); END""",
        """CREATE TABLE model (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            swarm_id BLOB NOT NULL,
            age REAL NOT NULL,
            checksum BLOB NOT NULL
        )""",
        """CREATE TABLE model_table (
            name TEXT PRIMARY KEY,
            shape TEXT NOT NULL,
            data BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE known_peer (
            peer_id TEXT PRIMARY KEY,
            host TEXT NOT NULL,
            port INTEGER NOT NULL,
            last_seen REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    ),
)
SCHEMA = len(MIGRATIONS)
