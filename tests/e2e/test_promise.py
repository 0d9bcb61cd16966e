"""A swarm with a promise, of real daemons over TLS: as few as there may be, both sums, and one of them killed in the middle.

All but that one are in this process. Deadlines are those of the promise's timetable, by a clock that waits for slow machines.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from devices import LOOPBACK, QUICK, Device, MakeDevice, make_manifest
from swarm_clock import SwarmClock, SwarmLoop

from p2prec.api.live import LiveAnswers
from p2prec.config import DaemonSettings
from p2prec.daemon.daemon import Daemon, load, open_daemon
from p2prec.data.interactions import Interaction
from p2prec.identity import Identity
from p2prec.manifest import Manifest, Promise
from p2prec.privacy.masks import are_partners
from p2prec.privacy.plan import MEAN_PARTNERS, MIN_PARTNERS
from p2prec.privacy.promise import FEWEST_PEOPLE
from p2prec.storage.invitation import Invitation
from p2prec.storage.state import StateDirectory
from p2prec.types import ItemKey, SwarmId

N_HOSTED = FEWEST_PEOPLE + 2
"""In this process; with the killed one there are three more than it takes, so that it may be missing."""
PREPARE_S = 20
"""To meet; what a machine takes to make all state directories is not counted."""
N_ITEMS = 60
SETTINGS = msgspec.structs.replace(
    QUICK,
    tick_interval_s=0.5,
    hello_deadline_s=10.0,
    ping_after_s=10.0,
    ping_deadline_s=10.0,
    peers_request_every_s=2.0,
)
"""Patience with a machine whose core 56 daemons share."""


def make_promise() -> Promise:
    return Promise(
        epsilon=20.0,
        n_people=FEWEST_PEOPLE - 3,
        start=round(time.time() + PREPARE_S),
        enrol_s=10.0,
        contribute_s=15.0,
        recover_s=21.0,
        end_s=45.0,
        second_after_s=80.0,
        exchange_s=0.8,
        notice_s=5.0,
        answer_s=5.0,
    )


def items_of(person: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Even people like even films, odd ones odd films; of each kind the first ones are the most popular."""
    rng = np.random.default_rng(person)
    likes = 0.9 / (1 + np.arange(N_ITEMS) / 30)
    return np.flatnonzero(rng.random(N_ITEMS) < np.where(np.arange(N_ITEMS) % 2 == person % 2, likes, likes / 12))


def host(path: Path, person: int, manifest: Manifest, secret: bytes | None, known: list[tuple[str, int]]) -> Daemon:
    directory = StateDirectory.open(path)
    identity_of(person).save(directory.identity_path)
    directory.join(Invitation(manifest, secret))
    loaded = load(directory)
    loaded.store.add_interactions(Interaction(ItemKey(f"i{n}"), "play", None, 1.7e9 + n) for n in items_of(person))
    settings = DaemonSettings(listen_host=LOOPBACK, mdns=False, peer=SETTINGS, static_peers=tuple(known))
    return open_daemon(loaded, settings, None, lambda event: None)


def identity_of(person: int) -> Identity:
    return Identity.from_seed(bytes([person]) * 32)


def make_swarm() -> Manifest:
    """One in which everybody finds mask partners enough: by chance, a few in a thousand do not, and would sit out."""
    people = [identity_of(person).peer_id for person in range(N_HOSTED + 1)]
    promise = make_promise()
    for seed in range(100):
        manifest = msgspec.structs.replace(make_manifest("promise", seed=f"{seed:02x}"), promise=promise)
        fewest = min(
            sum(are_partners(manifest.swarm_id, k, one, other, MEAN_PARTNERS, promise.n_people) for other in people)
            for one in people
            for k in (1, 2)
        )
        if fewest >= MIN_PARTNERS + 2:
            return manifest
    raise AssertionError


async def until(condition: Callable[[], bool], at: float, what: str, daemons: list[Daemon]) -> None:
    """Wait until the condition holds. Fails when the swarm's clock says `at`."""
    while not condition():
        assert time.time() < at, f"not in time: {what}; {situation(daemons)}"
        await asyncio.sleep(0.2)


def situation(daemons: list[Daemon]) -> Counter[str]:
    """How many daemons are how far."""
    found: Counter[str] = Counter()
    for daemon in daemons:
        assert daemon.keeper is not None
        notes = {number: note.sat_out for number, note in daemon.keeper.notes.items()}
        found[
            f"knows {daemon.keeper.results.n_known}, spent on {sorted(daemon.keeper.ledger.spent_on)}, sat out {notes}"
        ] += 1
    return found


