"""Random faults from one seed: restarts, partitions, lost frames, machines that freeze. Safety all along, liveness afterwards."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from p2prec.config import PeerSettings
from p2prec.manifest import Manifest
from p2prec.peer.events import IdentityConflict, PeerBanned
from p2prec.peer.exchange import MAX_IN_DOUBT
from p2prec.sim.world import SimulatedPeer, World

N_PEERS = 7
FAULTS = 60
SETTINGS = PeerSettings(dial_retry_max_s=60.0)
MakeWorld = Callable[..., World]


@pytest.fixture
def manifest(manifest: Manifest) -> Manifest:
    """Rounds of 5 s: faults strike between them as well as within."""
    return msgspec.structs.replace(manifest, learning=msgspec.structs.replace(manifest.learning, round_interval_s=5.0))


class Faults:
    """Breaks a world, one random thing at a time."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = np.random.default_rng([seed, 2])
        self.loss = 0.0
        self.restarts = 0
        world.network.frame_tap = lambda _source, _target, frame: None if self.rng.random() < self.loss else frame

    def one(self) -> None:
        kinds = (self.restart, self.restart, self.partition, self.heal, self.heal, self.lose_frames, self.freeze)
        kinds[int(self.rng.integers(len(kinds)))]()

    def restart(self) -> None:
        """A crash; the same identity is back, on another address, with the ledger that it had and nothing else."""
        name = str(self.rng.choice(list(self.world.peers)))
        old = self.world.crash(name)
        self.world.run(float(self.rng.uniform(0.0, 3.0)))
        self.restarts += 1
        base = name.partition("+")[0]
        peer = self.world.add(f"{base}+{self.restarts}", identity_of=base)
        peer.ledger.contributions = old.ledger.contributions

    def partition(self) -> None:
        names = list(self.world.peers)
        cut = int(self.rng.integers(1, len(names)))
        order = [str(name) for name in self.rng.permutation(names)]
        self.world.network.partition(set(order[:cut]), set(order[cut:]))

    def heal(self) -> None:
        self.world.network.heal()

    def lose_frames(self) -> None:
        self.loss = float(self.rng.choice([0.0, 0.002, 0.02]))

    def freeze(self) -> None:
        """A laptop sleeps: no tick for a while, then one that is late."""
        core = self.world.peers[str(self.rng.choice(list(self.world.peers)))].peer
        wake_at = self.world.clock.now + float(self.rng.uniform(2.0, 60.0))
        tick, next_deadline = core.tick, core.next_deadline

        def late(now: float) -> None:
            if now >= wake_at:
                tick(now)

        core.tick = late  # type: ignore[method-assign]
        core.next_deadline = lambda: max(next_deadline(), wake_at)  # type: ignore[method-assign]

    def stop(self) -> None:
        self.loss = 0.0
        self.heal()


def check_safety(peer: SimulatedPeer, *, max_neighbours: int) -> None:
    core = peer.peer
    assert core.refusals == {}, "honest peers refuse nothing of each other's"
    assert not [e for _, e in peer.events if isinstance(e, PeerBanned)]
    assert not [e for _, e in peer.events if isinstance(e, IdentityConflict) and e.proven], "a restart is no double"
    assert len(core.neighbours) <= max_neighbours
    assert core.in_doubt <= MAX_IN_DOUBT
    assert core.contributions == peer.ledger.contributions
    for link in core.neighbours:
        assert core.view.links[link.number] is link
    for table in ("item_factors", "gradient", "evidence", "gram"):
        assert np.isfinite(getattr(peer.learner.state, table)).all()


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_a_swarm_outlives_random_faults(make_world: MakeWorld, seed: int) -> None:
    world = make_world(N_PEERS, seed=seed, settings=SETTINGS)
    faults = Faults(world, seed)
    for _ in range(FAULTS):
        world.run(float(faults.rng.uniform(0.0, 4.0)))
        faults.one()
        for peer in world.peers.values():
            check_safety(peer, max_neighbours=world.settings.max_neighbours)
    faults.stop()
    world.run(2 * SETTINGS.dial_retry_max_s)
    exchanges = {name: peer.peer.exchanges for name, peer in world.peers.items()}
    world.run(60.0)
    for name, peer in world.peers.items():
        check_safety(peer, max_neighbours=world.settings.max_neighbours)
        assert len(peer.peer.neighbours) == N_PEERS - 1, name
        assert peer.peer.exchanges > exchanges[name] + 10, name
    factors = np.array([peer.learner.state.item_factors for peer in world.peers.values()])
    # Six levels keep copies apart a little.
    assert np.std(factors, axis=0).mean() < 0.3 * np.std(factors.mean(axis=0)), "the survivors agree"
