"""The identity: known libp2p vectors, and a key file that is private, whole and never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from p2prec.errors import StateError
from p2prec.identity import Identity, Verifier, peer_id_of, public_bytes_of

# libp2p/specs peer-ids.md, "Test vectors" (Ed25519 key pair); the peer id as other libp2p implementations derive it.
SPEC_SEED = bytes.fromhex("7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d")
SPEC_PUBLIC = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
SPEC_PEER_ID = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
# libp2p/specs http/peer-id-auth.md, the walk-through's server key (a seed of zeros).
ZERO_PEER_ID = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"


def test_peer_id_matches_libp2p() -> None:
    identity = Identity.from_seed(SPEC_SEED)
    assert identity.public_bytes == SPEC_PUBLIC
    assert identity.peer_id == SPEC_PEER_ID
    assert public_bytes_of(SPEC_PEER_ID) == SPEC_PUBLIC
    assert Identity.from_seed(bytes(32)).peer_id == ZERO_PEER_ID


@pytest.mark.parametrize("public_bytes", [bytes(32), b"\xff" * 32, bytes(range(32))])
def test_peer_id_and_key_are_the_same_thing(public_bytes: bytes) -> None:
    assert public_bytes_of(peer_id_of(public_bytes)) == public_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        SPEC_PEER_ID[:-1],
        SPEC_PEER_ID + "1",
        SPEC_PEER_ID[:-1] + "0",  # not a base58 digit
        SPEC_PEER_ID[:-1] + "é",
        "z" * 52,  # too large a number
        "1" * 52,  # zeros
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # RSA
    ],
)
def test_what_is_not_a_peer_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        public_bytes_of(text)


@pytest.mark.parametrize("n_bytes", [0, 31, 33])
def test_a_key_of_another_length_has_no_peer_id(n_bytes: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        peer_id_of(bytes(n_bytes))


def test_signatures() -> None:
    identity = Identity.from_seed(SPEC_SEED)
    verifier = Verifier(identity.public_bytes)
    signature = identity.sign(b"data")
    assert verifier.is_valid(signature, b"data")
    assert not verifier.is_valid(signature, b"other data")
    assert not verifier.is_valid(signature[:-1], b"data")
    assert not Verifier(Identity.generate().public_bytes).is_valid(signature, b"data")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    identity = Identity.generate()
    identity.save(path)
    assert Identity.load(path).peer_id == identity.peer_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["identity.key"]


def test_the_private_key_is_not_in_the_repr() -> None:
    identity = Identity.from_seed(SPEC_SEED)
    assert repr(identity) == f"Identity({SPEC_PEER_ID})"


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    first = Identity.generate()
    first.save(path)
    with pytest.raises(StateError, match="never overwritten"):
        Identity.generate().save(path)
    assert Identity.load(path).peer_id == first.peer_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_key_that_others_may_touch_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.key"
    Identity.generate().save(path)
    path.chmod(mode)
    with pytest.raises(StateError, match="other users") as refusal:
        Identity.load(path)
    assert refusal.value.remedy == f"chmod 600 {path}"


def test_a_key_that_only_the_owner_reads_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    identity = Identity.generate()
    identity.save(path)
    path.chmod(0o400)
    assert Identity.load(path).peer_id == identity.peer_id


@pytest.mark.parametrize(
    "damage", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff" * 99]
)
def test_a_damaged_key_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(damage)
    path.chmod(0o600)
    with pytest.raises(StateError, match="private key") as refusal:
        Identity.load(path)
    assert "backup" in refusal.value.remedy


def test_a_huge_file_is_not_read_as_a_key(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(bytes(4097))
    path.chmod(0o600)
    with pytest.raises(StateError, match="larger than any"):
        Identity.load(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)
    path.chmod(0o600)
    with pytest.raises(StateError, match="Ed25519"):
        Identity.load(path)


def test_a_missing_file_or_directory_is_a_state_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        Identity.load(tmp_path / "identity.key")
    with pytest.raises(StateError, match="No such file"):
        Identity.generate().save(tmp_path / "absent" / "identity.key")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StateError, match="No space"):
        Identity.generate().save(tmp_path / "identity.key")
    assert list(tmp_path.iterdir()) == []
