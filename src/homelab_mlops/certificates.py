"""An authority of one's own, the certificates that it signs, and what a certificate says of itself."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homelab_mlops.errors import RepositoryError

AUTHORITY_VALIDITY = datetime.timedelta(days=3650)
# The most that Apple's devices accept of any authority is 825 days; a year and a month leaves time to renew.
VALIDITY = datetime.timedelta(days=397)
# A device whose clock is behind accepts a new certificate all the same.
BEFORE = datetime.timedelta(days=1)
RENEW_WITHIN = datetime.timedelta(days=30)
# cert-manager renews one of 90 days when it has 30 left.
WARN_WITHIN = datetime.timedelta(days=21)
_EVERY_ADDRESS = tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0")))


class Pair(NamedTuple):
    """A certificate, with those that sign it, and its private key, both as PEM."""

    certificate: str
    key: str


def new_authority(domain: str, now: datetime.datetime | None = None) -> Pair:
    """An authority that can sign for names below ``domain`` and for nothing else, whoever gets its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"homelab-mlops {domain}"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), now or _now(), AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(
            x509.NameConstraints([x509.DNSName(domain)], [x509.IPAddress(net) for net in _EVERY_ADDRESS]),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def new_certificate(authority: Pair, hosts: Iterable[str], now: datetime.datetime | None = None) -> Pair:
    """A certificate of a new key for ``hosts``, which ``authority`` signs.

    Raises:
        RepositoryError: the authority is none, or ends before the certificate would.
    """
    signer = read_certificate(authority.certificate)
    signing = serialization.load_pem_private_key(authority.key.encode(), password=None)
    now = now or _now()
    if not isinstance(signing, ec.EllipticCurvePrivateKey) or not _is_key_of(signing, signer):
        raise RepositoryError("the key is not that of the authority", fix="homelab certificate --new-authority")
    if signer.not_valid_after_utc < now + VALIDITY:
        raise RepositoryError(
            f"the authority ends on {signer.not_valid_after_utc:%Y-%m-%d}, before a new certificate would",
            fix="homelab certificate --new-authority, and bring its file to every device",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(x509.Name([]), signer.subject, key.public_key(), now, VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
        .sign(signing, hashes.SHA256())
    )
    return _pair(certificate, key)


def read_certificate(pem: str, where: str = "") -> x509.Certificate:
    """The first certificate of a PEM text.

    Raises:
        RepositoryError: it holds none.
    """
    try:
        return x509.load_pem_x509_certificates(pem.encode())[0]
    except ValueError as error:
        raise RepositoryError("not a PEM certificate", where=where) from error


def ends(pem: str) -> datetime.datetime:
    """When the first certificate of a PEM text ends."""
    return read_certificate(pem).not_valid_after_utc


def hosts_of(pem: str) -> list[str]:
    """The hosts that a certificate is for; some begin with a wildcard."""
    try:
        names = read_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def covers(pem: str, host: str) -> bool:
    """Whether a certificate is for ``host``: by its name, or by a wildcard in place of its first label."""
    wildcard = f"*.{host.partition('.')[2]}"
    return any(name.lower() in (host.lower(), wildcard.lower()) for name in hosts_of(pem))


def signed_by(pem: str, authority: str) -> bool:
    """Whether a certificate is of the authority."""
    certificate = read_certificate(pem)
    try:
        certificate.verify_directly_issued_by(read_certificate(authority))
    except Exception:  # an exception for each way in which it is not: type, name, signature
        return False
    return True


def domain_of(authority: str) -> str:
    """The domain below which an authority of ours signs; empty for another authority."""
    try:
        constraints = read_certificate(authority).extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ""
    names = [name.value for name in constraints.permitted_subtrees or [] if isinstance(name, x509.DNSName)]
    return names[0] if len(names) == 1 else ""


def refuse_pair(certificate: str, key: str) -> None:
    """Refuses a certificate and a private key that a server cannot use together.

    Raises:
        RepositoryError: one of them is no PEM, the key is another's, or the certificate has ended.
    """
    found = read_certificate(certificate)
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RepositoryError("not an unencrypted PEM private key") from error
    if not _is_key_of(private, found):
        raise RepositoryError(
            "the private key is not that of the certificate",
            fix="bring both of one order; the certificate of the server comes first in its file",
        )
    if found.not_valid_after_utc < _now():
        raise RepositoryError(f"the certificate ended on {found.not_valid_after_utc:%Y-%m-%d}")


def _is_key_of(private: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    return _der(private.public_key()) == _der(certificate.public_key())  # type: ignore[arg-type]


def _der(public: CertificatePublicKeyTypes) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    validity: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + validity)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode())
