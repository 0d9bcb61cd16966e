"""A peer's identity: one Ed25519 key, its libp2p peer id, and the file that keeps it.

The peer id is libp2p's for the same key (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md): base58btc
of the identity multihash of the protobuf-encoded public key. It contains the key, and is the same on every transport.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from p2prec.errors import StateError
from p2prec.types import PeerId

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32
PEER_ID_CHARACTERS = 52

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_PAIRS = [first + second for first in _BASE58 for second in _BASE58]
_BASE58_DIGITS = {character: digit for digit, character in enumerate(_BASE58)}
# identity multihash (code 0x00, length 0x24) of the protobuf PublicKey {Type = 1 (Ed25519), Data = 32 bytes}
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_MAX_KEY_FILE_BYTES = 4096


class Identity:
    """An Ed25519 key pair that signs for one peer."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self.private_key = private_key
        """For the transport, which proves possession of it in its handshake. Never leaves the process but to `save`."""
        self.public_bytes = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        """32 bytes."""
        self.peer_id = peer_id_of(self.public_bytes)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity, from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte Ed25519 seed (RFC 8032), for test vectors and simulations."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a key file made by `save`. Raises StateError when it is missing, damaged or readable by others."""
        try:
            pem = _read_private(path)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StateError(f"{path}: not a readable private key", remedy=_damaged_remedy(path)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StateError(f"{path}: not an Ed25519 key", remedy=_damaged_remedy(path))
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key (PKCS #8 PEM, mode 0600) so that the file is whole and on disk, or absent, whatever happens.

        Raises StateError when the file exists already (a lost key is a lost identity) or cannot be written.
        """
        pem = self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        if path.exists():
            raise StateError(f"{path}: exists already; an identity is never overwritten")
        try:
            _write_private(path, pem)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature of `data`."""
        return self.private_key.sign(data)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"


class Verifier:
    """Checks one peer's signatures; keeps the parsed key, so that checking many is cheap."""

    def __init__(self, public_bytes: bytes) -> None:
        """Raises ValueError for a key that is no point of the curve."""
        self.public_bytes = public_bytes
        self._key = Ed25519PublicKey.from_public_bytes(self.public_bytes)

    def is_valid(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` (64 bytes) is the peer's over `data`."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def peer_id_of(public_bytes: bytes) -> PeerId:
    """The peer id of a 32-byte Ed25519 public key."""
    if len(public_bytes) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_bytes)}")
    return PeerId(_base58_encode(_PEER_ID_PREFIX + public_bytes))


def public_bytes_of(peer_id: str) -> bytes:
    """The 32-byte Ed25519 public key inside a peer id. Raises ValueError when it is not the peer id of such a key."""
    if len(peer_id) != PEER_ID_CHARACTERS:
        raise ValueError(f"a peer id has {PEER_ID_CHARACTERS} characters, not {len(peer_id)}")
    multihash = _base58_decode(peer_id, len(_PEER_ID_PREFIX) + PUBLIC_KEY_BYTES)
    if not multihash.startswith(_PEER_ID_PREFIX):
        raise ValueError("not the peer id of an Ed25519 key")
    return multihash[len(_PEER_ID_PREFIX) :]


def _base58_encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    pairs = []
    while number:
        # Ten digits are a small integer, and those are several times as fast.
        number, ten = divmod(number, 58**10)
        for _ in range(5):
            ten, pair = divmod(ten, 58**2)
            pairs.append(_BASE58_PAIRS[pair])
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * leading_zeros + "".join(reversed(pairs)).lstrip("1")


def _base58_decode(text: str, n_bytes: int) -> bytes:
    number = 0
    for character in text:
        if character not in _BASE58_DIGITS:
            raise ValueError(f"{character!r} is not a base58 digit")
        number = number * 58 + _BASE58_DIGITS[character]
    if number.bit_length() > 8 * n_bytes:
        raise ValueError("too large a base58 number")
    data = number.to_bytes(n_bytes, "big")
    if _base58_encode(data) != text:  # a second spelling of the same bytes
        raise ValueError("not the canonical base58 form")
    return data


def _read_private(path: Path) -> bytes:
    # Checked on the open file: a check of the path could be of another file than the one read.
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StateError(
                f"{path}: other users may read or change this private key (mode {stat.S_IMODE(mode):04o})",
                remedy=f"chmod 600 {path}",
            )
        pem = file.read(_MAX_KEY_FILE_BYTES + 1)
    if len(pem) > _MAX_KEY_FILE_BYTES:
        raise StateError(f"{path}: larger than any private key", remedy=_damaged_remedy(path))
    return pem


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # a umask may only have taken bits away, an ACL may have added some
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def _damaged_remedy(path: Path) -> str:
    return f"restore {path} from a backup, or delete it to start over as a new peer"
