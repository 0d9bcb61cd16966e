"""The published test vectors: made by the generator to the byte, and read as the protocol text says they must be."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2prec.errors import RemoteMisbehaviour
from p2prec.manifest import CatalogueReference, LearningParameters, Manifest, PrivacyParameters, Promise
from p2prec.peer.messages import Refusal
from p2prec.peer.sum_messages import Relayed
from p2prec.transport.certificates import ALPN, remote_peer_id
from p2prec.transport.tls_connection import PREFIX_BYTES
from p2prec.wire.limits import MAX_FRAME_BYTES, PROTOCOL_VERSION
from p2prec.wire.seal import Seal
from p2prec.wire.sum_kinds import SumKind

PROTOCOLS = Path(__file__).parents[2] / "protocols"
VECTORS = PROTOCOLS / "vectors"
INDEX: dict[str, Any] = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("wire_vectors_generator", PROTOCOLS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


def read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def test_the_vectors_are_what_the_generator_makes() -> None:
    made = GENERATOR.build()
    present = {path.name for path in VECTORS.iterdir()} - {"swarm.toml"}
    assert present == set(made), "run: python protocols/generate.py"
    for name, data in made.items():
        assert read(name) == data, f"{name}: a change of the protocol needs a new version, not new vectors"


def test_the_conversation_is_understood() -> None:
    sessions = GENERATOR.sessions()
    for entry in INDEX["conversation"]:
        receiver = "bob" if entry["from"] == "alice" else "alice"
        message = sessions[receiver].decode(read(entry["file"]))
        if entry["type"] == 1:  # the other side's session begins by sending its own hello
            sender = sessions[entry["from"]]
            assert sender.encode(message) == read(entry["file"])
        assert GENERATOR.as_json(message) == entry["message"]


@pytest.mark.parametrize("entry", INDEX["refusals"], ids=lambda entry: entry["file"])
def test_refusals(entry: dict[str, Any]) -> None:
    bob = GENERATOR.sessions()["bob"]
    for name in entry["after"]:
        bob.decode(read(name))
    with pytest.raises(RemoteMisbehaviour) as refusal:
        bob.decode(read(entry["file"]))
    assert refusal.value.reason == entry["reason"]
    assert refusal.value.fatal == entry["fatal"]


def test_every_reason_has_a_vector() -> None:
    reasons = {entry["reason"] for entry in INDEX["refusals"]}
    assert reasons == {str(reason) for reason in GENERATOR.Refusal}


def test_every_message_type_is_in_a_conversation() -> None:
    entries = [*INDEX["conversation"], *INDEX["private"]["conversation"]]
    assert {entry["type"] for entry in entries} == {int(kind) for kind in GENERATOR.MessageType}


# --- private sums (privacy-v8.md) ---

PRIVATE = INDEX["private"]


def test_the_private_conversation_is_understood() -> None:
    sessions = GENERATOR.sessions(GENERATOR.PRIVATE)
    for entry in PRIVATE["conversation"]:
        receiver = "bob" if entry["from"] == "alice" else "alice"
        message = sessions[receiver].decode(read(entry["file"]))
        if entry["type"] == 1:
            assert sessions[entry["from"]].encode(message) == read(entry["file"])
        assert GENERATOR.as_json(message) == entry["message"]


def test_every_kind_of_a_sums_message_is_in_the_vectors_and_in_the_text() -> None:
    direct = {msgpack.unpackb(_payload(entry))[1] for entry in PRIVATE["conversation"] if entry["type"] == 13}
    assert direct | {entry["kind"] for entry in PRIVATE["relayed"]} == {int(kind) for kind in SumKind}
    text = (PROTOCOLS / "privacy-v8.md").read_text(encoding="utf-8")
    for kind in SumKind:
        assert f"| {int(kind)} | {kind.name} |" in text


def _payload(entry: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.unpackb(read(entry["file"]))[3]
    return payload


def test_signatures_of_relayed_messages_follow_from_the_text() -> None:
    alice = bytes.fromhex(INDEX["peers"]["alice"]["public_key"])
    bob = INDEX["peers"]["bob"]
    is_eager, _, entries = msgpack.unpackb(_payload(PRIVATE["conversation"][-1]))
    assert is_eager is True
    assert len(entries) == len(PRIVATE["relayed"])
    for data, entry in zip(entries, PRIVATE["relayed"], strict=True):
        hops, signature, (number, kind), token, origin, rest = (
            *(data[0], data[1:65], data[65:67], data[67:75], data[75:107], data[107:]),
        )
        to, body = (b"", rest) if entry["to"] is None else (rest[:32], rest[32:])
        assert (hops, origin) == (entry["hops"], alice)
        assert to == (b"" if entry["to"] is None else bytes.fromhex(bob["public_key"]))
        signed = b"p2prec/3 relayed" + bytes.fromhex(PRIVATE["swarm_id"]) + origin + (to or bytes(32))
        signed += bytes([number]) + token + bytes([kind]) + hashlib.sha256(body).digest()
        assert signed.hex() == entry["signature_input"]
        if kind in (SumKind.PAIR, SumKind.MASKED, SumKind.MASK_NOTED, SumKind.NOT_MASKED):
            key = bytes.fromhex(PRIVATE["mask_keys"]["letter"])
            assert signature == hashlib.blake2b(signed, key=key, digest_size=64).digest()
        else:
            Ed25519PublicKey.from_public_bytes(alice).verify(signature, signed)


def test_the_roll_follows_from_the_text() -> None:
    alice = bytes.fromhex(INDEX["peers"]["alice"]["public_key"])
    _, ((number, enrolled, contributed, is_gathered),), _ = msgpack.unpackb(_payload(PRIVATE["conversation"][-1]))
    expected = PRIVATE["roll"]
    word = bytes.fromhex(expected["word"])
    assert (number, contributed, is_gathered) == (expected["sum"], alice + word, False)
    assert len(enrolled) == 161 * len(expected["enrolled"])
    for start, entry in zip(range(0, len(enrolled), 161), expected["enrolled"], strict=True):
        mask_key, commitment, signature = (
            bytes.fromhex(entry[name]) for name in ("mask_key", "commitment", "signature")
        )
        assert enrolled[start : start + 161] == alice + mask_key + commitment + signature + bytes([entry["distance"]])
        assert commitment == hashlib.sha256(word).digest()
        signed = (
            b"p2prec/3 enrolled" + bytes.fromhex(PRIVATE["swarm_id"]) + alice + bytes([number]) + mask_key + commitment
        )
        assert signed.hex() == entry["signature_input"]
        Ed25519PublicKey.from_public_bytes(alice).verify(signature, signed)


def test_keys_of_mask_partners_follow_from_the_text() -> None:
    alice, bob = (
        X25519PrivateKey.from_private_bytes(bytes.fromhex(PRIVATE["mask_secrets"][name])) for name in ("alice", "bob")
    )
    secret = bob.exchange(alice.public_key())
    ids = sorted(INDEX["peers"][name]["peer_id"].encode() for name in ("alice", "bob"))
    for name, key in PRIVATE["mask_keys"].items():
        info = f"p2prec {name} key 1".encode() + bytes.fromhex(PRIVATE["swarm_id"]) + (1).to_bytes(8, "big")
        derived = HKDF(hashes.SHA256(), 32, None, info + ids[0] + b"\0" + ids[1]).derive(secret)
        assert derived.hex() == key


@pytest.mark.parametrize("entry", PRIVATE["refused_relayed"], ids=lambda entry: entry["why"])
def test_relayed_messages_that_are_refused(entry: dict[str, Any]) -> None:
    origin, to, number, token, hops, kind, body, signature = entry["relayed"]
    relayed = Relayed(
        *(origin, to, number, bytes.fromhex(token), hops, kind, bytes.fromhex(body), bytes.fromhex(signature))
    )
    seal = Seal(GENERATOR.BOB, GENERATOR.PRIVATE.manifest.swarm_id, GENERATOR.PRIVATE.sums)
    if entry["reason"] == Refusal.FORGED:
        assert not seal.is_genuine(relayed)
        return
    assert seal.is_genuine(relayed)
    with pytest.raises(RemoteMisbehaviour) as refusal:
        seal.read(relayed)
    assert refusal.value.reason == entry["reason"]


def test_an_envelope_of_relays_is_not_signed() -> None:
    """What is in it is, by those who said it. A signature of the neighbour's is refused, so that there is one form."""
    *before, last = PRIVATE["conversation"]
    sessions = GENERATOR.sessions(GENERATOR.PRIVATE)
    for entry in before:
        sessions["bob" if entry["from"] == "alice" else "alice"].decode(read(entry["file"]))
    fields = msgpack.unpackb(read(last["file"]))
    assert fields[4] == bytes(64)
    with pytest.raises(RemoteMisbehaviour) as refusal:
        sessions["bob"].decode(msgpack.packb([*fields[:4], bytes(63) + b"\1"]))
    assert refusal.value.reason == Refusal.MALFORMED
    sessions["bob"].decode(read(last["file"]))


