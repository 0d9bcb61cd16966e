"""A swarm of whole daemons with a promise, stores and ledgers on disk, over a network in memory and a clock that jumps.

As few people as there may be, both sums, one daemon that is killed in the middle of each, and one that comes when all is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2prec.api.live import LiveAnswers
from p2prec.api.privacy import privacy_report
from p2prec.config import DaemonSettings, PeerSettings
from p2prec.daemon import promise
from p2prec.daemon.daemon import Daemon, load
from p2prec.data.catalogue import Catalogue
from p2prec.data.interactions import Interaction
from p2prec.identity import Identity
from p2prec.manifest import LearningParameters, Manifest, Promise, reference_catalogue
from p2prec.privacy.plan import COLLUDING
from p2prec.privacy.promise import FEWEST_PEOPLE
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.transport.memory import MemoryNetwork, MemoryTransport
from p2prec.types import ItemKey
from p2prec.wire.seal import Seal
from p2prec.wire.signatures import Signatures

N_PEOPLE = FEWEST_PEOPLE + 2
N_ITEMS = 40
EPOCH = 1_900_000_000.0
PROMISE = Promise(
    epsilon=20.0,
    n_people=FEWEST_PEOPLE - COLLUDING,
    start=round(EPOCH) + 20,
    second_after_s=95.0,
    enrol_s=6.0,
    contribute_s=12.0,
    recover_s=23.0,
    end_s=50.0,
    exchange_s=1.2,
    notice_s=3.0,
    answer_s=3.0,
)
PEER = PeerSettings(
    tick_interval_s=1.0,
    dial_retry_s=2.0,
    target_neighbours=4,
    max_neighbours=6,
    peers_request_every_s=10.0,
    ping_after_s=30.0,
)


class JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: what it would wait for has come, `now` says when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        assert ready or timeout is not None, "nothing will ever happen again"
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that is always at the next thing to do."""

    def __init__(self) -> None:
        self.selector = JumpingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class Swarm:
    """The daemons, and what a test does to them."""

    def __init__(self, folder: Path) -> None:
        catalogue = Catalogue(
            tuple(ItemKey(f"i{n}") for n in range(N_ITEMS)), tuple(f"Film {n}" for n in range(N_ITEMS))
        )
        self.manifest = Manifest(
            name="promise",
            catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS),
            seed="07" * 32,
            learning=LearningParameters(n_factors=2),
            promise=PROMISE,
        )
        self.daemons: dict[int, Daemon] = {}
        self._folder, self._network = folder, MemoryNetwork()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._transports: dict[int, MemoryTransport] = {}
        self._known: list[tuple[str, int]] = []

    def directory(self, person: int) -> StateDirectory:
        return StateDirectory.open(self._folder / str(person))

    async def start(self, person: int) -> Daemon:
        directory, host = self.directory(person), f"10.0.0.{person + 1}"
        if not directory.identity_path.exists():
            # By chance, two identities in a thousand find too few mask partners, and would sit out.
            Identity.from_seed(bytes([person]) * 32).save(directory.identity_path)
        if directory.join(Invitation(self.manifest, None)):
            with directory.open_store() as store:
                store.add_interactions(Interaction(ItemKey(f"i{n}"), "play", None, 1.0 + n) for n in items_of(person))
        loaded = load(directory)
        transport = self._network.transport(loaded.identity.peer_id, self.manifest.swarm_id, host=host)
        settings = DaemonSettings(listen_host=host, mdns=False, static_peers=tuple(self._known[:2]), peer=PEER)
        daemon = Daemon(loaded, settings, transport, None, lambda event: None)
        self.daemons[person], self._transports[person] = daemon, transport
        self._running[person] = asyncio.create_task(daemon.run())
        await daemon.listening.wait()
        self._known.append((host, transport.listen_port))
        return daemon

    async def kill(self, person: int) -> None:
        """As kill -9 does: nothing is said to anybody, and nothing is saved."""
        daemon = self.daemons.pop(person)
        setattr(daemon, "save", lambda: None)  # noqa: B010
        self._running[person].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running.pop(person)
        await self._transports.pop(person).close()
        daemon.store.close()

    async def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.stop()
        await asyncio.gather(*self._running.values())
        for daemon in self.daemons.values():
            daemon.store.close()

    async def until(self, at: float) -> None:
        """at: seconds after the promise's start."""
        await asyncio.sleep(PROMISE.start + at - time.time())

    def count(self, what: Callable[[Daemon], Any]) -> Counter[Any]:
        return Counter(what(daemon) for daemon in self.daemons.values())


