"""Who may connect: the swarm's certificate authority, a peer's certificate, and the TLS contexts made of them.

Python's `ssl` cannot accept an unknown self-signed client certificate, so every peer of a swarm trusts one authority. Its key
is public in an open swarm (derived from the swarm id: having the manifest is enough) and a secret of the members in a private
one (handed over with the invitation). Each peer issues its own certificate, in memory, for its identity key; the certificate
proves membership, the key in it who the peer is. Everything but the key pair is fixed, so all peers make the same authority.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2prec.errors import TransportFailure, UsageError
from p2prec.identity import SEED_BYTES, Identity, peer_id_of
from p2prec.manifest import Manifest
from p2prec.types import PeerId, SwarmId

ALPN = "p2prec/3"
"""Agreed on in the handshake, so that another TLS service with a certificate of the swarm is not taken for a peer."""

OPEN_SWARM_INFO = b"p2prec/3 open swarm authority"

# As wide as X.509 can say (RFC 5280, 4.1.2.5): a device whose clock stands at 1970 is still a member.
_NOT_BEFORE = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def authority_key(manifest: Manifest, membership_secret: bytes | None) -> Ed25519PrivateKey:
    """The key that signs the certificates of this swarm.

    membership_secret: the 32-byte Ed25519 seed of a private swarm's membership key; None for an open swarm.
    Raises UsageError when it is missing, superfluous or of another swarm.
    """
    if manifest.membership_key is None:
        if membership_secret is not None:
            raise UsageError("an open swarm has no membership secret")
        return Ed25519PrivateKey.from_private_bytes(_open_swarm_seed(manifest.swarm_id))
    if membership_secret is None:
        raise UsageError(
            f"{manifest.name} is a private swarm, and this device has no invitation to it",
            remedy="ask a member for one (p2prec swarm invite), then: p2prec swarm join FILE",
        )
    if len(membership_secret) != SEED_BYTES:
        raise UsageError(f"a membership secret has {SEED_BYTES} bytes, not {len(membership_secret)}")
    key = Ed25519PrivateKey.from_private_bytes(membership_secret)
    if _raw(key.public_key()).hex() != manifest.membership_key:
        raise UsageError("the membership secret belongs to another swarm")
    return key


def authority_certificate(swarm_id: SwarmId, key: Ed25519PrivateKey) -> x509.Certificate:
    """The self-signed certificate that every peer of the swarm makes for itself, the same to the byte, and trusts."""
    public_key = key.public_key()
    name = _authority_name(swarm_id)
    return (
        _certificate(name, name, public_key, serial_number=1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, algorithm=None)
    )


def peer_certificate(swarm_id: SwarmId, key: Ed25519PrivateKey, identity: Identity) -> x509.Certificate:
    """The certificate of one peer, signed by the swarm's authority."""
    public_key = identity.private_key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.peer_id)])
    return (
        _certificate(subject, _authority_name(swarm_id), public_key, serial_number=2)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, algorithm=None)
    )


def tls_contexts(
    manifest: Manifest, membership_secret: bytes | None, identity: Identity
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts for dialling and for accepting: TLS 1.3 alone, both sides certified, no resumption.

    Raises UsageError as `authority_key` does.
    """
    key = authority_key(manifest, membership_secret)
    authority = authority_certificate(manifest.swarm_id, key)
    certificate = peer_certificate(manifest.swarm_id, key, identity)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # a peer's name is its key, not its address
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.num_tickets = 0  # a resumed session would carry no certificate to read the peer id from
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
        context.set_alpn_protocols([ALPN])
        _load_own_certificate(context, certificate, identity)
    return client, server


def remote_peer_id(certificate_der: bytes | None) -> PeerId:
    """The peer id of a verified certificate. Raises TransportFailure when it is not one of a peer."""
    try:
        key = x509.load_der_x509_certificate(certificate_der or b"").public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TransportFailure("the other side's certificate cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TransportFailure("the other side's certificate has no Ed25519 key")
    return peer_id_of(_raw(key))


def require_member(certificate_der: bytes, authority: x509.Certificate, peer_id: PeerId) -> None:
    """For a transport that has proven `peer_id` by itself: the certificate has to say that this peer is of the swarm.

    A certificate is no secret, so another peer's proves nothing: it must be for the proven key. Raises TransportFailure.
    """
    try:
        x509.load_der_x509_certificate(certificate_der).verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise TransportFailure("the other side's certificate is not of this swarm") from error
    if remote_peer_id(certificate_der) != peer_id:
        raise TransportFailure("the other side's certificate is another peer's")


def _open_swarm_seed(swarm_id: SwarmId) -> bytes:
    return HKDF(algorithm=SHA256(), length=SEED_BYTES, salt=None, info=OPEN_SWARM_INFO).derive(swarm_id)


def _authority_name(swarm_id: SwarmId) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"p2prec swarm {swarm_id.hex()[:32]}")])


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: Ed25519PublicKey, *, serial_number: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=serial_number,
        not_valid_before=_NOT_BEFORE,
        not_valid_after=_NOT_AFTER,
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_own_certificate(context: ssl.SSLContext, certificate: x509.Certificate, identity: Identity) -> None:
    # `ssl` reads these from files only. A pipe is one that never touches a disk; both fit into its buffer.
    pem = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _piped(certificate.public_bytes(Encoding.PEM)) as certificate_path, _piped(pem) as key_path:
        context.load_cert_chain(certificate_path, key_path)


@contextmanager
def _piped(data: bytes) -> Iterator[str]:
    """A path from which `data` can be read once."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(data)
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