@pytest.mark.parametrize("kind", [13, 14])
def test_a_swarm_without_a_promise_knows_no_such_messages(kind: int) -> None:
    bob = GENERATOR.sessions()["bob"]
    bob.decode(read("01-hello.bin"))
    entry = next(one for one in PRIVATE["conversation"] if one["type"] == kind)
    with pytest.raises(RemoteMisbehaviour, match="unknown message type"):
        bob.decode(read(entry["file"]))


def test_there_is_one_version() -> None:
    fields = tomllib.loads(read("swarm.toml").decode())
    assert INDEX["protocol"] == fields["protocol"] == PROTOCOL_VERSION
    assert f"p2prec/{PROTOCOL_VERSION}" == ALPN
    text = (PROTOCOLS / f"wire-v{PROTOCOL_VERSION}.md").read_text(encoding="utf-8")
    assert f"| version | integer | {PROTOCOL_VERSION} |" in text


def test_the_text_names_every_field_and_reason_and_message() -> None:
    text = (PROTOCOLS / "wire-v3.md").read_text(encoding="utf-8")
    for struct_ in (Manifest, LearningParameters, PrivacyParameters, Promise, CatalogueReference):
        for field in struct_.__struct_fields__:
            assert f"`{field}`" in text or f"[{field}]`" in text, field
    for reason in GENERATOR.Refusal:
        assert f"| `{reason}` |" in text
    text += (PROTOCOLS / "privacy-v8.md").read_text(encoding="utf-8")
    for kind in GENERATOR.MessageType:
        assert f"| {int(kind)} | {kind.name} |" in text


