"""As on Kubernetes: no multicast, everybody knows the names of the same two peers, those two included."""

from __future__ import annotations

import socket
from collections.abc import Callable

from devices import LOOPBACK, Device

N_PEERS = 4


def test_peers_meet_through_the_names_of_two(make_device: Callable[..., Device]) -> None:
    ports = free_ports(N_PEERS)
    seeds = [("localhost", port) for port in ports[:2]]
    devices = [make_device(f"peer-{number}") for number in range(N_PEERS)]
    for device, port in zip(devices, ports, strict=True):
        device.log_plays(range(3))
        device.serve(*seeds, listen_port=port)
    for device in devices:
        status = device.until(lambda status: status["neighbours"] == N_PEERS - 1, "knows everybody")
        assert status["warnings"] == []  # a seed that dials its own name has not met a double
        assert status["messages_refused"] == 0


def free_ports(n: int) -> list[int]:
    """Ports that were free a moment ago: a seed's is known before it starts."""
    listeners = [socket.create_server((LOOPBACK, 0)) for _ in range(n)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
