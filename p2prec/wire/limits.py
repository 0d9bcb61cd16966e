"""Bounds of protocol version 3 (protocols/wire-v3.md, "Limits"). Nothing beyond them is sent or accepted."""

from __future__ import annotations

PROTOCOL_VERSION = 3

MAX_FRAME_BYTES = 1 << 20
"""The largest frame; checked on its length prefix, before anything is allocated."""

ENVELOPE_BYTES = 96
"""More than an envelope adds to its payload: two array and three bin headers, version, type, sequence, signature."""

MAX_CONTROL_PAYLOAD_BYTES = 512
"""The largest payload of a message without tables and without addresses."""

MAX_PEERS_PAYLOAD_BYTES = 8192
"""The largest payload of a list of addresses: 64 entries of at most 52 + 39 characters, a port and their headers."""

MAX_RELAYS_PAYLOAD_BYTES = 262_144
"""The largest payload of messages that are passed on in a swarm with a promise."""

MAX_ADDRESSES = 64
MAX_HOST_CHARACTERS = 39
"""The longest IPv6 literal without a zone."""

MAX_AGENT_CHARACTERS = 64
MAX_DETAIL_CHARACTERS = 200
MAX_ROUNDS = (1 << 32) - 1

SWARM_ID_BYTES = 32
INSTANCE_BYTES = 16
NONCE_BYTES = 16
EXCHANGE_ID_BYTES = 16
TOKEN_BYTES = 8
