from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2prec.data.interactions import Interaction
from p2prec.errors import DataError, StoreError
from p2prec.privacy.ledger import Budget, LedgerEntry
from p2prec.storage import database, schema
from p2prec.storage.records import KnownPeer, StoredModel
from p2prec.storage.store import Store
from p2prec.types import ItemKey, PeerId, SwarmId

SWARM, OTHER_SWARM = SwarmId(b"s" * 32), SwarmId(b"t" * 32)


def play(item: str, time: float = 1.0) -> Interaction:
    return Interaction(ItemKey(item), "play", None, time)


def rating(item: str, value: float, time: float = 1.0) -> Interaction:
    return Interaction(ItemKey(item), "rating", value, time)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "p2prec.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


# Interactions


def test_interactions_come_back_in_the_order_they_were_logged(store: Store, path: Path) -> None:
    logged = [play("b", 9.0), rating("a", 4.5, 3.0), Interaction(ItemKey("c"), "buy", 2.0, 5.0)]
    assert store.add_interactions(logged).added == 3
    store.close()
    with Store.open(path) as again:
        assert again.interactions() == logged
        assert again.count_interactions() == 3


def test_the_same_interaction_is_stored_once(store: Store) -> None:
    rows = [
        play("a"),
        play("a"),
        play("a", 2.0),
        rating("a", 4.0),
        rating("a", 5.0),
        rating("b", 0.0),
        rating("b", -0.0),
    ]
    first = store.add_interactions(rows)
    assert (first.added, first.already_present) == (5, 2)
    second = store.add_interactions(rows)
    assert (second.added, second.already_present) == (0, 7)
    assert store.count_interactions() == 5


def test_a_source_that_fails_half_way_leaves_nothing(store: Store) -> None:
    def broken() -> Iterator[Interaction]:
        yield from (play(str(n)) for n in range(1000))
        raise DataError("the file ends in the middle")

    with pytest.raises(DataError):
        store.add_interactions(broken())
    assert store.interactions() == []
    assert store.add_interactions([play("a")]).added == 1


@pytest.mark.parametrize(
    "bad",
    [
        play(""),
        play("k" * 201),
        Interaction(ItemKey("a"), "", None, 1.0),
        Interaction(ItemKey("a"), "e" * 33, None, 1.0),
        Interaction(ItemKey("a"), "rating", None, 1.0),
        rating("a", float("nan")),
        rating("a", 1e6 + 1),
        play("a", -1.0),
        play("a", float("inf")),
        play("a", 253_402_300_800.0),
    ],
)
def test_interactions_out_of_bounds_are_refused(store: Store, bad: Interaction) -> None:
    with pytest.raises(DataError):
        store.add_interactions([play("good"), bad])
    assert store.interactions() == []


def test_interactions_at_the_bounds_are_stored(store: Store) -> None:
    edge = [play("k" * 200), Interaction(ItemKey("a"), "e" * 32, -1e6, 0.0), rating("a", 1e6, 253_402_300_799.0)]
    assert store.add_interactions(edge).added == 3


def last_id(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT max(id) FROM interaction").fetchone()[0])


def test_forgetting_erases_from_the_disk_and_never_gives_an_id_again(store: Store, path: Path) -> None:
    store.add_interactions([play("kept"), play("the-secret-item", 1.0), play("the-secret-item", 2.0)])
    last = last_id(path)
    assert store.forget(ItemKey("the-secret-item")) == 2
    assert store.forget(ItemKey("the-secret-item")) == 0
    assert store.interactions() == [play("kept")]
    for file in path.parent.iterdir():
        assert b"the-secret-item" not in file.read_bytes(), file
    store.add_interactions([play("new")])
    assert last_id(path) > last
    assert store.forget_all() == 2
    assert store.count_interactions() == 0


def test_the_revision_grows_with_every_change_of_the_interactions_only(store: Store) -> None:
    seen = [store.interactions_revision()]
    for change in (
        lambda: store.add_interactions([play("a")]),
        lambda: store.forget(ItemKey("a")),
        lambda: store.add_interactions([play("a")]),
        store.forget_all,
    ):
        change()
        seen.append(store.interactions_revision())
    assert seen == sorted(set(seen))
    store.set_meta("other", "1")
    store.forget_all()
    store.add_interactions([])
    assert store.interactions_revision() == seen[-1]


# Several processes


def test_another_connection_s_writes_are_noticed(store: Store, path: Path) -> None:
    before = store.data_version()
    assert store.data_version() == before
    with Store.open(path) as other:
        other.add_interactions([play("a")])
    assert store.data_version() != before
    assert store.interactions() == [play("a")]


def _write_many(path: Path, name: str) -> None:
    with Store.open(path) as store:
        for n in range(50):
            store.add_interactions([play(f"{name}-{n}")])


def test_processes_that_open_and_write_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, f"p{n}")) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    with Store.open(path, verify=True) as store:
        assert store.count_interactions() == 200


