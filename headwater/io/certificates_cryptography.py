"""Certificates for a plant of its own, by `cryptography`: an authority, and what it signs for servers and clients.

Elliptic curve P-256 throughout: small enough for a Pi, known to every TLS library. Times start a year back, because the
clock of a device without a battery may be that wrong when it connects for the first time.
"""

import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headwater.errors import SettingsError

AUTHORITY_DAYS = 20 * 365
ISSUED_DAYS = 10 * 365
BACK_DAYS = 365


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def make_authority(name: str, now_us: int) -> Pair:
    """Makes a key and a certificate, signed by itself, that signs others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name)
    usage = _usage(signs_certificates=True)
    made = (
        _builder(subject, subject, key.public_key(), now_us, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(made, key)


def issue(authority: Pair, common_name: str, now_us: int, *, hosts: Sequence[str] = ()) -> Pair:
    """Makes a key and a certificate that the authority signs: for a server where hosts are named, else for a client.

    Raises:
        SettingsError: the authority's files are not what they must be, or a name can't stand in a certificate.
    """
    try:
        signer = x509.load_pem_x509_certificate(authority.certificate)
        signing_key = serialization.load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"the authority's certificate or key can't be read: {error}") from error
    if not isinstance(signing_key, ec.EllipticCurvePrivateKey):
        raise SettingsError("the authority's key is not of an elliptic curve: let `headwater init` make one")
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_named(common_name), signer.subject, key.public_key(), now_us, ISSUED_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
        )
    return _pair(builder.sign(signing_key, hashes.SHA256()), key)


def common_name(certificate: bytes) -> str:
    """Returns the common name in a PEM certificate, "" if it has none.

    Raises:
        SettingsError: it is not one.
    """
    try:
        subject = x509.load_pem_x509_certificate(certificate).subject
    except ValueError as error:
        raise SettingsError(f"a certificate can't be read: {error}") from error
    names = [str(part.value) for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[0] if names else ""


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_us: int, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=BACK_DAYS))
        .not_valid_after(now + timedelta(days=days))
    )


def _named(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise SettingsError(f"{common_name!r} can't be the name in a certificate: {error}") from error


def _general_name(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):  # Not an address: a name.
        return x509.IPAddress(ipaddress.ip_address(host))
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise SettingsError(f"{host!r} is not the name of a host: {error}") from error


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
