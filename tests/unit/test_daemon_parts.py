"""The daemon's parts: what it follows in the store, what it writes down, what it logs and warns of."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
from peer_rig import CATALOGUE, HOLDOUT_SECRET, MANIFEST

from p2prec.config import DaemonSettings
from p2prec.daemon import log
from p2prec.daemon.daemon import Daemon, load
from p2prec.daemon.history import History
from p2prec.daemon.ledger import StoreLedger
from p2prec.daemon.snapshot import from_stored, to_stored
from p2prec.data.interactions import Interaction
from p2prec.errors import StoreError
from p2prec.manifest import LearningParameters, Manifest, PrivacyParameters
from p2prec.model.state import FIELDS, initial_state
from p2prec.peer import events
from p2prec.peer.learner import Learner
from p2prec.privacy.ledger import Budget
from p2prec.storage.invitation import Invitation
from p2prec.storage.records import KnownPeer, StoredModel
from p2prec.storage.state import StateDirectory
from p2prec.storage.store import Store
from p2prec.transport.memory import MemoryNetwork
from p2prec.types import ItemKey, PeerId

SECRET = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "p2prec.sqlite3") as store:
        yield store


@pytest.fixture
def other_process(store: Store, tmp_path: Path) -> Iterator[Store]:
    """The command line, as the daemon's store sees it."""
    with Store.open(tmp_path / "p2prec.sqlite3") as other:
        yield other


def play(*items: str) -> list[Interaction]:
    return [Interaction(ItemKey(item), "play", None, float(i)) for i, item in enumerate(items)]


# --- history ---


def test_history_follows_what_others_write(store: Store, other_process: Store) -> None:
    history = History(store, MANIFEST, CATALOGUE, 0.0, SECRET)
    assert not history.refresh()
    other_process.add_interactions(play("0", "3", "no longer in the catalogue"))
    assert history.refresh()
    assert not history.refresh()
    assert history.count == 3
    assert history.training.items.tolist() == history.pairs.items.tolist() == history.seen.tolist() == [0, 3]
    other_process.forget_all()
    assert history.refresh()
    assert (history.count, len(history.training), history.seen.size) == (0, 0, 0)


def test_history_ignores_other_writes(store: Store, other_process: Store) -> None:
    history = History(store, MANIFEST, CATALOGUE, 0.0, SECRET)
    other_process.set_meta("something", "else")
    assert not history.refresh()