def test_threads_may_share_a_store(store: Store) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [store.add_interactions([play(f"{n}-{k}")]) for k in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert store.count_interactions() == 80


def _acknowledge_until_killed(path: Path, pipe: int) -> None:
    with Store.open(path) as store:
        for n in range(100_000):
            store.add_interactions([play(str(n))])
            os.write(pipe, n.to_bytes(4, "big"))


@pytest.mark.parametrize("acknowledged_before_kill", [1, 7, 40, 150])
def test_what_was_acknowledged_survives_kill_9(path: Path, acknowledged_before_kill: int) -> None:
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_acknowledge_until_killed, args=(path, writer))
    process.start()
    os.close(writer)
    acknowledged = 0
    while acknowledged < acknowledged_before_kill:
        acknowledged = int.from_bytes(os.read(reader, 4), "big") + 1
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    while last := os.read(reader, 4):
        acknowledged = int.from_bytes(last, "big") + 1
    os.close(reader)
    with Store.open(path, verify=True) as store:
        kept = {interaction.item for interaction in store.interactions()}
    assert kept >= {str(n) for n in range(acknowledged)}


# Ledger


def entry(n: int, epsilon: float = 1.0, swarm: SwarmId = SWARM) -> LedgerEntry:
    return LedgerEntry(n, 5.0, swarm, 8.0, 2, epsilon, 1e-5)


def test_the_ledger_counts_per_swarm_and_returns_what_it_was_given(store: Store, path: Path) -> None:
    assert store.ledger_contributions(SWARM) == 0
    assert store.last_ledger_entry(SWARM) is None
    budget = Budget(8.0, 2, 1e-5, limit=None)
    for n in range(3):
        store.append_ledger(budget.entry(n, SWARM, now=float(n)))
    store.append_ledger(entry(1, float("inf"), OTHER_SWARM))
    store.close()
    with Store.open(path) as again:
        assert again.ledger_contributions(SWARM) == 3
        assert again.last_ledger_entry(SWARM) == budget.entry(2, SWARM, now=2.0)
        assert again.last_ledger_entry(OTHER_SWARM) == entry(1, float("inf"), OTHER_SWARM)


@pytest.mark.parametrize("backwards", [entry(2, 2.0), entry(1, 2.0), entry(3, 0.9)])
def test_the_ledger_never_goes_backwards(store: Store, backwards: LedgerEntry) -> None:
    store.append_ledger(entry(2, 1.0))
    with pytest.raises(StoreError, match="never goes backwards"):
        store.append_ledger(backwards)
    assert store.last_ledger_entry(SWARM) == entry(2, 1.0)


def test_the_database_itself_refuses_to_rewrite_the_ledger(store: Store, path: Path) -> None:
    store.append_ledger(entry(1))
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM ledger", "UPDATE ledger SET epsilon_after = 0"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


# Model, peers, counters


def model(swarm: SwarmId = SWARM) -> StoredModel:
    rng = np.random.default_rng(3)
    tables = {
        "item_factors": rng.normal(size=(7, 3)).astype(np.float32),
        "evidence": rng.normal(size=7).astype(np.float32),
        "gram": np.zeros((0, 0), np.float32),
    }
    return StoredModel(swarm, 12.0, tables)


def test_a_model_comes_back_to_the_bit_and_writable(store: Store) -> None:
    assert store.load_model(SWARM) is None
    store.save_model(model())
    store.save_model(replace(model(), age=13.0))
    loaded = store.load_model(SWARM)
    assert loaded is not None
    assert (loaded.swarm_id, loaded.age) == (SWARM, 13.0)
    assert loaded.tables.keys() == model().tables.keys()
    for name, table in model().tables.items():
        np.testing.assert_array_equal(loaded.tables[name], table)
        assert loaded.tables[name].dtype == np.float32
        assert loaded.tables[name].flags.writeable


def test_another_swarm_s_model_is_not_loaded(store: Store) -> None:
    store.save_model(model(OTHER_SWARM))
    assert store.load_model(SWARM) is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE model SET age = 99",
        "UPDATE model_table SET data = zeroblob(28) WHERE name = 'evidence'",
        "UPDATE model_table SET shape = '[3, 7]' WHERE name = 'item_factors'",
        "DELETE FROM model_table WHERE name = 'gram'",
    ],
)
def test_a_damaged_model_is_refused_and_can_be_dropped(store: Store, path: Path, damage: str) -> None:
    store.save_model(model())
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(StoreError, match="checksum"):
        store.load_model(SWARM)
    store.drop_model()
    assert store.load_model(SWARM) is None


def test_entering_another_swarm_keeps_history_and_ledger_and_drops_the_rest(store: Store) -> None:
    assert not store.enter_swarm(SWARM)
    store.add_interactions([play("a")])
    store.append_ledger(entry(1))
    store.save_model(model())
    store.save_peers([KnownPeer(PeerId("p"), "10.0.0.1", 4001, 5.0)])
    store.add_counters({"rounds": 2})
    assert not store.enter_swarm(SWARM)
    assert store.counters() == {"rounds": 2}
    assert store.enter_swarm(OTHER_SWARM)
    assert store.interactions() == [play("a")]
    assert store.ledger_contributions(SWARM) == 1
    assert store.load_model(SWARM) is None
    assert store.load_peers() == []
    assert store.counters() == {}


