"""What a peer makes of addresses that a neighbour passes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2prec.peer.messages import PeerAddress, Peers
from p2prec.sim.world import World

STRANGER = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"


@pytest.mark.parametrize(
    ("neighbour", "address", "taken"),
    [
        ("10.0.0.1", "10.0.0.9", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("10.0.0.1", "::1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
    ],
)
def test_loopback_is_heard_from_loopback_only(
    make_world: Callable[..., World], neighbour: str, address: str, taken: bool
) -> None:
    world = make_world()
    world.add("10.0.0.2" if neighbour == "10.0.0.1" else "127.0.0.2")
    world.add(neighbour)
    world.run(5)
    listener = next(iter(world.peers.values())).peer
    (link,) = listener.neighbours
    link.peers_requested = True
    listener.received(link.number, Peers((PeerAddress(STRANGER, address, 4001),)), world.clock.now)
    assert (STRANGER in listener.book.peers) is taken