async def scenario(folder: Path, victim: Device, manifest: Manifest) -> None:
    daemons: list[Daemon] = []
    running: list[asyncio.Task[None]] = []
    try:
        await play(folder, victim, manifest, daemons, running)
    finally:
        for daemon in daemons:
            daemon.stop()
        await asyncio.gather(*running)


async def play(
    folder: Path, victim: Device, manifest: Manifest, daemons: list[Daemon], running: list[asyncio.Task[None]]
) -> None:
    promise = manifest.promise
    assert promise is not None
    known: list[tuple[str, int]] = []
    for person in range(N_HOSTED):
        daemon = host(folder / f"peer-{person}", person, manifest, None, known[:3])
        daemons.append(daemon)
        running.append(asyncio.create_task(daemon.run()))
        await daemon.listening.wait()
        known.append((LOOPBACK, int(daemon.listen_address.rpartition(":")[2])))
    victim.log_plays(items_of(N_HOSTED).tolist())
    await asyncio.to_thread(lambda: victim.serve(*known[:3], quick=SETTINGS))
    assert time.time() < promise.start, "it took too long to meet"

    final = promise.end_of(1) + 4 * promise.notice_s
    await until(
        lambda: recorded(victim, manifest.swarm_id) == [1], promise.start + promise.end_s, "it contributes", daemons
    )
    victim.kill()
    await asyncio.to_thread(lambda: victim.serve(*known[:3], quick=SETTINGS))
    await until(lambda: all(d.keeper and d.keeper.results.n_known for d in daemons), final, "the first sum", daemons)
    for answer in (LiveAnswers(daemon).recommend(5) for daemon in daemons):
        assert len(answer["recommendations"]) == 5
        assert "when tastes follow" in answer["note"]

    final = promise.end_of(2) + 4 * promise.notice_s
    await until(lambda: all(d.keeper and d.keeper.results.n_known == 2 for d in daemons), final, "both sums", daemons)
    await asyncio.to_thread(
        lambda: victim.until(lambda status: status["promise"]["stage"] == "learned", "has asked for what it missed")
    )
    check_results(daemons)
    check_ledgers(daemons, victim, manifest)


def recorded(device: Device, swarm_id: SwarmId) -> list[int]:
    with device.directory.open_store() as store:
        return store.ledger_numbers(swarm_id)


def check_results(daemons: list[Daemon]) -> None:
    """Tastes are told apart: nearly all that is recommended is of one's own kind, for reasons that are."""
    own_kind, reasons = [], 0
    for person, daemon in enumerate(daemons):
        answers = LiveAnswers(daemon)
        status = answers.status()["promise"]
        assert status["stage"] == "learned"
        assert not any(note["is_void"] for note in status["sums"].values())
        found = answers.recommend(5)["recommendations"]
        own_kind += [int(one["item"][1:]) % 2 == person % 2 for one in found]
        reasons += sum(one["reason"].startswith("because you liked") for one in found)
    assert np.mean(own_kind) > 0.75  # by popularity it is a half
    assert reasons > len(daemons)


def check_ledgers(daemons: list[Daemon], victim: Device, manifest: Manifest) -> None:
    """Everybody has spent the promise, no more, on two sums."""
    assert manifest.promise is not None
    for daemon in daemons:
        assert daemon.store.ledger_numbers(manifest.swarm_id) == [1, 2]
        assert daemon.ledger.epsilon_spent == pytest.approx(manifest.promise.epsilon, rel=1e-9)
        assert daemon.pump.internal_errors == 0
    log = victim.log_text()
    assert log.count("contributing to sum 1 of 2") == 1
    assert log.count("contributing to sum 2 of 2") <= 1
    assert recorded(victim, manifest.swarm_id) in ([1], [1, 2])


@pytest.mark.slow
def test_the_fewest_people_keep_a_promise_and_one_is_killed(
    tmp_path: Path, make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SwarmClock(tmp_path / "clock", owned=True)
    monkeypatch.setattr(time, "time", clock.now)
    manifest = make_swarm()
    victim = make_device("victim", joined=None)
    victim.on_machine = clock.before_command()
    identity_of(N_HOSTED).save(victim.directory.identity_path)
    victim.join(manifest)
    loop = SwarmLoop(clock)
    try:
        loop.run_until_complete(scenario(tmp_path, victim, manifest))
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
