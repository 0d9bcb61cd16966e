"""Found by review: a neighbour that was dialled by name was passed on in peer exchange, which the codec rightly refused."""

from __future__ import annotations

from collections.abc import Callable

from p2prec.sim.world import World


def test_neighbours_dialled_by_name_are_not_passed_on(make_world: Callable[..., World]) -> None:
    world = make_world(seed=3)
    for name in ("alpha", "beta", "10.0.0.3", "10.0.0.4"):
        world.add(name)
    world.run(150.0)  # two rounds of peer exchange
    for peer in world.peers.values():
        assert peer.peer.refusals == {}
        assert len(peer.peer.neighbours) == 3
