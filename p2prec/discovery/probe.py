"""Does multicast DNS work here: send a packet on one interface and wait to hear it.

Hearing it shows that the socket, the route and this machine's firewall let multicast through; whether the network carries it to
others (guest networks and some access points do not) only another machine can tell.
"""

from __future__ import annotations

import secrets
import socket
import struct
import time

MDNS_GROUP = "224.0.0.251"
MDNS_PORT = 5353
_QUERY_HEADER = struct.pack("!6H", 0, 0, 1, 0, 0, 0)
_TYPE_TXT_CLASS_IN = struct.pack("!2H", 16, 1)


def hears_itself(address: str, *, deadline_s: float = 1.0, port: int = MDNS_PORT) -> bool:
    """Whether a query sent on the interface with this IPv4 address comes back within the deadline.

    The query asks for a random name that nobody has, so it disturbs nobody. Raises OSError when the interface cannot send
    or join, or another program keeps the port to itself.
    """
    packet = _query(f"{secrets.token_hex(8)}.p2prec-doctor.local")
    interface = socket.inet_aton(address)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
            if hasattr(socket, option):
                listener.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        listener.bind(("", port))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(MDNS_GROUP) + interface)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sender.sendto(packet, (MDNS_GROUP, port))
        return _arrives(listener, packet, time.monotonic() + deadline_s)


def _arrives(listener: socket.socket, packet: bytes, deadline: float) -> bool:
    while (remaining_s := deadline - time.monotonic()) > 0:
        listener.settimeout(remaining_s)
        try:
            if listener.recv(9000) == packet:
                return True
        except TimeoutError:
            return False
    return False


def _query(name: str) -> bytes:
    """A question for the TXT record of a name (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return _QUERY_HEADER + labels + b"\0" + _TYPE_TXT_CLASS_IN