def items_of(person: int) -> list[int]:
    """Even people like even films, odd ones odd films; of each kind the first ones are the most popular."""
    rng = np.random.default_rng(person)
    likes = 0.9 / (1 + np.arange(N_ITEMS) / 30)
    same = np.arange(N_ITEMS) % 2 == person % 2
    return [int(n) for n in np.flatnonzero(rng.random(N_ITEMS) < np.where(same, likes, likes / 12))]


def n_known(daemon: Daemon) -> int:
    assert daemon.keeper is not None
    return daemon.keeper.results.n_known


async def play(swarm: Swarm) -> None:
    for person in range(N_PEOPLE):
        await swarm.start(person)
    await swarm.until(PROMISE.enrol_s)
    enrolled = LiveAnswers(swarm.daemons[7]).status()["promise"]
    assert enrolled["text"].startswith(f"sum 1 of 2 (what is popular): {N_PEOPLE} of {FEWEST_PEOPLE} people")

    await swarm.until(PROMISE.contribute_s + 8)
    rows = swarm.daemons[3].store.ledger_numbers(swarm.manifest.swarm_id)
    assert rows == [1]
    await swarm.kill(3)
    again = await swarm.start(3)
    assert again.keeper is not None
    assert not again.keeper.ledger.is_open(1)

    await swarm.until(PROMISE.second_after_s - 5)
    assert swarm.count(n_known) == {1: N_PEOPLE}
    found = LiveAnswers(swarm.daemons[3]).recommend(3)
    assert len(found["recommendations"]) == 3
    assert "when tastes follow" in found["note"]

    await swarm.until(PROMISE.second_after_s + PROMISE.contribute_s + 8)
    await swarm.kill(5)
    await swarm.start(5)
    await swarm.until(PROMISE.second_after_s + PROMISE.end_s + PROMISE.again_s + 5)
    newcomer = await swarm.start(N_PEOPLE)
    await asyncio.sleep(25)
    assert swarm.count(n_known) == {2: N_PEOPLE + 1}
    assert newcomer.store.ledger_numbers(swarm.manifest.swarm_id) == []


def check_ledgers(swarm: Swarm) -> None:
    """Everybody has given to both sums, once each, and spent the promise, also those who were killed."""
    for person in range(N_PEOPLE):
        directory = swarm.directory(person)
        report = privacy_report(directory)
        assert report["spent"]["epsilon"] == pytest.approx(PROMISE.epsilon, rel=1e-9)
        assert [one["contributed"] for one in report["sums"]] == [True, True]
        with directory.open_store() as store:
            assert store.ledger_numbers(swarm.manifest.swarm_id) == [1, 2]
        assert directory.ledger_mark().contributions(swarm.manifest.swarm_id) == 2


def check_recommendations(swarm: Swarm) -> None:
    """Tastes are told apart, by the copies of all, with reasons."""
    outcomes: Counter[Any] = Counter()
    for daemon in swarm.daemons.values():
        assert daemon.private is not None
        for number, one in daemon.private.results.items():
            outcomes[number, f"{one.people} people", one.is_void, one.mixed_again, one.is_own] += 1
    own_kind, reasons = [], 0
    for person, daemon in swarm.daemons.items():
        answers = LiveAnswers(daemon)
        status = answers.status()["promise"]
        assert status["stage"] == "learned"
        assert not any(note["is_void"] for note in status["sums"].values()), outcomes
        found = answers.recommend(5)["recommendations"]
        own_kind += [int(one["item"][1:]) % 2 == person % 2 for one in found]
        reasons += sum(one["reason"].startswith("because you liked") for one in found)
        assert daemon.pump.internal_errors == 0
    assert np.mean(own_kind) > 0.75  # by popularity it is a half
    assert reasons > len(swarm.daemons)


@pytest.mark.slow
def test_the_fewest_people_keep_their_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, signatures = JumpingLoop(), Signatures()
    monkeypatch.setattr(time, "time", lambda: EPOCH + loop.time() - 1000.0)
    # What one daemon has found to be signed by its origin the others need not verify: half of the test's time.
    monkeypatch.setattr(promise, "Seal", functools.partial(Seal, signatures=signatures))

    async def whole() -> None:
        swarm = Swarm(tmp_path)
        await play(swarm)
        check_recommendations(swarm)
        await swarm.stop()
        check_ledgers(swarm)

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()
