"""The mDNS service record of a peer: its name, its TXT properties, and reading both back from the network.

    <last 16 of peer id>-<8 hex of instance>._p2prec._tcp.local.
    TXT  v=1  s=<first 16 hex of swarm id>  p=<peer id>  i=<instance, 32 hex>  t=<transport: tls, libp2p>

The name is unique without probing for conflicts: it ends in 32 random bits of this very start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from p2prec.config import TransportKind
from p2prec.discovery.base import Announcement
from p2prec.errors import UsageError
from p2prec.types import PeerId, SwarmId

SERVICE_TYPE = "_p2prec._tcp.local."
RECORD_VERSION = "1"
MAX_TXT_BYTES = 512
"""The largest sum of TXT keys and values that is read; ours take about 125."""
MAX_ADDRESSES = 16
"""Addresses of one peer that are looked at; a machine with more is announced with the first ones."""
INSTANCE_BYTES = 16

_PEER_ID = re.compile("12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
_SWARM = re.compile("[0-9a-f]{16}")
_INSTANCE = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A well-formed record of some peer of some swarm."""

    swarm: str
    """The first 16 hex digits of the swarm id."""
    peer_id: PeerId
    instance: bytes
    port: int
    addresses: tuple[str, ...]
    """IP literals, at least one, none of them multicast or unspecified."""
    transport: TransportKind = TransportKind.TLS


def swarm_label(swarm_id: SwarmId) -> str:
    """How a swarm is named in records: enough to tell swarms apart; HELLO compares the whole id."""
    return swarm_id.hex()[:16]


def service_label(peer_id: PeerId, instance: bytes) -> str:
    """The instance name without the service type: 25 characters of a DNS label's 63."""
    return f"{peer_id[-16:]}-{instance[:4].hex()}"


def encode_txt(announcement: Announcement) -> dict[str, str]:
    """The TXT properties of an announcement. Raises UsageError when it could not be read back."""
    if not _PEER_ID.fullmatch(announcement.peer_id):
        raise UsageError(f"cannot announce {announcement.peer_id!r}: not a peer id")
    if len(announcement.instance) != INSTANCE_BYTES or not 1 <= announcement.port <= 65535:
        raise UsageError("cannot announce a peer without a 16-byte instance and a port of 1 to 65535")
    try:
        ip_address(announcement.host)
    except ValueError:
        raise UsageError(
            f"cannot announce a peer that listens on {announcement.host!r}",
            remedy="listen on an IP address (0.0.0.0 for all of them), or do without discovery: --no-mdns",
        ) from None
    return {
        "v": RECORD_VERSION,
        "s": swarm_label(announcement.swarm_id),
        "p": announcement.peer_id,
        "i": announcement.instance.hex(),
        "t": announcement.transport,
    }


def decode(
    label: str, port: int | None, txt: Mapping[bytes, bytes | None], addresses: Iterable[str]
) -> ServiceRecord | None:
    """Read a record from the network; None when it is of another version, malformed, oversized or contradicts itself.

    Nothing is told to the sender: whatever else is on the network may use these names too.
    """
    if sum(len(key) + len(value or b"") for key, value in txt.items()) > MAX_TXT_BYTES:
        return None
    fields = {key: (value or b"").decode("ascii", "replace") for key, value in txt.items()}
    swarm, peer_id, instance_hex = fields.get(b"s", ""), fields.get(b"p", ""), fields.get(b"i", "")
    if fields.get(b"v") != RECORD_VERSION or port is None or not 1 <= port <= 65535:
        return None
    if not (_SWARM.fullmatch(swarm) and _PEER_ID.fullmatch(peer_id) and _INSTANCE.fullmatch(instance_hex)):
        return None
    transport = fields.get(b"t", TransportKind.TLS)  # what there was before there was a choice
    if transport not in set(TransportKind):
        return None
    instance = bytes.fromhex(instance_hex)
    if label.lower() != service_label(PeerId(peer_id), instance).lower():
        return None
    dialable = tuple(address for address in list(addresses)[:MAX_ADDRESSES] if _is_dialable(address))
    if not dialable:
        return None
    return ServiceRecord(
        swarm=swarm,
        peer_id=PeerId(peer_id),
        instance=instance,
        port=port,
        addresses=dialable,
        transport=TransportKind(transport),
    )


def _is_dialable(address: str) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    # Link-local IPv6 needs the receiver's own scope, which a record does not carry.
    return not (ip.is_multicast or ip.is_unspecified or ip.is_reserved or (ip.version == 6 and ip.is_link_local))
