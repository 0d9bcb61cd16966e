"""The addresses of this machine: on which to speak mDNS, which to announce, and which of a peer's to dial."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, ip_address

import ifaddr


def local_interfaces() -> tuple[IPv4Interface, ...]:
    """Every IPv4 address of this machine with its network, in the system's order; empty when no interface is up."""
    found: dict[IPv4Interface, None] = {}
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4:
                found[IPv4Interface(f"{ip.ip}/{ip.network_prefix}")] = None
    return tuple(found)


def multicast_addresses(local: Sequence[IPv4Interface], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """On which addresses to speak mDNS: those of `wanted` that are up; None stands for all but loopback.

    Loopback counts only when there is nothing else (a machine without a network can still run several peers): multicast
    from one of the machine's peers to another comes back on any interface, and a second path would double the packets.
    """
    if wanted is not None:
        up = {str(interface.ip) for interface in local}
        # The whole of 127.0.0.0/8 answers on loopback, while only 127.0.0.1 is listed.
        loopback_up = any(interface.is_loopback for interface in local)
        return tuple(
            address for address in wanted if address in up or (loopback_up and IPv4Address(address).is_loopback)
        )
    outward = tuple(str(interface.ip) for interface in local if not interface.is_loopback)
    return outward or tuple(str(interface.ip) for interface in local)


def announced_addresses(listen_host: str, multicast: Sequence[str]) -> tuple[str, ...]:
    """Which addresses to announce for a peer that listens on `listen_host`."""
    return tuple(multicast) if ip_address(listen_host).is_unspecified else (listen_host,)


def best_address(candidates: Sequence[str], local: Sequence[IPv4Interface]) -> str:
    """The candidate most likely to be reachable from here. `candidates` has at least one valid IP literal.

    An address in a network of ours comes first, then other IPv4, then IPv6. An address that is also ours comes last,
    unless all are (the peer runs on this machine): every machine with a container engine has the same bridge address,
    and dialling it would only find ourselves.
    """
    own = {interface.ip for interface in local}

    def rank(position: int) -> tuple[int, int]:
        ip = ip_address(candidates[position])
        if ip in own or ip.is_loopback:
            return 3, position
        if ip.version == 6:
            return 2, position
        return (0 if any(ip in interface.network for interface in local) else 1), position

    return candidates[min(range(len(candidates)), key=rank)]
