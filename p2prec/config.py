"""Settings of one device: validated, one model per component, each with what raising or lowering it costs.

What the swarm agrees on is in the manifest (`p2prec.manifest`); what a device chooses for itself is here.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from p2prec.errors import UsageError

Seconds = Annotated[float, Meta(gt=0)]


class TransportKind(StrEnum):
    """How peers talk. Those of different kinds cannot: a swarm chooses one (docs/transports.md)."""

    TLS = "tls"
    """TCP with mutual TLS 1.3: the default."""
    LIBP2P = "libp2p"
    """TCP with libp2p's Noise and yamux; needs `p2prec[libp2p]`."""


class PeerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The peer core: neighbours, liveness, exchanges, patience."""

    target_neighbours: Annotated[int, Meta(ge=1, le=64)] = 8
    """The peer dials until it has this many, and up to twice as many to meet lost ones again. More mix faster and survive more
    failures; each costs a TLS connection."""
    max_neighbours: Annotated[int, Meta(ge=1, le=256)] = 24
    """Inbound connections beyond this are refused."""
    max_known_peers: Annotated[int, Meta(ge=8, le=100_000)] = 1024
    """Size of the address book. The longest unseen are forgotten first."""
    dials_per_tick: Annotated[int, Meta(ge=1, le=16)] = 2
    """Dials begun at once. More meet sooner, and hit a starting swarm harder."""
    tick_interval_s: Seconds = 1.0
    """How often neighbours are looked after (dials, pings, rotation)."""
    dial_retry_s: Seconds = 5.0
    """Wait after a failed dial; doubles with each failure up to `dial_retry_max_s`."""
    dial_retry_max_s: Seconds = 600.0
    hello_deadline_s: Seconds = 10.0
    """A connection without HELLO after this is closed."""
    ping_after_s: Seconds = 15.0
    """Silence after which a neighbour is pinged. Lower finds the dead sooner and costs idle traffic."""
    ping_deadline_s: Seconds = 10.0
    """Silence after a ping that counts as death."""
    exchange_deadline_s: Seconds = 10.0
    """An offer without an answer after this is given up; nothing was applied."""
    in_doubt_deadline_s: Seconds = 900.0
    """How long an answered, uncommitted exchange waits to meet its initiator again before it is dropped."""
    rotate_every_s: Seconds = 300.0
    """Peer sampling: now and then one neighbour is exchanged for another, so that no corner of the swarm is cut off."""
    peers_request_every_s: Seconds = 60.0
    refusals_before_ban: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Refused messages on one connection that cost the sender its connection."""
    ban_s: Seconds = 600.0
    conflict_s: Seconds = 120.0
    """After the last sign of a second machine with this identity, exchanges stay stopped for this long."""


class DaemonSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver: sockets, discovery, persistence."""

    listen_host: str = "0.0.0.0"
    listen_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0: any free port; it is announced by mDNS and in HELLO."""
    static_peers: tuple[tuple[str, int], ...] = ()
    """Addresses to dial besides those that discovery finds."""
    transport: TransportKind = TransportKind.TLS
    """What this peer speaks: the same as all its swarm. libp2p costs more of everything (docs/transports.md)."""
    mdns: bool = True
    mdns_interfaces: tuple[str, ...] | None = None
    """Addresses of the interfaces on which mDNS speaks. None: all."""
    dial_deadline_s: Seconds = 10.0
    send_deadline_s: Seconds = 20.0
    snapshot_every_s: Seconds = 60.0
    """How often the model is written to the store. A crash costs at most this much learning, and never an interaction."""
    quality_every_s: Seconds = 30.0
    """How often the device measures its own recommendations on the held-out part of its interactions."""
    holdout_fraction: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    """Share of the own interactions that is kept from training, to measure with. 0: no quality figures."""
    holdout_secret: bytes | None = None
    """Decides which part is held out, 16 to 64 bytes. None: the device's own secret; an experiment gives one to be repeatable."""
    metrics: tuple[str, int] | None = None
    """Host literal and port on which a monitor may read `/metrics`, port 0 for a free one. None: nowhere. On costs 6 MB."""
    stop_deadline_s: Seconds = 5.0
    status_file: str | None = None
    """Where to write what `p2prec status --json` says and what the process costs, for monitors that read files."""
    status_every_s: Seconds = 10.0
    """How often: a millisecond of CPU each time."""
    peer: PeerSettings = PeerSettings()


def load_settings(path: Path) -> DaemonSettings:
    """Read a device's settings from a TOML file: the names above, those of `PeerSettings` in a table `[peer]`.

    Raises UsageError when the file cannot be read or says what there is not.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=DaemonSettings)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