@pytest.mark.parametrize("entry", INDEX["framing"], ids=lambda entry: entry["file"])
def test_framing(entry: dict[str, Any]) -> None:
    prefix, rest = read(entry["file"])[:PREFIX_BYTES], read(entry["file"])[PREFIX_BYTES:]
    n_bytes = struct.unpack(">I", prefix)[0]
    assert n_bytes == entry["frame_bytes"]
    assert (n_bytes > MAX_FRAME_BYTES) == (entry["result"] == "oversized")
    assert (len(rest) == n_bytes) == (entry["result"] == "accepted")
    if entry["result"] == "accepted":
        assert rest == read(entry["frame"])


# A second reader, written from the text with nothing but msgpack, SHA-256 and Ed25519


def test_the_swarm_id_follows_from_the_text() -> None:
    fields = tomllib.loads(read("swarm.toml").decode())
    fields["membership_key"] = None
    del fields["catalogue"]["data"]

    def in_order(value: Any) -> Any:
        return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value

    canonical = msgpack.packb(in_order(fields))
    assert canonical == read("swarm.msgpack")
    assert hashlib.sha256(canonical).hexdigest() == INDEX["swarm"]["swarm_id"]
    assert hashlib.sha256(read("catalogue.csv")).hexdigest() == fields["catalogue"]["digest"]


@pytest.mark.parametrize("entry", INDEX["conversation"], ids=lambda entry: entry["file"])
def test_the_signatures_follow_from_the_text(entry: dict[str, Any]) -> None:
    peers = INDEX["peers"]
    sender = bytes.fromhex(peers[entry["from"]]["public_key"])
    receiver = bytes.fromhex(peers["bob" if entry["from"] == "alice" else "alice"]["public_key"])
    nonces = sorted(bytes.fromhex(peer["session_nonce"]) for peer in peers.values())
    session = hashlib.sha256(b"p2prec/3 session" + b"".join(nonces)).digest()
    assert session.hex() == INDEX["session_id"]
    version, kind, sequence, payload, signature = msgpack.unpackb(read(entry["file"]))
    signed = b"p2prec/3 message" + bytes.fromhex(INDEX["swarm"]["swarm_id"]) + sender + receiver
    signed += bytes(32) if kind == 1 else session
    signed += struct.pack(">BQ", kind, sequence) + hashlib.sha256(payload).digest()
    assert (version, kind, sequence) == (3, entry["type"], entry["sequence"])
    assert signed.hex() == entry["signature_input"]
    Ed25519PublicKey.from_public_bytes(sender).verify(signature, signed)


