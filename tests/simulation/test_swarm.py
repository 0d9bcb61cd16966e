"""Whole swarms of production peers on a virtual clock: they meet, mix, survive faults, and replay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.peer.events import (
    ExchangeDone,
    IdentityConflict,
    IdentityConflictOver,
    LedgerFailed,
    NeighbourDown,
    NeighbourUp,
    PeerBanned,
)
from p2prec.sim.world import SimulatedPeer, World

MakeWorld = Callable[..., World]


def events_of(peer: SimulatedPeer, kind: type) -> list[object]:
    return [event for _, event in peer.events if isinstance(event, kind)]


def total_gradient(world: World) -> np.ndarray:
    """The swarm's sum at a moment when no exchange is half done."""
    for _ in range(10_000):
        if not any(p.peer.in_doubt for p in world.peers.values()):
            break
        world.run(0.001)
    else:
        raise AssertionError("the swarm never came to rest")
    return np.sum([p.learner.state.gradient.astype(np.float64) for p in world.peers.values()], axis=0)


def test_peers_that_are_sighted_meet_and_learn(make_world: MakeWorld) -> None:
    world = make_world(12)
    world.run(60)
    for peer in world.peers.values():
        assert 8 <= len(peer.peer.neighbours) <= 11
        assert peer.peer.rounds >= 50
        assert peer.learner.age >= 45
        assert peer.ledger.contributions == peer.peer.contributions > 0
    factors = np.array([p.learner.state.item_factors for p in world.peers.values()])
    assert np.std(factors, axis=0).mean() < 0.3 * np.std(factors.mean(axis=0))  # six levels keep copies apart a little


def test_view_does_not_exceed_its_bound(make_world: MakeWorld) -> None:
    world = make_world(30, settings=PeerSettings(target_neighbours=4, max_neighbours=6))
    world.run(40)
    sizes = [len(peer.peer.neighbours) for peer in world.peers.values()]
    assert min(sizes) >= 3
    assert max(sizes) <= 6


