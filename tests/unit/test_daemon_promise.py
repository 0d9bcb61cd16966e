"""The daemon in a swarm with a promise: what it gives, keeps, restores, and lets nobody have twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from peer_rig import CATALOGUE, HOLDOUT_SECRET, MANIFEST

from p2prec.api.live import LiveAnswers
from p2prec.config import DaemonSettings
from p2prec.daemon.daemon import Daemon, load
from p2prec.daemon.promise import STARTED_LATE, PromiseKeeper
from p2prec.daemon.sum_notes import SumNote
from p2prec.data.interactions import Interaction
from p2prec.errors import StoreError
from p2prec.manifest import Manifest
from p2prec.peer.private_peer import PrivatePeer
from p2prec.peer.sum_outcome import SumOutcome
from p2prec.privacy.promise import make_promise
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.storage.store import Store
from p2prec.transport.memory import MemoryNetwork
from p2prec.types import ItemKey

N_ITEMS = len(CATALOGUE)
VOTE = np.array([0.10, 0.08, 0.06, 0.04, 0.02], np.float32)
Test = Callable[[Daemon, PromiseKeeper, PrivatePeer], None]


def promising(starts_in: float = 3600.0) -> Manifest:
    return msgspec.structs.replace(MANIFEST, promise=make_promise(8.0, 1e-5, 53, round(time.time() + starts_in), 10.0))


def on_a_daemon(path: Path, test: Test, manifest: Manifest, *, holdout: float = 0.0) -> None:
    """Run `test` with the daemon of the state directory at `path`, which is made if it is not there."""

    async def whole() -> None:
        directory = StateDirectory.open(path)
        directory.join(Invitation(manifest, None))
        loaded = load(directory)
        with loaded.store:
            transport = MemoryNetwork().transport(loaded.identity.peer_id, manifest.swarm_id)
            settings = DaemonSettings(holdout_fraction=holdout, holdout_secret=HOLDOUT_SECRET)
            daemon = Daemon(loaded, settings, transport, None)
            assert daemon.keeper is not None
            assert daemon.private is not None
            test(daemon, daemon.keeper, daemon.private)

    asyncio.run(whole())


def play(path: Path, *items: str) -> None:
    with StateDirectory.open(path).open_store() as store:
        store.add_interactions(Interaction(ItemKey(item), "play", None, float(i)) for i, item in enumerate(items))


def test_nothing_of_the_ordinary_kind_can_leave(tmp_path: Path) -> None:
    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        assert daemon.peer.private is private
        assert not daemon.ledger.may_contribute
        daemon.peer.tick(daemon.pump.now)
        assert (daemon.peer.rounds, daemon.peer.contributions) == (0, 0)

    on_a_daemon(tmp_path, test, promising())


def test_a_statistic_has_the_history_without_what_is_held_out_or_was_forgotten_just_now(tmp_path: Path) -> None:
    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        play(tmp_path, "0", "1", "3")
        with StateDirectory.open(tmp_path).open_store() as other:
            other.forget(ItemKey("1"))
        keeper.record(1)
        assert np.flatnonzero(keeper.popularity_statistic()).tolist() == [0, 3]
        assert np.linalg.norm(keeper.pair_statistic(np.array([0, 3]), np.full(2, 0.1, np.float32))) <= 1 + 1e-6
        assert daemon.history.training.items.tolist() == [0, 3]

    on_a_daemon(tmp_path, test, promising())
    play(tmp_path / "other", "0", "1", "2", "3", "4")

    def held_out(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        known = set(np.flatnonzero(keeper.popularity_statistic()).tolist())
        assert known == set(daemon.history.training.items.tolist())
        assert not known & set(daemon.history.test_items.tolist())

    on_a_daemon(tmp_path / "other", held_out, promising(), holdout=0.5)


def test_a_history_that_cannot_be_read_is_not_contributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        def fails(*_: object, **__: object) -> None:
            raise StoreError("the disk is full")

        play(tmp_path, "0")
        monkeypatch.setattr(Store, "interactions", fails)
        with pytest.raises(StoreError):
            keeper.record(1)
        assert keeper.ledger.spent_on == frozenset()

    on_a_daemon(tmp_path, test, promising())


def test_results_are_kept_served_and_given_to_the_core_at_the_next_start(tmp_path: Path) -> None:
    manifest = promising()
    play(tmp_path, "0")

    def first(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        assert LiveAnswers(daemon).recommend(1)["recommendations"] == []
        keeper.record(1)
        private.results[1] = SumOutcome(VOTE, 60, 0.001)
        version = daemon.current_version
        daemon._follow_sums()
        assert daemon.current_version > version
        found = LiveAnswers(daemon).recommend(2)["recommendations"]
        assert [one["item"] for one in found] == ["1", "2"]

    on_a_daemon(tmp_path, first, manifest)

    def second(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        np.testing.assert_array_equal(private.results[1].mean, VOTE)
        assert (private.results[1].people, private.selected) == (60, None)
        assert not keeper.ledger.is_open(1)
        with pytest.raises(StoreError):
            keeper.record(1)
        status = LiveAnswers(daemon).status()
        assert status["promise"]["contributed"] == [1]
        assert status["promise"]["sums"]["1"]["enrolled"] == 60
        private._copies.selected = np.array([0, 2, 1])
        private.results[2] = SumOutcome(np.array([0.3, 0, 0.2, 0.3, 0, 0.3], np.float32), 58, 0.001)
        daemon.save()

    on_a_daemon(tmp_path, second, manifest)

    def third(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        assert keeper.model is not None
        assert keeper.model.selected.tolist() == [0, 2, 1]
        assert private.selected is not None
        assert LiveAnswers(daemon).status()["promise"]["stage"] == "learned"

    on_a_daemon(tmp_path, third, manifest)


def test_results_that_could_not_be_saved_are_saved_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = promising()

    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        private.results[1] = SumOutcome(VOTE, 60, 0.001)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save_model", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
            daemon._attempt("sums", daemon._follow_sums)
            assert daemon.current_warnings() == ["the disk is full"]
            assert keeper.model is not None  # it is used all the same
        daemon._attempt("sums", daemon._follow_sums)
        daemon.save()

    on_a_daemon(tmp_path, test, manifest)
    on_a_daemon(tmp_path, lambda daemon, keeper, private: _has(private, 1), manifest)


def _has(private: PrivatePeer, number: int) -> None:
    assert number in private.results


def test_quality_is_measured_by_both_sums(tmp_path: Path) -> None:
    play(tmp_path, "0", "1", "2", "3", "4")

    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        daemon.measure_quality()
        assert daemon.quality is None
        private.results[1] = SumOutcome(VOTE, 60, 0.001)
        daemon._follow_sums()
        daemon.measure_quality()
        assert daemon.quality is not None
        assert daemon.quality.ndcg_at_10 == daemon.quality.popularity_ndcg_at_10 > 0

    on_a_daemon(tmp_path, test, promising(), holdout=0.5)


def test_a_device_enrols_in_a_sum_once_whatever_becomes_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = promising()

    def first(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        assert keeper.enrol(1)
        assert not keeper.enrol(1)
        keeper.ledger.record_sum(2)
        assert not keeper.enrol(2)  # what the ledger knows counts, too

    def second(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        assert not keeper.enrol(1)

    on_a_daemon(tmp_path, first, manifest)
    on_a_daemon(tmp_path, second, manifest)

    def full(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        monkeypatch.setattr(Store, "set_meta", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
        assert not keeper.enrol(1)

    on_a_daemon(tmp_path / "other", full, manifest)


def test_the_sums_follow_the_systems_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        before = daemon.peer.unix_offset_s
        daemon._follow_sums()
        assert daemon.peer.unix_offset_s == before
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 7200)
        daemon._follow_sums()
        assert daemon.peer.unix_offset_s == pytest.approx(before + 7200, abs=1)

    on_a_daemon(tmp_path, test, promising())


def test_who_starts_late_is_told_so(tmp_path: Path) -> None:
    def test(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        daemon.peer.tick(daemon.pump.now)
        daemon._follow_sums()
        assert keeper.notes[1].sat_out == STARTED_LATE
        assert private.sum_peer(1) is None

    on_a_daemon(tmp_path, test, promising(-550.0))  # nearly all of ten minutes


def test_who_starts_while_others_enrol_takes_part_the_first_time(tmp_path: Path) -> None:
    manifest = promising(-30.0)

    def first(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        daemon.peer.tick(daemon.pump.now)
        daemon._follow_sums()
        assert private.sum_peer(1) is not None
        assert keeper.notes[1] == SumNote(enrolled=1)

    def second(daemon: Daemon, keeper: PromiseKeeper, private: PrivatePeer) -> None:
        daemon.peer.tick(daemon.pump.now)
        daemon._follow_sums()
        assert private.sum_peer(1) is None
        assert keeper.notes[1].sat_out == STARTED_LATE

    on_a_daemon(tmp_path, first, manifest)
    on_a_daemon(tmp_path, second, manifest)