def test_what_could_not_be_read_is_read_the_next_time(
    store: Store, other_process: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(store, MANIFEST, CATALOGUE, 0.0, SECRET)
    other_process.add_interactions(play("0"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "interactions", _fails)
        with pytest.raises(StoreError):
            history.refresh()
    assert history.refresh()
    assert history.count == 1


def test_held_out_items_are_not_trained_on_but_are_seen(store: Store) -> None:
    store.add_interactions(play("0", "1", "2", "3", "4"))
    history = History(store, MANIFEST, CATALOGUE, 0.5, b"some secret of 16+ bytes")
    out, kept = set(history.test_items.tolist()), set(history.training.items.tolist())
    assert out
    assert kept
    assert not out & kept
    assert out | kept == set(history.seen.tolist()) == set(history.pairs.items.tolist())


def _fails(*_: object, **__: object) -> None:
    raise StoreError("the disk is full")


# --- ledger ---


NOISY = MANIFEST.__class__(
    **{
        **{name: getattr(MANIFEST, name) for name in ("name", "catalogue", "seed", "learning")},
        "privacy": PrivacyParameters(noise_multiplier=2.0, epsilon_budget=4.0),
    }
)


def test_ledger_counts_durably_and_stops_at_the_budget(store: Store, other_process: Store) -> None:
    ledger = StoreLedger(store, NOISY)
    spent = [ledger.epsilon_spent]
    while ledger.may_contribute:
        number = ledger.record()
        assert other_process.ledger_contributions(NOISY.swarm_id) == number == ledger.contributions
        spent.append(ledger.epsilon_spent)
    assert spent == sorted(set(spent))
    assert spent[0] == 0.0
    assert spent[-1] <= 4.0 < Budget.of(NOISY).epsilon_after(ledger.contributions + 1)
    assert StoreLedger(store, NOISY).contributions == len(spent) - 1
    assert not StoreLedger(store, NOISY).may_contribute


def test_a_swarm_without_noise_promises_nothing(store: Store) -> None:
    ledger = StoreLedger(store, MANIFEST)
    assert ledger.epsilon_spent == 0.0
    ledger.record()
    assert math.isinf(ledger.epsilon_spent)
    assert ledger.may_contribute  # no limit is set


@pytest.mark.parametrize("objective", ["implicit", "explicit"])
def test_a_contribution_releases_two_things(objective: Literal["implicit", "explicit"]) -> None:
    manifest = msgspec.structs.replace(NOISY, learning=LearningParameters(objective=objective))
    assert Budget.of(manifest).releases_per_contribution == 2
    one_release = dataclasses.replace(Budget.of(manifest), releases_per_contribution=1)
    assert Budget.of(manifest).epsilon_after(1) == one_release.epsilon_after(2)


@pytest.mark.parametrize("row_got_through", [True, False])
def test_a_failed_row_is_never_used_twice(store: Store, monkeypatch: pytest.MonkeyPatch, row_got_through: bool) -> None:
    """An error while a row is made durable does not say whether it is: counting goes on from what the disk says."""
    ledger = StoreLedger(store, MANIFEST)
    ledger.record()
    append = Store.append_ledger

    def failing(self: Store, entry: object) -> None:
        if row_got_through:
            append(self, entry)  # type: ignore[arg-type]
        raise StoreError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append_ledger", failing)
        with pytest.raises(StoreError):
            ledger.record()
    assert ledger.record() == (3 if row_got_through else 2)
    assert store.ledger_contributions(MANIFEST.swarm_id) == ledger.contributions


# --- snapshot ---


def test_snapshot_keeps_every_bit(store: Store) -> None:
    state = initial_state(MANIFEST.learning, bytes.fromhex(MANIFEST.seed), CATALOGUE.keys)
    rng = np.random.default_rng(0)
    state.gradient[:] = rng.standard_normal(state.gradient.shape)
    state.own_gradient[:] = rng.standard_normal(state.gradient.shape)
    state.probe[:] = rng.standard_normal(state.probe.shape)
    state.contributions[...] = 5
    state.age[...] = 17
    store.save_model(to_stored(state, MANIFEST.swarm_id))
    stored = store.load_model(MANIFEST.swarm_id)
    assert stored is not None
    learner = Learner(MANIFEST.learning, MANIFEST.privacy, CATALOGUE.keys, bytes.fromhex(MANIFEST.seed))
    learner.state = from_stored(stored)
    for name in FIELDS:
        assert np.array_equal(getattr(learner.state, name), getattr(state, name))
    assert learner.age == 17
    del stored.tables["gram"]
    with pytest.raises(KeyError):
        from_stored(stored)


def test_a_snapshot_of_before_there_were_own_parts_goes_on(store: Store) -> None:
    state = initial_state(MANIFEST.learning, bytes.fromhex(MANIFEST.seed), CATALOGUE.keys)
    state.gradient += 3
    tables = to_stored(state, MANIFEST.swarm_id).tables
    store.save_model(StoredModel(MANIFEST.swarm_id, 0.0, {k: v for k, v in tables.items() if not k.startswith("own_")}))
    stored = store.load_model(MANIFEST.swarm_id)
    assert stored is not None
    restored = from_stored(stored)
    np.testing.assert_array_equal(restored.own_gradient, state.gradient)
    restored.own_gradient += 1  # a table of its own
    np.testing.assert_array_equal(restored.gradient, state.gradient)


# --- log ---

A = PeerId("12D3KooWLYtMBqMeZDvEG4XJFrDPvLDsXzDHwYMGRQdvJnoCtAhE")
EVENTS = [
    events.PeerSighted(A, "10.0.0.1", 4001, "mdns"),
    events.NeighbourUp(A, "10.0.0.1", True, 1),
    events.NeighbourDown(A, "leaving", 0),
    events.DialFailed("10.0.0.1", 4001, "refused", 5.0),
    events.ExchangeDone(A, True, 0.01),
    events.ExchangeFailed(A, False, "no answer"),
    events.Contributed(3, 1.25, 1e-5),
    events.Contributed(3, math.inf, 1e-5),
    events.BudgetSpent(3.9, 4.0),
    events.LedgerFailed("the disk is full"),
    events.ModelRestarted(),
    events.MessageRefused(A, "forged", "forged: the signature"),
    events.PeerBanned(A, 600.0),
    events.IdentityConflict("10.0.0.2", True),
    events.IdentityConflict("this identity also runs at 10.0.0.2", False),
    events.IdentityConflictOver(),
]


def test_every_kind_of_event_has_a_line() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and kind in events.Event.__args__}
    assert kinds == {type(event) for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_an_event_is_one_readable_line_or_one_json_object(event: events.Event) -> None:
    text, machine = io.StringIO(), io.StringIO()
    for stream, log_format in ((text, "text"), (machine, "json")):
        log.set_up(log_format, verbose=True, stream=stream)
        log.log_event(event)
    (line,) = text.getvalue().splitlines()
    assert line.split(" ", 2)[2]
    (entry,) = machine.getvalue().splitlines()
    parsed = json.loads(entry, parse_constant=_no_constants)
    assert parsed["event"] == type(event).__name__
    assert parsed["message"] in line
    assert parsed["level"] in ("debug", "info", "warning", "error")
    assert {field.name for field in dataclasses.fields(event)} <= set(parsed)


def _no_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_an_exception_is_logged_whole_in_both_formats() -> None:
    for log_format in ("text", "json"):
        stream = io.StringIO()
        log.set_up(log_format, stream=stream)
        try:
            raise ValueError("found by a test")
        except ValueError:
            log.logger.exception("internal error")
        assert "Traceback" in stream.getvalue()
        assert "found by a test" in stream.getvalue()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    logger = log.logger
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("epsilon", "words"),
    [
        (1.0, "epsilon spent so far 1 (delta 1e-05)"),
        (20.0, "20 (delta"),
        (20.1, "no meaningful"),
        (math.inf, "without"),
    ],
)
def test_privacy_in_words(epsilon: float, words: str) -> None:
    assert words in log.epsilon_text(epsilon, 1e-5)


# --- the daemon ---


def with_daemon(tmp_path: Path, test: Callable[[Daemon], None], manifest: Manifest = MANIFEST) -> None:
    async def whole() -> None:
        directory = StateDirectory.open(tmp_path / "state")
        directory.join(Invitation(manifest, None))
        loaded = load(directory)
        with loaded.store:
            transport = MemoryNetwork().transport(loaded.identity.peer_id, manifest.swarm_id)
            settings = DaemonSettings(holdout_fraction=0.5, holdout_secret=HOLDOUT_SECRET)
            test(Daemon(loaded, settings, transport, None))

    asyncio.run(whole())


def test_a_store_that_fails_is_warned_of_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def test(daemon: Daemon) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save_peers", _fails)
            for _ in range(3):
                daemon._attempt("store", daemon.save)
                daemon._attempt("history", daemon._follow_history)  # which works: reading needs no space
            assert daemon.current_warnings() == ["the disk is full"]
        daemon._attempt("store", daemon.save)
        assert daemon.current_warnings() == []

    with caplog.at_level(logging.INFO, "p2prec"):
        with_daemon(tmp_path, test)
    assert caplog.text.count("the disk is full") == 1


def test_a_bug_in_a_chore_is_shown_and_does_not_end_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def test(daemon: Daemon) -> None:
        daemon._attempt("quality", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        (warning,) = daemon.current_warnings()
        assert "ZeroDivisionError" in warning
        daemon._attempt("quality", lambda: None)
        assert daemon.current_warnings() == []

    with caplog.at_level(logging.ERROR, "p2prec"):
        with_daemon(tmp_path, test)
    assert "Traceback" in caplog.text


def test_warnings_come_and_go_with_their_events(tmp_path: Path) -> None:
    def test(daemon: Daemon) -> None:
        daemon._handle_event(events.LedgerFailed("the disk is full"))
        daemon._handle_event(events.IdentityConflict("10.0.0.2", True))
        ledger, identity = daemon.current_warnings()
        assert "nothing is contributed" in ledger
        assert "identity renew" in identity
        daemon._handle_event(events.Contributed(1, 1.0, 1e-5))
        daemon._handle_event(events.IdentityConflictOver())
        assert daemon.current_warnings() == []

    with_daemon(tmp_path, test)


def test_an_unchanged_model_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(daemon: Daemon) -> None:
        written = []
        save_model = Store.save_model
        monkeypatch.setattr(Store, "save_model", lambda self, model: (written.append(model), save_model(self, model)))
        for _ in range(3):
            daemon.save()
        assert len(written) == 1
        daemon.peer.exchanges += 1
        daemon.save()
        assert len(written) == 2

    with_daemon(tmp_path, test)


def test_totals_add_up_over_runs(tmp_path: Path) -> None:
    def first(daemon: Daemon) -> None:
        daemon.peer.rounds, daemon.connections_refused = 5, 2
        daemon.peer.refusals["forged"] = 1
        daemon.save()
        daemon.peer.rounds = 7
        daemon.save()

    def second(daemon: Daemon) -> None:
        assert daemon.earlier["rounds"] == 7
        daemon.peer.rounds = 3
        daemon.save()
        assert daemon.store.counters()["rounds"] == 10
        assert daemon.store.counters()["refused.forged"] == 1
        assert daemon.store.counters()["connections_refused"] == 2

    with_daemon(tmp_path, first)
    with_daemon(tmp_path, second)


def test_peers_of_former_runs_are_known_with_the_time_they_were_seen(tmp_path: Path) -> None:
    async def whole() -> None:
        directory = StateDirectory.open(tmp_path / "state")
        directory.join(Invitation(MANIFEST, None))
        loaded = load(directory)
        long_ago = 1_700_000_000.0
        loaded.store.save_peers([KnownPeer(A, "10.0.0.1", 4001, long_ago)])
        with loaded.store:
            transport = MemoryNetwork().transport(loaded.identity.peer_id, MANIFEST.swarm_id)
            daemon = Daemon(loaded, DaemonSettings(mdns=False), transport, None)
            daemon.stop()
            await daemon.run()
            assert daemon.peer.book.peers_seen == 1
            (saved,) = loaded.store.load_peers()
            assert saved.last_seen == pytest.approx(long_ago, abs=5.0)

    asyncio.run(whole())


def test_a_damaged_model_is_learned_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def first(daemon: Daemon) -> None:
        daemon.save()
        with daemon.store._database.write() as connection:
            connection.execute("UPDATE model SET checksum = x'00'")

    def second(daemon: Daemon) -> None:
        assert daemon.learner.age == 0

    with_daemon(tmp_path, first)
    with caplog.at_level(logging.WARNING, "p2prec"):
        with_daemon(tmp_path, second)
    assert "learns it again" in caplog.text


def test_forgetting_everything_forgets_what_was_measured_on_it(tmp_path: Path) -> None:
    def test(daemon: Daemon) -> None:
        daemon.store.add_interactions(play("0", "1", "2", "3", "4"))
        daemon.history._data_version = -1  # as if another process had written it
        daemon._follow_history()
        daemon.peer.rounds = 1
        daemon.learner.state.evidence[:] = 1.0
        daemon.measure_quality()
        assert daemon.quality is not None
        daemon.save()
        assert daemon.store.get_meta("quality")
        daemon.store.forget_all()
        daemon.history._data_version = -1
        daemon._follow_history()
        assert daemon.quality is None
        daemon.save()
        assert not daemon.store.get_meta("quality")

    with_daemon(tmp_path, test)
