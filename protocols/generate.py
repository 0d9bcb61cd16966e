"""Makes the test vectors of wire-v3.md: `python protocols/generate.py` rewrites `protocols/vectors`.

`swarm.toml` is the one input; every other file follows from it, from the fixed keys and nonces below and from the protocol.
A change of these files is a change of the protocol: it needs a new version (wire-v3.md, "Versions").
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

sys.path.insert(0, str(Path(__file__).parent))

from generate_sums import PrivateSwarm, whole_conversation

from p2prec import manifest as manifests
from p2prec.data.catalogue import Catalogue
from p2prec.identity import Identity
from p2prec.model.quantize import QuantizedTables, table_shapes
from p2prec.model.rounding import (
    DITHER,
    DITHER_PERIOD,
    LEVELS,
    SCALES,
    QuantizedTable,
    TableShape,
    dequantize,
)
from p2prec.model.state import initial_item_factors
from p2prec.peer.messages import (
    Answer,
    Close,
    CloseReason,
    Commit,
    Decline,
    DeclineReason,
    Hello,
    Message,
    Offer,
    PeerAddress,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Refusal,
    Resolution,
    Resolve,
)
from p2prec.peer.sum_messages import Relays
from p2prec.transport.certificates import authority_certificate, authority_key, peer_certificate
from p2prec.wire.codec import Codec, MessageType
from p2prec.wire.envelope import NO_SESSION, Envelope, pack, session_id, signature_input, unpack
from p2prec.wire.limits import MAX_FRAME_BYTES, PROTOCOL_VERSION
from p2prec.wire.session import Session

VECTORS = Path(__file__).parent / "vectors"
INPUT = "swarm.toml"

ALICE, BOB, MALLORY = (Identity.from_seed(bytes([digit]) * 32) for digit in (0xA1, 0xB0, 0x66))
NONCES = {"alice": b"alice's nonce 16", "bob": b"bob's nonce is16"}
INSTANCES = {"alice": b"alice's instance", "bob": b"bob's instance16"}
EXCHANGE = bytes(range(16))
MEMBERSHIP_SECRET = bytes(range(32, 64))
OTHER_SWARM = b"\xee" * 32

MANIFEST = manifests.load(VECTORS / INPUT)
CATALOGUE = Catalogue.from_canonical_csv(MANIFEST.catalogue_csv())
SHAPES = [table_shapes(MANIFEST.learning, len(CATALOGUE), part) for part in range(MANIFEST.learning.n_parts)]
TABLES = [field.name for field in dataclasses.fields(QuantizedTables) if field.name not in ("part", "place")]
CODEC = Codec(MANIFEST.learning, len(CATALOGUE))
SESSION = session_id(NONCES["alice"], NONCES["bob"])
PRIVATE = PrivateSwarm(MANIFEST, len(CATALOGUE))

Files = dict[str, bytes]
Entry = dict[str, Any]


def build() -> Files:
    """Every file of `vectors` but the input, by name."""
    files: Files = {}
    index = {
        "protocol": PROTOCOL_VERSION,
        "swarm": _swarm(files),
        "scales": _scales(files),
        "dither": _dither(),
        "peers": {name: _peer(name, identity) for name, identity in (("alice", ALICE), ("bob", BOB))},
        "stranger": {"seed": (b"\x66" * 32).hex(), "peer_id": MALLORY.peer_id},
        "session_id": SESSION.hex(),
        "certificates": _certificates(files),
        "conversation": _conversation(files),
        "refusals": _refusals(files),
        "framing": _framing(files),
        "private": _private(files),
    }
    files["index.json"] = (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode()
    return files


def as_json(value: Any) -> Any:
    """A message as in the index: byte strings in hexadecimal, tables as lists, enumerations as numbers."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, enum.IntEnum):
        return int(value)
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, msgspec.Struct):
        return {name: as_json(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def sessions(swarm: PrivateSwarm | None = None) -> dict[str, Session]:
    """Alice's and Bob's ends of the conversation, before its first message; swarm: one with a promise."""
    return {
        name: Session(
            identity,
            MANIFEST.swarm_id if swarm is None else swarm.manifest.swarm_id,
            remote.peer_id,
            CODEC if swarm is None else swarm.codec,
            session_nonce=NONCES[name],
            instance=INSTANCES[name],
        )
        for name, identity, remote in (("alice", ALICE, BOB), ("bob", BOB, ALICE))
    }


def _swarm(files: Files) -> Entry:
    canonical = _canonical_form()
    assert hashlib.sha256(canonical).digest() == MANIFEST.swarm_id
    files["swarm.msgpack"] = canonical
    files["catalogue.csv"] = CATALOGUE.canonical_csv()
    start = initial_item_factors(MANIFEST.learning, bytes.fromhex(MANIFEST.seed), CATALOGUE.keys)
    files["initial-item-factors.bin"] = start.astype("<f4").tobytes()
    return {
        "manifest": INPUT,
        "canonical_form": "swarm.msgpack",
        "swarm_id": MANIFEST.swarm_id.hex(),
        "catalogue": "catalogue.csv",
        "table_shapes": [
            {name: [shape.rows, shape.columns, shape.levels] for name, shape in zip(TABLES, shapes, strict=True)}
            for shapes in SHAPES
        ],
        "initial_item_factors": {"file": "initial-item-factors.bin", "type": "little-endian float32, row by row"},
    }


def _scales(files: Files) -> Entry:
    files["scales.bin"] = SCALES.astype("<f4").tobytes()
    return {"file": "scales.bin", "type": "little-endian float32, by code"}


def _dither() -> Entry:
    return {
        "type": "little-endian float32, by number",
        "sha256": hashlib.sha256(DITHER.astype("<f4").tobytes()).hexdigest(),
        "first": (DITHER[:8] * DITHER_PERIOD).tolist(),
    }


def _canonical_form() -> bytes:
    """What the swarm id is the SHA-256 of (wire-v3.md, "Swarm"), made from the text rather than by the daemon's code."""

    def in_order(value: Any) -> Any:
        return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value

    fields = msgspec.to_builtins(MANIFEST)
    del fields["catalogue"]["data"]
    del fields["promise"]  # there is none
    packed: bytes = msgpack.packb(in_order(fields))
    return packed


def _peer(name: str, identity: Identity) -> Entry:
    return {
        "seed": identity.private_key.private_bytes_raw().hex(),
        "public_key": identity.public_bytes.hex(),
        "peer_id": identity.peer_id,
        "session_nonce": NONCES[name].hex(),
        "instance": INSTANCES[name].hex(),
    }


def _certificates(files: Files) -> Entry:
    swarm_id = MANIFEST.swarm_id
    entries: Entry = {}
    keys = (
        ("open", authority_key(MANIFEST, None)),
        ("private", Ed25519PrivateKey.from_private_bytes(MEMBERSHIP_SECRET)),
    )
    for kind, key in keys:
        authority, leaf = f"authority-{kind}.der", f"alice-{kind}.der"
        files[authority] = authority_certificate(swarm_id, key).public_bytes(Encoding.DER)
        files[leaf] = peer_certificate(swarm_id, key, ALICE).public_bytes(Encoding.DER)
        entries[kind] = {"authority_seed": key.private_bytes_raw().hex(), "authority": authority, "alice": leaf}
    return entries


# The conversation: every message type, each accepted


LARGEST_CODES = {256: 200, 16: 233, 6: 246, 4: 251}
"""By the levels of a table."""
PLACES = {0: 0, 100: DITHER_PERIOD - 1, 33: 32_109}
"""By the offset of a message's values."""


def tables(part: int, offset: int = 0) -> QuantizedTables:
    """Tables that use both ends of every range."""
    shapes = SHAPES[part]

    def table(shape: TableShape, start: int) -> QuantizedTable:
        values = ((np.arange(shape.size) * 7 + start) % shape.levels).astype(np.uint8)
        codes = np.linspace(LARGEST_CODES[shape.levels], 0, shape.rows).astype(np.uint8)
        return QuantizedTable(codes, values.reshape(shape.rows, shape.columns))

    vectors = table(shapes.vectors, 200 + offset)
    for row, column in shapes.padding():
        vectors.values[row, column:] = 0
    return QuantizedTables(
        part,
        PLACES[offset],
        item_factors=table(shapes.item_factors, offset),
        gradient=table(shapes.gradient, 5 + offset),
        vectors=vectors,
    )


def _read(tables: QuantizedTables) -> Entry:
    """What tables stand for. float32 has no more digits than JSON's numbers."""
    shapes = SHAPES[tables.part]
    return {
        name: dequantize(table, shape.levels, tables.place + offset).tolist()
        for name, table, shape, offset in zip(TABLES, tables, shapes, shapes.offsets, strict=True)
    }


def _hello(name: str, **changes: Any) -> Hello:
    hello = Hello(MANIFEST.swarm_id, INSTANCES[name], NONCES[name], 4001, 12, "p2prec vectors")
    return dataclasses.replace(hello, **changes)


def conversation() -> list[tuple[str, Message]]:
    """Who says what, in an order in which each may say it."""
    said: list[tuple[str, Message]] = [
        ("alice", _hello("alice")),
        ("bob", _hello("bob", listen_port=0, age_rounds=(1 << 32) - 1, agent="")),
        ("alice", Offer(EXCHANGE, 12, tables(0))),
        ("bob", Answer(EXCHANGE, (1 << 32) - 1, tables(0, 100))),
        ("alice", Commit(EXCHANGE)),
        ("bob", Offer(EXCHANGE[::-1], 0, tables(1, 33))),
        ("alice", Decline(EXCHANGE[::-1], DeclineReason.BUSY)),
        ("bob", Resolve(EXCHANGE)),
        ("alice", Resolution(EXCHANGE, True)),
        ("alice", Ping(b"8 bytes!")),
        ("bob", Pong(b"8 bytes!")),
        ("alice", PeersRequest(64)),
        (
            "bob",
            Peers((PeerAddress(MALLORY.peer_id, "192.0.2.7", 65535), PeerAddress(ALICE.peer_id, "2001:db8::7", 1))),
        ),
        ("bob", Close(CloseReason.ROTATED, "another neighbour was drawn")),
    ]
    return said


def _conversation(files: Files) -> list[Entry]:
    return _recorded(files, sessions(), conversation(), MANIFEST.swarm_id, "")


def private_conversation() -> list[tuple[str, Message]]:
    """In a swarm with a promise: every kind of message of its sums."""
    hellos: list[tuple[str, Message]] = [
        (name, _hello(name, swarm_id=PRIVATE.manifest.swarm_id)) for name in ("alice", "bob")
    ]
    return [*hellos, *whole_conversation(PRIVATE, ALICE, BOB)]


def _private(files: Files) -> Entry:
    said = private_conversation()
    relays = said[-1][1]
    assert isinstance(relays, Relays)
    swarm_id = PRIVATE.manifest.swarm_id
    return PRIVATE.entry(ALICE.peer_id, BOB.peer_id) | {
        "conversation": _recorded(files, sessions(PRIVATE), said, swarm_id, "private-"),
        "relayed": PRIVATE.relayed_entries(relays),
        "roll": PRIVATE.roll_entries(relays.roll[0]),
        "refused_relayed": PRIVATE.refused_bodies(ALICE, BOB.peer_id),
    }


def _recorded(
    files: Files, ends: dict[str, Session], said: list[tuple[str, Message]], swarm_id: bytes, prefix: str
) -> list[Entry]:
    entries = []
    for number, (sender, message) in enumerate(said, start=1):
        receiver = "bob" if sender == "alice" else "alice"
        frame = ends[sender].encode(message)
        ends[receiver].decode(frame)
        envelope = unpack(frame)
        name = f"{prefix}{number:02}-{envelope.kind.name.lower().replace('_', '-')}.bin"
        files[name] = frame
        entries.append(
            {
                "file": name,
                "from": sender,
                "type": int(envelope.kind),
                "sequence": envelope.sequence,
                "signature_input": _signed(envelope, sender, receiver, swarm_id).hex(),
                "message": as_json(message),
                **({"read": _read(message.tables)} if isinstance(message, Offer | Answer) else {}),
            }
        )
    return entries


def _signed(envelope: Envelope, sender: str, receiver: str, swarm_id: bytes) -> bytes:
    keys = {"alice": ALICE.public_bytes, "bob": BOB.public_bytes}
    return signature_input(
        swarm_id=swarm_id,
        sender=keys[sender],
        receiver=keys[receiver],
        session=NO_SESSION if envelope.kind is MessageType.HELLO else SESSION,
        kind=envelope.kind,
        sequence=envelope.sequence,
        payload=envelope.payload,
    )


# Refusals: each comes to a session of Bob's that has accepted what is named in "after"


def forge(
    kind: MessageType,
    fields: Sequence[Any] | bytes,
    sequence: int,
    *,
    sender: Identity = ALICE,
    receiver: Identity = BOB,
    session: bytes = SESSION,
    swarm_id: bytes = MANIFEST.swarm_id,
) -> bytes:
    """A frame that is signed correctly for whatever it says."""
    payload: bytes = fields if isinstance(fields, bytes) else msgpack.packb(list(fields))
    signed = signature_input(
        swarm_id=swarm_id,
        sender=sender.public_bytes,
        receiver=receiver.public_bytes,
        session=session,
        kind=kind,
        sequence=sequence,
        payload=payload,
    )
    return pack(Envelope(kind, sequence, payload, sender.sign(signed)))


def _refusals(files: Files) -> list[Entry]:
    entries: list[Entry] = []

    def add(
        reason: Refusal, name: str, frame: bytes, why: str, *, after: Sequence[str] = (), fatal: bool = False
    ) -> None:
        file = f"refused-{reason}-{name}.bin"
        files[file] = frame
        entries.append({"file": file, "after": list(after), "reason": str(reason), "fatal": fatal, "why": why})

    _refuse_by_order_and_signature(files, add)
    _refuse_by_form(add)
    _refuse_by_content(add)
    return entries


HELLO_FILE, OFFER_FILE = "01-hello.bin", "03-offer.bin"
GREETED = (HELLO_FILE,)
PING = [b"8 bytes!"]
Add = Callable[..., None]


def _refuse_by_order_and_signature(files: Files, add: Add) -> None:
    ping = forge(MessageType.PING, PING, 1)
    changed = unpack(ping)
    hello = [MANIFEST.swarm_id, INSTANCES["alice"], NONCES["alice"], 4001, 12, ""]
    stranger = forge(MessageType.PING, PING, 1, sender=MALLORY)
    add(Refusal.FORGED, "by-another-key", stranger, "signed with the stranger's key", after=GREETED)
    flipped = pack(msgspec.structs.replace(changed, payload=changed.payload[:-1] + b"?"))
    add(Refusal.FORGED, "payload", flipped, "one byte of the payload was changed", after=GREETED)
    retyped = pack(msgspec.structs.replace(changed, kind=MessageType.PONG))
    add(Refusal.FORGED, "type", retyped, "a PING sent on as a PONG", after=GREETED)
    misdirected = forge(MessageType.PING, PING, 1, receiver=MALLORY)
    add(Refusal.FORGED, "to-another-peer", misdirected, "Alice signed this for the stranger", after=GREETED)
    reflected = forge(MessageType.PING, PING, 1, sender=BOB, receiver=ALICE)
    add(Refusal.FORGED, "reflected", reflected, "Bob's own message to Alice, sent back", after=GREETED)
    earlier = forge(MessageType.PING, PING, 1, session=session_id(NONCES["alice"], b"an older nonce16"))
    add(Refusal.FORGED, "from-an-earlier-session", earlier, "recorded when Bob had another nonce", after=GREETED)
    other = forge(MessageType.PING, PING, 1, swarm_id=OTHER_SWARM)
    add(Refusal.FORGED, "for-another-swarm", other, "signed for another swarm", after=GREETED)
    unsigned = pack(msgspec.structs.replace(unpack(files[HELLO_FILE]), signature=bytes(64)))
    add(Refusal.FORGED, "hello", unsigned, "a HELLO with a signature of zeros")

    add(Refusal.REPLAYED, "hello", files[HELLO_FILE], "the HELLO again", after=GREETED)
    add(Refusal.REPLAYED, "offer", files[OFFER_FILE], "the OFFER again", after=(HELLO_FILE, OFFER_FILE))
    own = forge(MessageType.HELLO, [*hello[:2], NONCES["bob"], *hello[3:]], 0, session=NO_SESSION)
    add(Refusal.REPLAYED, "own-nonce", own, "a HELLO with the receiver's own nonce", fatal=True)

    gap = forge(MessageType.PING, PING, 2)
    add(Refusal.SPLICED, "gap", gap, "number 2 where 1 is due", after=GREETED)
    late = forge(MessageType.HELLO, hello, 1, session=NO_SESSION)
    add(Refusal.SPLICED, "hello", late, "a HELLO with number 1")

    foreign = forge(MessageType.HELLO, [OTHER_SWARM, *hello[1:]], 0, session=NO_SESSION, swarm_id=OTHER_SWARM)
    add(Refusal.WRONG_SWARM, "hello", foreign, "signed correctly, for another swarm", fatal=True)

    early = forge(MessageType.PING, PING, 0, session=NO_SESSION)
    add(Refusal.UNEXPECTED, "before-hello", early, "a PING as the first message")
    second = forge(MessageType.HELLO, hello, 1)
    add(Refusal.UNEXPECTED, "second-hello", second, "a second HELLO, in order and signed", after=GREETED)


def _refuse_by_form(add: Add) -> None:
    def malformed(name: str, frame: bytes, why: str, *, fatal: bool = False) -> None:
        add(Refusal.MALFORMED, name, frame, why, after=GREETED, fatal=fatal)

    ping = forge(MessageType.PING, PING, 1)
    fields = msgpack.unpackb(ping)
    malformed("empty", b"", "nothing at all")
    malformed("not-msgpack", b"\xc1" * 8, "a byte that msgpack never uses")
    malformed("not-an-array", msgpack.packb({1: 1}), "a map")
    malformed("cut", ping[:-1], "the last byte is missing")
    malformed("trailing-byte", ping + b"\x00", "one byte after the envelope")
    malformed("version-2", msgpack.packb([2, *fields[1:]]), "another version of the protocol", fatal=True)
    malformed("six-fields", msgpack.packb([*fields, 0]), "a sixth field in the envelope")
    malformed("type-0", msgpack.packb([PROTOCOL_VERSION, 0, *fields[2:]]), "no message has this type")
    malformed("type-13", msgpack.packb([PROTOCOL_VERSION, 13, *fields[2:]]), "no message has this type")
    malformed("type-true", msgpack.packb([PROTOCOL_VERSION, True, *fields[2:]]), "a boolean is not an integer")
    malformed(
        "negative-sequence", msgpack.packb([PROTOCOL_VERSION, 8, -1, *fields[3:]]), "sequence numbers are unsigned"
    )
    malformed("short-signature", msgpack.packb([*fields[:4], fields[4][:-1]]), "a signature of 63 bytes")
    malformed("array-of-4-billion", b"\xdd\xff\xff\xff\xff", "claims more than there is")

    large = forge(MessageType.PING, bytes(513), 1)
    add(Refusal.OVERSIZED, "ping", large, "a payload of 513 bytes, signed", after=GREETED)
    large = forge(MessageType.OFFER, bytes(SHAPES[0].payload_bytes + 129), 1)
    add(Refusal.OVERSIZED, "offer", large, "129 bytes more than the largest part's tables", after=GREETED)
    large = forge(MessageType.PEERS, bytes(8193), 1)
    add(Refusal.OVERSIZED, "peers", large, "a payload of 8,193 bytes, signed", after=GREETED)


def _refuse_by_content(add: Add) -> None:
    def content(name: str, kind: MessageType, fields: Sequence[Any], why: str) -> None:
        add(Refusal.MALFORMED, name, forge(kind, fields, 1), f"signed correctly, but {why}", after=GREETED)

    content("short-token", MessageType.PING, [bytes(7)], "with 7 bytes of token")
    content("two-tokens", MessageType.PING, [*PING, *PING], "with a field too many")
    content("text-for-binary", MessageType.PING, ["8 bytes!"], "with a text where a binary is due")
    content("decline-reason", MessageType.DECLINE, [EXCHANGE, 4], "for a reason that is not defined")
    content("resolution", MessageType.RESOLUTION, [EXCHANGE, 1], "with a number where a boolean is due")
    content("limit-0", MessageType.PEERS_REQUEST, [0], "asking for no addresses")
    content("limit-65", MessageType.PEERS_REQUEST, [65], "asking for too many addresses")
    content("close-text", MessageType.CLOSE, [1, "\x1b[2J"], "with a control character")
    content("close-long", MessageType.CLOSE, [1, "x" * 201], "with 201 characters")
    for name, entry, why in (
        ("host-name", [ALICE.peer_id, "localhost", 1], "with a name for an address"),
        ("host-any", [ALICE.peer_id, "0.0.0.0", 1], "with the address of no host"),
        ("host-multicast", [ALICE.peer_id, "ff02::fb", 1], "with a multicast address"),
        ("host-zone", [ALICE.peer_id, "fe80::1%eth0", 1], "with a zone"),
        ("port-0", [ALICE.peer_id, "192.0.2.1", 0], "with port 0"),
        ("peer-id", [ALICE.peer_id[:-1], "192.0.2.1", 1], "with half a peer id"),
    ):
        content(name, MessageType.PEERS, [entry], why)

    _refuse_by_tables(add)


def _refuse_by_tables(add: Add) -> None:
    offers = [list(msgpack.unpackb(forge_payload(Offer(EXCHANGE, 12, tables(part))))) for part in range(2)]

    def offer(name: str, why: str, position: int, value: bytes | int, *, part: int = 0) -> None:
        """The offer of a part, but for one element: 2 is the part, 3 the place, then codes and values of each table."""
        fields = [*offers[part][:position], value, *offers[part][position + 1 :]]
        add(
            Refusal.MALFORMED,
            name,
            forge(MessageType.OFFER, fields, 1),
            f"signed correctly, but {why}",
            after=GREETED,
        )

    _, _, _, _, codes, factors, gradient_codes, gradients, vector_codes, vectors = offers[0]
    offer("part-2", "about part 2 of 2", 2, 2)
    offer("tables-of-part-0", "with the tables of part 0 named part 1", 2, 1)
    offer("tables-of-part-1", "with the tables of part 1 named part 0", 2, 0, part=1)
    offer("gram-in-part-1", "with a gram in part 1", 9, vectors, part=1)
    offer("place", "that begins at place 65,536 of the dither", 3, DITHER_PERIOD)
    offer("short-table", "with one byte of the item factors missing", 5, factors[:-1])
    offer("short-codes", "with one scale code missing", 4, codes[:-1])
    offer("byte-of-no-values", "with a byte of 216 where three values of 6 levels are due", 5, b"\xd8" + factors[1:])
    offer("large-scale", "with scale code 247 in a table of 6 levels", 4, b"\xf7" + codes[1:])
    offer("large-gradient-scale", "with scale code 252 in a table of 4 levels", 6, b"\xfc" + gradient_codes[1:])
    offer("large-fine-scale", "with scale code 201 in a table of 256 levels", 8, b"\xc9" + vector_codes[1:])
    last = gradients[-1] + LEVELS[4]
    offer("digit-left", "with a value beyond the last of four levels", 7, gradients[:-1] + bytes([last]))
    n_blocks = SHAPES[0].vectors.rows
    for name, why, row, column in (
        ("padding", "with evidence beyond the part's rows", 0, SHAPES[0].item_factors.rows),
        ("gram-padding", "with a gram of 10 values", 1, SHAPES[0].item_factors.columns ** 2),
    ):
        at = column * n_blocks + row
        offer(name, why, 9, vectors[:at] + b"\1" + vectors[at + 1 :])


def forge_payload(message: Message) -> bytes:
    """The payload of a message that the codec accepts."""
    ends = sessions()
    hello = ends["alice"].encode(_hello("alice"))
    ends["bob"].decode(hello)
    ends["alice"].decode(ends["bob"].encode(_hello("bob")))
    return unpack(ends["alice"].encode(message)).payload


def _framing(files: Files) -> list[Entry]:
    hello = files[HELLO_FILE]
    files["framed-hello.bin"] = len(hello).to_bytes(4, "big") + hello
    files["framed-largest.bin"] = MAX_FRAME_BYTES.to_bytes(4, "big")
    files["framed-oversized.bin"] = (MAX_FRAME_BYTES + 1).to_bytes(4, "big")
    return [
        {"file": "framed-hello.bin", "frame_bytes": len(hello), "result": "accepted", "frame": HELLO_FILE},
        {"file": "framed-largest.bin", "frame_bytes": MAX_FRAME_BYTES, "result": "incomplete"},
        {"file": "framed-oversized.bin", "frame_bytes": MAX_FRAME_BYTES + 1, "result": "oversized", "fatal": True},
    ]


def write() -> None:
    """Rewrite the folder."""
    files = build()
    for path in VECTORS.iterdir():
        if path.name not in files and path.name != INPUT:
            path.unlink()
    for name, data in files.items():
        (VECTORS / name).write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files.values())):,} bytes, in {VECTORS}")


if __name__ == "__main__":
    write()