def test_a_pair_keeps_one_connection(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.run(20)
    for peer in world.peers.values():
        assert len(peer.peer.view.links) == 1
        assert len(peer.peer.neighbours) == 1


def test_same_seed_replays_to_the_byte(make_world: MakeWorld) -> None:
    def trace(seed: int) -> tuple[list[bytes], list[tuple[float, object]]]:
        world = make_world(6, seed=seed)
        frames: list[bytes] = []
        world.network.frame_tap = lambda _source, _target, frame: frames.append(frame) or frame
        world.run(15)
        return frames, [event for peer in world.peers.values() for event in peer.events]

    assert trace(1) == trace(1)
    assert trace(1)[0] != trace(2)[0]


def test_exchanges_conserve_the_sum(make_world: MakeWorld) -> None:
    """With contributions held back, only exchanges and steps happen: the swarm's gradient sum must not move."""
    world = make_world(8)
    world.run(10)
    for peer in world.peers.values():
        peer.ledger.limit = 0
    before, exchanges = total_gradient(world), sum(p.peer.exchanges for p in world.peers.values())
    world.run(30)
    assert sum(p.peer.exchanges for p in world.peers.values()) > exchanges + 100
    np.testing.assert_allclose(total_gradient(world), before, atol=1e-4)


def test_a_lost_commit_is_resolved_at_the_next_meeting(make_world: MakeWorld) -> None:
    """The connection breaks exactly when the commit is sent: the responder asks when they meet again, and the sum holds."""
    world = make_world(2)
    world.run(10)
    for peer in world.peers.values():
        peer.ledger.limit = 0
    before = total_gradient(world)
    lost = 0

    def tap(_source: str, _target: str, frame: bytes) -> bytes | None:
        nonlocal lost
        if lost < 3 and frame[2] == 4:  # [version, type = COMMIT, ...]
            lost += 1
            return None
        return frame

    world.network.frame_tap = tap
    world.run(60)
    assert lost == 3
    assert not any(peer.peer.in_doubt for peer in world.peers.values())
    np.testing.assert_allclose(total_gradient(world), before, atol=1e-5)
    three_messages_s = 3 * world.network.latency_s[1]
    done = [e for p in world.peers.values() for e in events_of(p, ExchangeDone)]
    assert any(not e.initiated and e.seconds > 2 * three_messages_s for e in done)


def test_crash_is_noticed_and_survivors_go_on(make_world: MakeWorld) -> None:
    world = make_world(8)
    world.run(10)
    dead = [world.crash(name) for name in list(world.peers)[:3]]
    rounds = {name: p.peer.rounds for name, p in world.peers.items()}
    world.run(60)
    for name, peer in world.peers.items():
        assert peer.peer.rounds > rounds[name] + 50
        assert not {p.peer_id for p in dead} & set(peer.peer.view.neighbours)
        assert events_of(peer, NeighbourDown)


def test_partition_heals_without_help(make_world: MakeWorld) -> None:
    world = make_world(8)
    world.run(10)
    names = list(world.peers)
    one, other = set(names[:4]), set(names[4:])
    world.network.partition(one, other)
    world.run(30)
    assert all(set(self_neighbours(world, n)) <= (one if n in one else other) for n in names)
    world.network.heal()
    world.run(120)
    assert all(len(self_neighbours(world, n)) == 7 for n in names)


@pytest.mark.parametrize("cut_s", [60, 600])
def test_halves_that_have_filled_their_views_grow_together_again(make_world: MakeWorld, cut_s: float) -> None:
    """A swarm of many more than a view holds: nobody lacks a neighbour while it is cut, and yet it must not stay two."""
    settings = PeerSettings(target_neighbours=4, max_neighbours=12, dial_retry_max_s=60.0)
    world = make_world(20, settings=settings, round_interval_s=60.0)
    one, other = set(list(world.peers)[::2]), set(list(world.peers)[1::2])

    def links_across() -> int:
        return sum(neighbour in other for name in one for neighbour in self_neighbours(world, name))

    def degree() -> float:
        return sum(len(self_neighbours(world, name)) for name in world.peers) / len(world.peers)

    world.run(30)
    before = links_across()
    world.network.partition(one, other)
    world.run(cut_s)
    assert links_across() == 0
    assert min(len(self_neighbours(world, name)) for name in world.peers) >= 4
    world.network.heal()
    world.run(90)
    assert links_across() >= before / 2
    assert degree() <= 2 * settings.target_neighbours
    world.run(1200)  # rotation
    assert degree() <= 1.75 * settings.target_neighbours


def self_neighbours(world: World, name: str) -> list[str]:
    return [link.host for link in world.peers[name].peer.neighbours]


def test_silent_neighbour_is_pinged_and_dropped(make_world: MakeWorld) -> None:
    """A host that stays connected and says nothing (frozen, cable pulled) is noticed by deadline, not by TCP."""
    world = make_world(3)
    world.run(10)
    frozen = next(iter(world.peers.values()))
    frozen.alive = False  # no more ticks
    frozen.opened = frozen.frame_received = lambda *_, **__: None  # type: ignore[method-assign]
    world.run(60)
    for peer in list(world.peers.values())[1:]:
        assert frozen.peer_id not in peer.peer.view.neighbours
        assert len(peer.peer.neighbours) == 1


def test_restarted_peer_replaces_its_old_connection(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.run(10)
    name = next(iter(world.peers))
    world.crash(name)
    again = world.add(f"{name}-again", identity_of=name)
    world.run(30)
    assert len(again.peer.neighbours) == 2
    for peer in world.peers.values():
        assert not events_of(peer, IdentityConflict)


def test_copied_identity_is_told_on_both_machines_and_stops_exchanging(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.run(10)
    name, original = next(iter(world.peers.items()))
    double = world.add("copy", identity_of=name)
    world.run(30)
    for peer in (original, double):
        assert any(e.proven for e in events_of(peer, IdentityConflict))
        assert peer.peer.conflict_host is not None
    exchanges = original.peer.exchanges, double.peer.exchanges
    world.run(30)
    assert (original.peer.exchanges, double.peer.exchanges) == exchanges
    world.crash("copy")
    world.run(300)
    assert events_of(original, IdentityConflictOver)
    assert original.peer.exchanges > exchanges[0]


def test_newcomer_takes_over_what_the_swarm_has_learned(make_world: MakeWorld) -> None:
    world = make_world(8)
    world.run(60)
    mature = np.mean([p.learner.state.item_factors for p in world.peers.values()], axis=0)
    newcomer = world.add("newcomer")
    started = np.linalg.norm(newcomer.learner.state.item_factors - mature)
    world.run(5)
    assert np.linalg.norm(newcomer.learner.state.item_factors - mature) < 0.4 * started  # it heard few, at six levels
    after = np.mean([p.learner.state.item_factors for n, p in world.peers.items() if n != "newcomer"], axis=0)
    assert np.linalg.norm(after - mature) < 0.2 * started


def test_full_disk_means_no_contribution_but_learning_goes_on(make_world: MakeWorld) -> None:
    world = make_world(4)
    victim = next(iter(world.peers.values()))
    victim.ledger.fail = True
    world.run(30)
    assert victim.ledger.contributions == 0
    assert events_of(victim, LedgerFailed)
    assert victim.learner.age > 20


def test_forged_frames_cost_the_sender_its_connection(make_world: MakeWorld) -> None:
    world = make_world(3, seed=1)  # one in which it speaks to both often enough before their pings give it up
    world.run(5)
    villain = next(iter(world.peers))

    def tap(source: str, _target: str, frame: bytes) -> bytes:
        return frame[:-1] + bytes([frame[-1] ^ 1]) if source == villain else frame

    world.network.frame_tap = tap
    world.run(40)
    for name, peer in world.peers.items():
        if name != villain:
            # The first forged frame breaks the order for all that follow it on the connection.
            assert peer.peer.refusals["forged"] >= 1
            assert peer.peer.refusals.total() >= 5
            assert events_of(peer, PeerBanned)
            assert world.peers[villain].peer_id not in peer.peer.view.neighbours
    ups = len(events_of(world.peers[list(world.peers)[1]], NeighbourUp))
    world.run(60)  # and it stays away while the ban lasts
    assert len(events_of(world.peers[list(world.peers)[1]], NeighbourUp)) == ups
