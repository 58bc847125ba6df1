"""The sealing key pair: the private key stays outside the repository, the certificate is committed."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.settings import CLUSTER

CERTIFICATE = Path("clusters") / CLUSTER / "sealing-certificate.pem"
KEY_BITS = 4096
VALIDITY = datetime.timedelta(days=3650)


class SealingKey(NamedTuple):
    """The paths of both halves; ``private`` is None where this machine does not have the private key."""

    certificate: Path
    private: Path | None


def default_key_file() -> Path:
    """Where the private key lies unless ``--key-file`` says otherwise."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "homelab-mlops" / CLUSTER / "sealing-key.pem"


def find_sealing_key(root: Path, key_file: Path | None) -> SealingKey:
    """The key pair of the repository in ``root``.

    Raises:
        RepositoryError: there is no certificate, or the private key is not its other half.
    """
    certificate = root / CERTIFICATE
    if not certificate.is_file():
        raise RepositoryError("the repository has no sealing certificate", where=str(CERTIFICATE), fix="homelab init")
    private = key_file or default_key_file()
    if not private.is_file():
        if key_file is not None:
            raise RepositoryError("there is no such key file", where=str(key_file))
        return SealingKey(certificate, None)
    if read_private(private).public_key() != _certificate_of(certificate).public_key():
        raise RepositoryError(
            f"the private key does not belong to {CERTIFICATE}",
            where=str(private),
            fix=f"name the right one with --key-file; or, to begin anew with new credentials: delete {CERTIFICATE} "
            "and give `homelab init` a --key-file that does not exist",
        )
    return SealingKey(certificate, private)


def make_sealing_key(root: Path, key_file: Path | None) -> tuple[SealingKey, bool]:
    """The key pair of the repository in ``root``, made where it is missing; and whether the private key is new.

    Raises:
        RepositoryError: the key file lies inside the repository, or is not the certificate's other half.
    """
    private = (key_file or default_key_file()).expanduser().absolute()
    if private.resolve().is_relative_to(root.resolve()):
        raise RepositoryError(
            "the private sealing key may not lie inside the repository",
            where=str(private),
            fix="choose another --key-file",
        )
    certificate = root / CERTIFICATE
    if certificate.is_file():
        return find_sealing_key(root, key_file), False
    is_new = not private.is_file()
    if is_new:
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        _write_private(private, key)
    else:
        key = read_private(private)
    write_file(certificate, _self_signed(key))
    return SealingKey(certificate, private), is_new


def write_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes ``path`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_private(path: Path, key: rsa.RSAPrivateKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_file(path, pem, mode=0o600)


def read_private(path: Path) -> rsa.RSAPrivateKey:
    """The private sealing key.

    Raises:
        RepositoryError: others can read the file, or it is not an unencrypted RSA key.
    """
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RepositoryError("the private sealing key can be read by others", where=str(path), fix=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise RepositoryError("not an unencrypted PEM private key", where=str(path)) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise RepositoryError("the sealing key has to be an RSA key", where=str(path))
    return key


def read_certificate(path: Path) -> rsa.RSAPublicKey:
    """The public key that values are sealed for.

    Raises:
        RepositoryError: the file is not a certificate of an RSA key, or the certificate has expired.
    """
    certificate = _certificate_of(path)
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise RepositoryError(f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", where=str(path))
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise RepositoryError("the sealing key has to be an RSA key", where=str(path))
    return public


def _certificate_of(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise RepositoryError("not a PEM certificate", where=str(path)) from error


def _self_signed(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{CLUSTER} sealed-secrets")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
