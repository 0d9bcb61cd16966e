"""Whether a device ever contributes twice to the same private sum: no, whatever happens to its disk, process or clock."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest

from p2prec.daemon.sum_ledger import SumLedger
from p2prec.errors import StoreError
from p2prec.manifest import Promise
from p2prec.privacy.accountant import epsilon_of_mu
from p2prec.privacy.sum_budget import SumBudget
from p2prec.storage.mark import LedgerMark
from p2prec.storage.store import Store
from p2prec.types import SwarmId

SWARM = SwarmId(b"s" * 32)
PROMISE = Promise(
    epsilon=8.0,
    n_people=197,
    start=1_900_000_000,
    second_after_s=2000.0,
    enrol_s=60.0,
    contribute_s=120.0,
    recover_s=300.0,
    end_s=600.0,
)


def open_ledger(folder: Path, store: Store) -> SumLedger:
    return SumLedger(store, SWARM, PROMISE, LedgerMark(folder / "mark"))


def open_store(folder: Path) -> Store:
    return Store.open(folder / "store")


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 8.0, 20.0])
def test_both_sums_together_spend_the_promise_and_no_more(epsilon: float, tmp_path: Path) -> None:
    promise = msgspec.structs.replace(PROMISE, epsilon=epsilon)
    with open_store(tmp_path) as store:
        ledger = SumLedger(store, SWARM, promise)
        assert ledger.epsilon_spent == 0
        ledger.record_sum(1)
        assert 0 < ledger.epsilon_spent < epsilon
        ledger.record_sum(2)
        assert ledger.epsilon_spent == pytest.approx(epsilon, rel=1e-9)
        assert SumBudget.of(promise).plan.mu == pytest.approx(ledger.budget.mu_after({1, 2}), rel=1e-12)
        (total,) = store.ledger_totals()
        assert epsilon_of_mu(math.sqrt(total.mu_squared), promise.delta) == pytest.approx(epsilon, rel=1e-9)


def test_a_sum_is_recorded_once_in_one_process_and_in_the_next(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        ledger.record_sum(1)
        with pytest.raises(StoreError, match="before"):
            ledger.record_sum(1)
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        assert not ledger.is_open(1) and ledger.is_open(2)
        with pytest.raises(StoreError, match="before"):
            ledger.record_sum(1)
        ledger.record_sum(2)
        assert store.ledger_numbers(SWARM) == [1, 2]
        assert not any(ledger.is_open(number) for number in range(5))


def test_who_has_sat_out_the_first_may_contribute_to_the_second_and_never_to_the_first_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        ledger.record_sum(2)
        assert ledger.epsilon_spent == ledger.budget.epsilon_after({2}) < 8
        assert not ledger.is_open(1)
    with open_store(tmp_path) as store:
        assert open_ledger(tmp_path, store).spent_on == {2}
        assert open_ledger(tmp_path, store).forgotten == 0


def test_two_ledgers_of_one_store_do_not_record_a_sum_twice(tmp_path: Path) -> None:
    """They never run at once (the state directory's lock), but if they did, the database itself would refuse."""
    with open_store(tmp_path) as store:
        one, other = open_ledger(tmp_path, store), open_ledger(tmp_path, store)
        one.record_sum(1)
        with pytest.raises(StoreError):
            other.record_sum(1)


@pytest.mark.parametrize("recorded", [(1,), (1, 2), (2,)])
def test_a_store_from_an_old_backup_opens_no_sum_again(recorded: tuple[int, ...], tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    shutil.copy(tmp_path / "store", tmp_path / "backup")
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        for number in recorded:
            ledger.record_sum(number)
    shutil.copy(tmp_path / "backup", tmp_path / "store")
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        assert store.ledger_numbers(SWARM) == []
        assert ledger.forgotten == max(recorded)
        assert ledger.epsilon_spent >= ledger.budget.epsilon_after(recorded)
        for number in range(1, max(recorded) + 1):
            with pytest.raises(StoreError):
                ledger.record_sum(number)
        assert ledger.is_open(2) == (max(recorded) == 1)


def test_a_store_restored_under_a_running_daemon_opens_no_sum_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        ledger.record_sum(1)
        raw = sqlite3.connect(tmp_path / "store")
        raw.execute("DROP TRIGGER ledger_keep")
        raw.execute("DELETE FROM ledger")
        raw.commit()
        raw.close()
        with pytest.raises(StoreError):
            ledger.record_sum(1)


def test_after_a_failed_write_nothing_is_sent_now_or_later(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ledger = SumLedger(store, SWARM, PROMISE, LedgerMark(tmp_path / "no such folder" / "mark"))
        with pytest.raises(StoreError):
            ledger.record_sum(1)
        assert not ledger.is_open(1)
        assert ledger.spent_on == {1}  # the row is there: it counts
        with pytest.raises(StoreError):
            ledger.record_sum(1)
    store.close()
    closed = SumLedger(Store.open(tmp_path / "other"), SWARM, PROMISE)
    closed._store.close()
    for _ in range(2):
        with pytest.raises(StoreError):
            closed.record_sum(1)
    assert not closed.is_open(1) and closed.is_open(2)


def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        monkeypatch.setattr(time, "time", lambda: 4e9)
        ledger.record_sum(1)
        monkeypatch.setattr(time, "time", lambda: -1e9)
        assert not open_ledger(tmp_path, store).is_open(1)
        ledger.record_sum(2)
        assert store.ledger_numbers(SWARM) == [1, 2]


def _record_and_die(folder: Path, sending: multiprocessing.connection.Connection) -> None:
    ledger = open_ledger(folder, open_store(folder))
    ledger.record_sum(1)
    sending.send("recorded")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_daemon_killed_right_after_the_row_does_not_contribute_after_its_restart(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_record_and_die, args=(tmp_path, sending))
    process.start()
    assert receiving.poll(30)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        assert store.ledger_numbers(SWARM) == [1]
        assert not ledger.is_open(1) and ledger.is_open(2)
        assert ledger.epsilon_spent == ledger.budget.epsilon_after({1})


def test_nothing_of_the_ordinary_kind_leaves_a_swarm_with_a_promise(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ledger = open_ledger(tmp_path, store)
        assert not ledger.may_contribute
        with pytest.raises(StoreError, match="two sums"):
            ledger.record()


def test_a_damaged_second_note_stops_the_daemon_rather_than_being_believed(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("{")
    with open_store(tmp_path) as store, pytest.raises(StoreError, match="second note"):
        open_ledger(tmp_path, store)