def test_the_table_shapes_follow_from_the_text() -> None:
    fields = tomllib.loads(read("swarm.toml").decode())
    n_items, learning = fields["catalogue"]["n_items"], fields["learning"]
    levels = {1: 256, 2: 16, 3: 6, 4: 4}
    columns = learning["n_factors"]  # implicit
    size = -(-n_items // learning["n_parts"])
    for part, shapes in enumerate(INDEX["swarm"]["table_shapes"]):
        n_rows = min((part + 1) * size, n_items) - min(part * size, n_items)
        assert shapes == {
            "item_factors": [n_rows, columns, levels[learning["factors_per_byte"]]],
            "gradient": [n_rows, columns, levels[learning["gradients_per_byte"]]],
            "vectors": [-(-n_rows // 16) + (-(-(columns**2) // 16) + 1 if part == 0 else 0), 16, 256],
        }


def test_the_scales_follow_from_the_text() -> None:
    scales = struct.unpack("<256f", read(INDEX["scales"]["file"]))
    assert list(scales) == [(1 + code % 8 / 8) * 2.0 ** (code // 8 - 22) for code in range(256)]
    assert (scales[0], scales[176], scales[255]) == (2**-22, 1, 960)


def _dither() -> list[float]:
    drawn = []
    for place in range(1 << 16):
        k = place ^ place >> 8
        k = k * 0x88B5 % 65_536
        k ^= k >> 7
        k = k * 0xDB2D % 65_536
        drawn.append((((k ^ k >> 9) >> 1) + 0.5) / 32_768)
    return drawn


DITHER = _dither()


def test_the_dither_follows_from_the_text() -> None:
    assert hashlib.sha256(struct.pack("<65536f", *DITHER)).hexdigest() == INDEX["dither"]["sha256"]
    assert [u * 65_536 for u in DITHER[:8]] == INDEX["dither"]["first"]
    assert sorted(DITHER) == [(part // 2 + 0.5) / 32_768 for part in range(1 << 16)]


def _values(data: bytes, n_values: int, levels: int) -> list[int]:
    per_byte = {256: 1, 16: 2, 6: 3, 4: 4}[levels]
    assert all(byte < levels**per_byte for byte in data)
    digits = [byte // levels**k % levels for byte in data for k in range(per_byte)]
    assert not any(digits[n_values:])
    return digits[:n_values]


@pytest.mark.parametrize("entry", INDEX["conversation"], ids=lambda entry: entry["file"])
def test_the_tables_follow_from_the_text(entry: dict[str, Any]) -> None:
    if "tables" not in entry["message"]:
        return
    _, _, _, payload, _ = msgpack.unpackb(read(entry["file"]))
    exchange_id, age_rounds, part, place, *arrays = msgpack.unpackb(payload)
    assert exchange_id.hex() == entry["message"]["exchange_id"]
    assert age_rounds == entry["message"]["age_rounds"]
    assert part == entry["message"]["tables"]["part"]
    assert place == entry["message"]["tables"]["place"]
    scales = struct.unpack("<256f", read(INDEX["scales"]["file"]))
    names = ("item_factors", "gradient", "vectors")
    for name, codes, data in zip(names, arrays[::2], arrays[1::2], strict=True):
        n_rows, n_columns, levels = INDEX["swarm"]["table_shapes"][part][name]
        expected = entry["message"]["tables"][name]
        assert list(codes) == expected["codes"]
        values = _values(data, n_rows * n_columns, levels)
        assert [values[i::n_rows] for i in range(n_rows)] == expected["values"]
        seen = [v + 0.5 - (DITHER[(place + n) % 65_536] + (levels - 1) / 2) for n, v in enumerate(values)]
        product = [np.float32(scales[codes[n % n_rows]]) * np.float32(one) for n, one in enumerate(seen)]
        assert [product[i::n_rows] for i in range(n_rows)] == entry["read"][name]
        place += len(values)


def test_the_common_start_follows_from_the_text() -> None:
    fields = tomllib.loads(read("swarm.toml").decode())
    seed, learning = bytes.fromhex(fields["seed"]), fields["learning"]
    expected = np.frombuffer(read("initial-item-factors.bin"), "<f4").reshape(5, 3)
    for row, key in enumerate(["1", "2", "3", "tt-4", "ε5"]):
        drawn = struct.unpack("<3I", hashlib.shake_256(seed + key.encode()).digest(12))
        uniform = [(2 * u + 1) / 2**32 - 1 for u in drawn]
        assert [np.float32(learning["init_scale"] * 3**0.5 * u) for u in uniform] == list(expected[row])


@pytest.mark.parametrize("kind", ["open", "private"])
def test_the_certificates_are_what_the_text_says(kind: str) -> None:
    entry = INDEX["certificates"][kind]
    authority = x509.load_der_x509_certificate(read(entry["authority"]))
    leaf = x509.load_der_x509_certificate(read(entry["alice"]))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(entry["authority_seed"])).public_key()
    assert authority.public_key() == key
    for certificate in (authority, leaf):
        certificate.verify_directly_issued_by(authority)
        assert certificate.not_valid_before_utc.year == 1970
        assert certificate.not_valid_after_utc.year == 9999
    assert authority.subject.rfc4514_string() == f"CN=p2prec swarm {INDEX['swarm']['swarm_id'][:32]}"
    assert leaf.subject.rfc4514_string() == f"CN={INDEX['peers']['alice']['peer_id']}"
    assert remote_peer_id(read(entry["alice"])) == INDEX["peers"]["alice"]["peer_id"]