def test_peers_are_replaced_and_come_back_the_freshest_first(store: Store) -> None:
    old, new = KnownPeer(PeerId("a"), "10.0.0.1", 4001, 5.0), KnownPeer(PeerId("b"), "::1", 4002, 6.0)
    store.save_peers([old])
    store.save_peers([old, new])
    assert store.load_peers() == [new, old]


def test_counters_add_up_and_only_grow(store: Store) -> None:
    store.add_counters({"rounds": 1, "bytes_in": 10})
    store.add_counters({"rounds": 2, "refused.forged": 0})
    assert store.counters() == {"bytes_in": 10, "refused.forged": 0, "rounds": 3}
    with pytest.raises(ValueError, match="only grow"):
        store.add_counters({"rounds": -1})


def test_a_local_secret_is_drawn_once(store: Store, path: Path) -> None:
    secret = store.local_secret("held-out")
    assert len(secret) == 32
    assert store.local_secret("other") != secret
    store.close()
    with Store.open(path) as again:
        assert again.local_secret("held-out") == secret


# The file


def test_the_file_is_its_owner_s_alone_and_durable_by_configuration(store: Store, path: Path) -> None:
    store.set_meta("a", "1")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    pragma = store._database.pragma
    assert pragma("synchronous") == 2  # FULL
    assert pragma("secure_delete") == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough for one" * 40, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*\.recover"):
        Store.open(path)
    assert path.read_bytes() == content


def test_damage_inside_is_found_and_nothing_is_deleted(store: Store, path: Path) -> None:
    store.add_interactions(play(str(n)) for n in range(5000))
    store.close()
    content = bytearray(path.read_bytes())
    content[8192 : len(content) - 4096] = os.urandom(len(content) - 4096 - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path, verify=True)
    assert path.read_bytes() == content


def test_somebody_else_s_database_is_not_touched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a p2prec store"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_newer_store_asks_for_an_upgrade(store: Store, path: Path) -> None:
    store.close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.SCHEMA + 1}")
    connection.close()
    with pytest.raises(StoreError, match="Upgrade p2prec"):
        Store.open(path)


def test_an_older_store_is_migrated_in_one_transaction(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_interactions([play("a")])
    store.close()
    broken = (*schema.MIGRATIONS, ("CREATE TABLE added (x)", "CREATE TABLE nonsense ("))
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    monkeypatch.setattr(database, "SCHEMA", len(broken))
    with pytest.raises(StoreError, match="incomplete input"):
        Store.open(path)
    mended = (*schema.MIGRATIONS, ("CREATE TABLE added (x)",))
    monkeypatch.setattr(database, "MIGRATIONS", mended)
    with Store.open(path) as migrated:
        assert migrated.interactions() == [play("a")]
        assert migrated._database.pragma("user_version") == schema.SCHEMA + 1


def _fill_the_disk(path: Path, pipe: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with Store.open(path) as store:
        store.add_interactions([play("kept")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            store.add_interactions(play(f"item-{n}") for n in range(100_000))
            answer = "stored"
        except StoreError as error:
            answer = str(error)
        os.write(pipe, f"{answer}|{store.count_interactions()}".encode())


def test_a_write_that_the_disk_refuses_raises_and_leaves_what_was_there(path: Path) -> None:
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_fill_the_disk, args=(path, writer))
    process.start()
    os.close(writer)
    process.join(60)
    answer, _, count = os.read(reader, 1000).decode().partition("|")
    os.close(reader)
    assert "disk" in answer
    assert count == "1"
    with Store.open(path, verify=True) as store:
        assert store.interactions() == [play("kept")]


def test_a_full_disk_says_so(store: Store) -> None:
    store.add_interactions([play("kept")])
    store._database.pragma("max_page_count = 30")
    with pytest.raises(StoreError, match="disk is full"):
        store.add_interactions(play(f"item-{n}") for n in range(20_000))
    assert store.interactions() == [play("kept")]


def test_patience_with_other_processes_can_be_set(path: Path) -> None:
    with Store.open(path) as store, Store.open(path) as other, other._database.write():
        store.set_patience(0.05)
        began = time.monotonic()
        with pytest.raises(StoreError, match="locked"):
            store.set_meta("a", "1")
        assert time.monotonic() - began < database.BUSY_TIMEOUT_S / 2


def test_a_store_locked_for_too_long_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with (
        Store.open(path) as store,
        Store.open(path) as other,
        other._database.write(),
        pytest.raises(StoreError, match="locked"),
    ):
        store.set_meta("a", "1")


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="permissions"):
        Store.open(tmp_path / "absent" / "p2prec.sqlite3")
    with pytest.raises(StoreError, match="permissions"):
        Store.open(tmp_path)
