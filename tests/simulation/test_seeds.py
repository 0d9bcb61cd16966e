"""Without multicast: a swarm whose peers know the addresses of the same three to begin with (`--peer`).

Found when the manifests for Kubernetes were made: whoever found the three full learned of nobody else, and of 200 peers 175 had
no neighbour after ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from p2prec.config import PeerSettings
from p2prec.sim.world import PORT, SimulatedPeer, World

SEEDS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
SETTINGS = PeerSettings(target_neighbours=3, max_neighbours=5)
N_PEERS = 24
"""More than all three hold together."""


def test_a_swarm_grows_beyond_what_its_seeds_can_hold(make_world: Callable[..., World]) -> None:
    world = make_world(settings=SETTINGS)
    for number in range(N_PEERS):
        name = f"10.0.0.{number + 1}"
        peer = SimulatedPeer(world, name, name.encode(), SETTINGS)
        for seed in SEEDS:
            peer.peer.book.add_static(seed, PORT)
        world.peers[name] = peer
    world.run(40.0)
    neighbours = [len(peer.peer.neighbours) for peer in world.peers.values()]
    assert min(neighbours) >= SETTINGS.target_neighbours - 1  # one may just have been parted with
    assert max(neighbours) <= SETTINGS.max_neighbours
    assert len(SEEDS) * SETTINGS.max_neighbours < N_PEERS
    assert _reached_from(world, SEEDS[0]) == world.peers.keys()
    assert not any(peer.peer.refusals for peer in world.peers.values())


def _reached_from(world: World, name: str) -> set[str]:
    """Everybody to whom a chain of neighbours leads."""
    names = {peer.peer_id: peer.name for peer in world.peers.values()}
    reached, fresh = {name}, [name]
    while fresh:
        links = world.peers[fresh.pop()].peer.neighbours
        found = {names[link.remote_id] for link in links} - reached
        reached |= found
        fresh += found
    return reached
