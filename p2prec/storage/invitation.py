"""Invitations to private swarms: the manifest and the membership secret in one file that is worth as much as the
secret.

The file is the manifest's TOML with one more key, `membership_secret`, on top. A file without it is a plain manifest.
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from p2prec import manifest as manifests
from p2prec.errors import ManifestError
from p2prec.manifest import MAX_MANIFEST_BYTES, Manifest

_SECRET_KEY = "membership_secret"
_HEX_32 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """All that it takes to join a swarm."""

    manifest: Manifest
    membership_secret: bytes | None = field(repr=False)
    """The Ed25519 private seed, 32 bytes, whose public key the manifest of a private swarm names; None for an open
    swarm."""

    def __post_init__(self) -> None:
        check_secret(self.manifest, self.membership_secret)


def membership_key_of(secret: bytes) -> str:
    """The public key, in hex, of a membership secret (32 bytes)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()


def check_secret(manifest: Manifest, secret: bytes | None) -> None:
    """Raises ManifestError unless the secret is the one that the manifest asks for."""
    if manifest.membership_key is None:
        if secret is not None:
            raise ManifestError(f"swarm {manifest.name!r} is open, but a membership secret came with it")
    elif secret is None:
        raise ManifestError(
            f"swarm {manifest.name!r} is private: its manifest alone does not let you in",
            remedy="ask a member for an invitation (p2prec swarm invite) and join with that file",
        )
    elif len(secret) != 32 or membership_key_of(secret) != manifest.membership_key:
        raise ManifestError(f"this membership secret does not belong to swarm {manifest.name!r}")


def dump(invitation: Invitation) -> str:
    """The text of an invitation (of a plain manifest for an open swarm)."""
    text = manifests.dump(invitation.manifest)
    if invitation.membership_secret is None:
        return text
    return (
        "# p2prec invitation. Whoever has this file can join the private swarm: hand it over in person or encrypted.\n"
        f'{_SECRET_KEY} = "{invitation.membership_secret.hex()}"\n\n{text}'
    )


def load(path: Path) -> Invitation:
    """Read an invitation or the manifest of an open swarm. Raises ManifestError that says what to do."""
    manifest, secret = _read(path)
    try:
        return Invitation(manifest, secret)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}", remedy=error.remedy) from error


def load_manifest(path: Path) -> Manifest:
    """The manifest in a manifest or invitation file, whether or not the file lets anybody in. Raises ManifestError."""
    return _read(path)[0]


def _read(path: Path) -> tuple[Manifest, bytes | None]:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ManifestError(f"larger than {MAX_MANIFEST_BYTES >> 20} MB, so no manifest or invitation")
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        secret = fields.pop(_SECRET_KEY, None)
        return manifests.from_fields(fields), None if secret is None else _secret(secret)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ManifestError(f"{path}: neither a swarm manifest nor an invitation") from None
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror or error}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}", remedy=error.remedy) from error


def _secret(value: object) -> bytes:
    if not isinstance(value, str) or not _HEX_32.fullmatch(value):
        raise ManifestError(f"{_SECRET_KEY} must be 64 lower-case hexadecimal digits")
    return bytes.fromhex(value)


def write_atomically(path: Path, text: str, *, private: bool) -> None:
    """Write a text file that is there whole, or not at all, after a crash; readable by its owner only when `private`.

    Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
