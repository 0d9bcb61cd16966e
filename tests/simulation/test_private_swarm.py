"""A swarm with a promise, of the daemon's own peers over the simulated network: both sums, crashes, returns and newcomers."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack
import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.data.catalogue import Catalogue
from p2prec.manifest import LearningParameters, Manifest, Promise, reference_catalogue
from p2prec.model.pairs import pair_statistic, popularity_statistic
from p2prec.peer.messages import Commit, Refusal
from p2prec.peer.sum_messages import Relayed, Relays
from p2prec.privacy.masks import MaskKey
from p2prec.privacy.plan import PAIRS, POPULARITY, PrivacyPlan
from p2prec.sim.world import SimulatedPeer, World
from p2prec.types import FloatArray, ItemKey
from p2prec.wire.codec import MessageType
from p2prec.wire.sum_kinds import SumKind

N_PEERS, N_ITEMS, N_PEOPLE = 60, 80, 50
PROMISE = Promise(
    epsilon=4.0,
    n_people=N_PEOPLE,
    start=30,
    second_after_s=100.0,
    enrol_s=5.0,
    contribute_s=10.0,
    recover_s=26.0,
    end_s=55.0,
    exchange_s=1.0,
    notice_s=2.0,
    answer_s=2.0,
)
SETTINGS = PeerSettings(
    tick_interval_s=1.0,
    dial_retry_s=2.0,
    target_neighbours=5,
    max_neighbours=8,
    peers_request_every_s=60.0,
    ping_after_s=60.0,
)
CLEAN = 1.35
"""Error over planned noise: sampling, eight bits, and copies that differ a little. One mask that does not cancel adds 3."""


def make_world(seed: int, n_peers: int = N_PEERS) -> World:
    catalogue = Catalogue(tuple(ItemKey(str(i)) for i in range(N_ITEMS)), tuple(f"Film {i}" for i in range(N_ITEMS)))
    manifest = Manifest(
        name="private",
        catalogue=reference_catalogue(catalogue.canonical_csv(), N_ITEMS),
        seed="07" * 32,
        learning=LearningParameters(n_factors=2),
        promise=PROMISE,
    )
    world = World(manifest, catalogue, seed=seed, settings=SETTINGS)
    rng = np.random.default_rng(seed)
    likely = 0.7 / (1 + np.arange(N_ITEMS) / 8)
    for person in range(n_peers):
        world.add(f"10.0.{person // 200}.{person % 200 + 1}", np.flatnonzero(rng.random(N_ITEMS) < likely))
    return world


@dataclass(frozen=True)
class Truth:
    """What a sum should have come to, over those who contributed."""

    mean: FloatArray
    noise_std: float


def truth(world: World, number: int, everybody: list[SimulatedPeer]) -> Truth:
    contributors = [peer for peer in everybody if number in peer.ledger.sums]
    assert contributors
    plan = PrivacyPlan.of(PROMISE.epsilon, PROMISE.delta, PROMISE.n_people)
    if number == POPULARITY:
        statistics = [popularity_statistic(peer.items, N_ITEMS) for peer in contributors]
        noise = plan.popularity
    else:
        statistics = []
        for peer in contributors:
            selected, expected = peer.private.selected, peer.private.expected
            assert selected is not None
            assert expected is not None
            statistics.append(pair_statistic(peer.items, selected, expected, N_ITEMS))
        noise = plan.pairs
    mean = np.mean(statistics, axis=0).astype(np.float32)
    return Truth(mean, noise.independent_std / np.sqrt(len(contributors)))


def error_ratio(world: World, number: int, everybody: list[SimulatedPeer]) -> float:
    """Root mean square error of all living copies over the noise that is meant to be in them."""
    exact = truth(world, number, everybody)
    errors = [peer.private.results[number].mean - exact.mean for peer in world.peers.values()]
    return float(np.sqrt(np.mean(np.square(errors)))) / exact.noise_std


def lists(world: World) -> set[bytes]:
    return {b"" if one.private.selected is None else one.private.selected.tobytes() for one in world.peers.values()}


def test_hostile_neighbours_are_refused_and_banned() -> None:
    """An ordinary exchange, and forged messages that are passed on, cost their sender its connection."""
    world = make_world(6, n_peers=3)
    world.run(PROMISE.start + 1)
    victim, bad, third = world.peers.values()
    link = victim.peer.view.neighbours[bad.peer_id].number
    victim.peer.received(link, Commit(bytes(16)), world.clock.now)
    assert victim.peer.refusals == {Refusal.UNEXPECTED: 1}
    forged = Relayed(third.peer_id, None, POPULARITY, bytes(8), 32, int(SumKind.GONE), b"\x90", bytes(64))
    for _ in range(SETTINGS.refusals_before_ban - 1):
        victim.peer.received(link, Relays((forged,)), world.clock.now)
    assert victim.peer.refusals[Refusal.FORGED] == SETTINGS.refusals_before_ban - 1
    assert bad.peer_id not in victim.peer.view.neighbours
    assert victim.peer.book.is_banned(bad.peer_id, world.clock.now)
    part = victim.private.sum_peer(POPULARITY)
    assert part is not None
    assert third.peer_id not in part.dead


class Forger:
    """Puts messages in others' names among all that one peer passes on: enrolments with a key of its own, contributions, and
    claims to restore whom nobody can.
    """

    def __init__(self, host: str) -> None:
        self.host, self.n_forged = host, 0
        self._key = MaskKey().public

    def tap(self, source: str, target: str, frame: bytes) -> bytes:
        fields = msgpack.unpackb(frame)
        if source != self.host or fields[1] != MessageType.RELAYS:
            return frame
        is_eager, roll, relayed = msgpack.unpackb(fields[3])
        entries = [
            [number, self._enrolled(enrolled), self._contributed(contributed), is_gathered]
            for number, enrolled, contributed, is_gathered in roll
        ]
        claims = [claim for one in relayed for claim in self._claims(one)]
        self.n_forged += len(claims) + sum(len(enrolled) // 161 for _, enrolled, _, _ in roll)
        fields[3] = msgpack.packb([is_eager, [*entries, *roll], [*claims, *relayed]])
        return msgpack.packb(fields)

    def _enrolled(self, rows: bytes) -> bytes:
        """The same peers with another key; signatures backwards."""
        found = (rows[start : start + 161] for start in range(0, len(rows), 161))
        return b"".join(one[:32] + self._key + bytes(32) + one[96:160][::-1] + one[160:] for one in found)

    def _contributed(self, rows: bytes) -> bytes:
        return b"".join(rows[start : start + 32] + bytes(32) for start in range(0, len(rows), 64))

    def _claims(self, entry: bytes) -> list[bytes]:
        """entry: hops, signature, sum, kind, token and origin, and the body."""
        if entry[66] != SumKind.INHERITED:
            return []
        dead, changes = msgpack.unpackb(entry[107:])
        kind, claim = bytes((SumKind.CLAIMED,)), msgpack.packb([dead, changes + 1, True])
        return [entry[:1] + entry[1:65][::-1] + entry[65:66] + kind + entry[67:107] + claim]


def test_whoever_forges_what_it_passes_on_gets_nobody_to_believe_it() -> None:
    world = make_world(9)
    everybody = list(world.peers.values())
    forger = Forger(everybody[7].name)
    world.network.frame_tap = forger.tap
    for n, name in enumerate([peer.name for peer in everybody[10:16]]):
        world.clock.at(PROMISE.start + 12.0 + 2 * n, lambda name=name: world.crash(name))  # type: ignore[misc]
    world.run(PROMISE.start + PROMISE.recover_s - 1)
    parts = {peer.peer_id: part for peer in everybody if (part := peer.private.sum_peer(POPULARITY)) is not None}
    for part in parts.values():
        for partner in part.masked_with:
            assert part.roster.key_with(partner) == parts[partner].roster.key_with(part.own_id)
    assert forger.n_forged > 2 * N_PEERS
    world.run(PROMISE.end_of(POPULARITY) + 3 * PROMISE.notice_s - world.clock.now)
    assert error_ratio(world, POPULARITY, everybody) < CLEAN
    assert all(not peer.peer.refusals for peer in world.peers.values())


def test_a_flood_of_messages_is_refused() -> None:
    world = make_world(7, n_peers=2)
    world.run(PROMISE.start + 1)
    victim, bad = world.peers.values()
    link = victim.peer.view.neighbours[bad.peer_id].number
    for _ in range(200):
        victim.peer.received(link, Relays(()), world.clock.now)
    assert victim.peer.refusals[Refusal.UNEXPECTED] == SETTINGS.refusals_before_ban
    assert not victim.peer.view.neighbours


def test_in_a_swarm_with_a_promise_nothing_else_is_exchanged() -> None:
    world = make_world(8, n_peers=4)
    world.run(PROMISE.start - 1)
    for one in world.peers.values():
        assert one.peer.neighbours
        assert one.ledger.contributions == 0
        assert one.peer.rounds == one.peer.exchanges == 0


def crash(world: World, name: str) -> None:
    if name in world.peers:
        world.crash(name)


def crash_a_tenth(world: World, number: int, *, also_at: tuple[float, ...] = ()) -> None:
    """At random times of a sum, drawn from the world's seed; also_at: one more just then."""
    rng = np.random.default_rng([world.seed, number])
    times = [*rng.uniform(2, PROMISE.end_s - 10, N_PEERS // 10).tolist(), *also_at]
    for name, at in zip(rng.permutation(list(world.peers)).tolist(), times, strict=False):
        world.clock.at(PROMISE.start_of(number) + at, lambda name=name: crash(world, name))  # type: ignore[misc]


def crash_a_pair_amid_its_exchange(world: World, at: float) -> None:
    """Both sides of the first exchange that is open then."""

    def both() -> None:
        for name, one in list(world.peers.items()):
            part = one.private.sum_peer(POPULARITY)
            partner = part.exchanger.partner if part is not None else None
            other = next((name for name, peer in world.peers.items() if peer.peer_id == partner), None)
            if other is not None:
                crash(world, name)
                crash(world, other)
                return
        world.clock.at(world.clock.now + 0.011, both)

    world.clock.at(PROMISE.start_of(POPULARITY) + at, both)


def test_a_sum_in_which_a_tenth_crashes_and_a_pair_dies_amid_its_exchange() -> None:
    """One more dies just after it has contributed, when nobody but its sealed box has what it gave."""
    world = make_world(3)
    everybody = list(world.peers.values())
    crash_a_tenth(world, POPULARITY, also_at=(PROMISE.contribute_s + 0.7,))
    crash_a_pair_amid_its_exchange(world, 18.0)
    world.run(PROMISE.start_of(POPULARITY) + PROMISE.end_s + 8 * PROMISE.notice_s)
    assert len(world.peers) in (N_PEERS - 9, N_PEERS - 8), "one of the pair may be of the tenth"
    assert error_ratio(world, POPULARITY, everybody) < CLEAN
    assert not any(one.private.results[POPULARITY].is_void for one in world.peers.values())
    assert all(one.peer.refusals.total() == 0 for one in world.peers.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_both_sums_with_a_tenth_crashing_in_each(seed: int) -> None:
    world = make_world(seed)
    everybody = list(world.peers.values())
    for number in (POPULARITY, PAIRS):
        crash_a_tenth(world, number)
    world.run(PROMISE.end_of(PAIRS) + 5)
    assert len(lists(world)) == 1
    for number in (POPULARITY, PAIRS):
        assert error_ratio(world, number, everybody) < CLEAN


@pytest.mark.slow
def test_those_who_restart_and_newcomers_get_the_results() -> None:
    """A restarted peer takes no part in the sum under way, even if it had; it does in the next one."""
    world = make_world(2)
    everybody = list(world.peers.values())
    names = list(world.peers)[5:8]

    def restart(name: str) -> None:
        world.crash(name)
        again = world.add(name, next(one.items for one in everybody if one.name == name))
        everybody.append(again)

    for name, at in zip(names, (7.0, 18.0, 30.0), strict=True):
        world.clock.at(PROMISE.start + at, lambda name=name: restart(name))  # type: ignore[misc]
    world.clock.at(PROMISE.end_of(PAIRS) + 5, lambda: everybody.append(world.add("10.9.9.9")))
    world.run(PROMISE.end_of(PAIRS) + 20)
    for name in names:
        again = world.peers[name]
        assert again.ledger.sums == [PAIRS]
        assert not again.private.results[POPULARITY].is_own
    newcomer = world.peers["10.9.9.9"]
    assert newcomer.ledger.sums == []
    assert not newcomer.private.results[PAIRS].is_own
    assert len(lists(world)) == 1
    for number in (POPULARITY, PAIRS):
        assert error_ratio(world, number, everybody) < CLEAN


@pytest.mark.slow
def test_nothing_of_a_person_leaves_before_its_ledger_row() -> None:
    """Who cannot write its ledger contributes nothing, and gets the result all the same."""
    world = make_world(4)
    everybody = list(world.peers.values())
    full = everybody[7]
    full.ledger.fail = True
    world.run(PROMISE.start_of(POPULARITY) + PROMISE.contribute_s + 5)
    part = full.private.sum_peer(POPULARITY)
    assert part is not None
    assert "ledger" in part.sat_out
    assert part.masked_with == frozenset()
    assert all(full.peer_id not in one.private.sum_peer(POPULARITY).masked_with for one in everybody)  # type: ignore[union-attr]
    world.run(PROMISE.end_s)
    assert error_ratio(world, POPULARITY, everybody) < CLEAN


@pytest.mark.slow
def test_a_graceful_stop_hands_over() -> None:
    world = make_world(5)
    everybody = list(world.peers.values())
    leaver = everybody[9]

    def stop() -> None:
        leaver.peer.leave(world.clock.now)
        leaver.carry_out()
        world.clock.at(world.clock.now + 0.5, lambda: crash(world, leaver.name))

    world.clock.at(PROMISE.start + 20.3, stop)
    world.run(PROMISE.start + PROMISE.end_s + 3 * PROMISE.notice_s)
    assert error_ratio(world, POPULARITY, everybody) < CLEAN


@pytest.mark.slow
@pytest.mark.parametrize(("cut_s", "is_dead"), [(0.8, False), (12.0, True)])
def test_who_is_cut_off_for_a_while_kills_nobody(cut_s: float, is_dead: bool) -> None:
    """For a moment: nothing happens. For longer: it is held for dead, hears of it, and gets the result from a neighbour."""
    world = make_world(9)
    everybody = list(world.peers.values())
    cut = everybody[5:8]

    def part() -> None:
        names = {one.name for one in cut}
        for name in names:
            world.network.partition({name}, set(world.peers) - {name})
        world.clock.at(world.clock.now + cut_s, world.network.heal)

    world.clock.at(PROMISE.start + 20.0, part)
    world.run(PROMISE.start + PROMISE.end_s - 1)
    ids = {one.peer_id for one in cut}
    for one in everybody:
        seen = one.private.sum_peer(POPULARITY)
        assert seen is not None
        if one not in cut:
            assert seen.dead == (ids if is_dead else set())
        assert seen.declared_dead == (is_dead and one in cut)
    world.run(6 * PROMISE.notice_s)
    assert error_ratio(world, POPULARITY, everybody) < CLEAN
    assert all(one.private.results[POPULARITY].is_own == (one not in cut or not is_dead) for one in everybody)


@pytest.mark.slow
def test_everybody_gets_both_sums() -> None:
    world = make_world(1)
    everybody = list(world.peers.values())
    world.run(PROMISE.end_of(PAIRS) + 5)
    assert all(peer.ledger.sums == [POPULARITY, PAIRS] for peer in everybody)
    assert len(lists(world)) == 1
    for number in (POPULARITY, PAIRS):
        assert error_ratio(world, number, everybody) < CLEAN
    assert all(peer.peer.refusals.total() == 0 for peer in everybody)
