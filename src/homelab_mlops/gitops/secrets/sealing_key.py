"""The sealing key pair: the private key stays outside the repository, the certificate is committed."""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.files import write_file
from homelab_mlops.gitops.secrets.unseal import load_private_key
from homelab_mlops.gitops.settings import CLUSTER

CERTIFICATE = Path("clusters") / CLUSTER / "sealing-certificate.pem"
# The key that the first fork of a machine makes; each further one has its fingerprint in its name.
FIRST_KEY = "sealing-key.pem"
KEY_BITS = 4096
VALIDITY = datetime.timedelta(days=3650)


class NewKey(NamedTuple):
    """A key pair that is not written yet."""

    private: rsa.RSAPrivateKey
    certificate: bytes


class SealingKey(NamedTuple):
    """Where the two halves lie.

    Attributes:
        private: None where this machine does not hold the private one.
        others: other private keys of this machine: what they open can be sealed anew.
        new: the halves, where the certificate is still to be written by ``keep``.
    """

    certificate: Path
    private: Path | None
    others: tuple[Path, ...] = ()
    new: NewKey | None = None

    def public(self) -> rsa.RSAPublicKey:
        """What values are sealed for."""
        return self.new.private.public_key() if self.new else read_certificate(self.certificate)

    def privates(self) -> list[rsa.RSAPrivateKey]:
        """The private keys: that of the certificate, then the others.

        Raises:
            RepositoryError: the first is not on this machine.
        """
        if self.private is None:
            raise RepositoryError(
                "the private sealing key is not on this machine",
                where=f"{key_folder()} has none with the fingerprint {fingerprint(self.public())}",
                fix="bring its copy back to there, or name it with --key-file; "
                "`homelab init --new-key` begins with a new one",
            )
        own = self.new.private if self.new else read_private(self.private)
        return [own, *(key for path in self.others if (key := try_private(path)) is not None)]

    def keep(self) -> bool:
        """Writes a new private key to where it is kept, and returns whether it did; one that is there stays."""
        if self.new is None or self.private is None or self.private.exists():
            return False
        _write_private(self.private, self.new.private)
        return True


def key_folder() -> Path:
    """Where private keys lie unless ``--key-file`` says otherwise: one for each fork."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "homelab-mlops" / CLUSTER


def fingerprint(public: rsa.RSAPublicKey) -> str:
    """What tells one key from another, in 16 characters."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def find_sealing_key(root: Path, key_file: Path | None, old_keys: Iterable[Path] = ()) -> SealingKey:
    """The key pair of the repository in ``root``; its private key is the one in the folder that fits the certificate.

    Raises:
        RepositoryError: there is no certificate, or the private key that was named is not its other half.
    """
    certificate = root / CERTIFICATE
    if not certificate.is_file():
        raise RepositoryError("the repository has no sealing certificate", where=str(CERTIFICATE), fix="homelab init")
    public = _certificate_of(certificate).public_key()
    others = _others(old_keys)
    if key_file is None:
        private = next((path for path in others if _public_of(path) == public), None)
        return SealingKey(certificate, private, tuple(path for path in others if path != private))
    private = key_file.expanduser()
    if not private.is_file():
        raise RepositoryError("there is no such key file", where=str(key_file))
    if read_private(private).public_key() != public:
        raise RepositoryError(
            f"the private key does not belong to {CERTIFICATE}",
            where=str(private),
            fix="name the right one with --key-file; `homelab init --new-key` begins with a new one",
        )
    return SealingKey(certificate, private, tuple(others))


def new_sealing_key(root: Path, key_file: Path | None, old_keys: Iterable[Path] = ()) -> SealingKey:
    """A key pair for the repository in ``root`` that is not written yet, of the private key in ``key_file``, if any.

    Raises:
        RepositoryError: the key file lies inside the repository, or is the key that is replaced.
    """
    certificate = root / CERTIFICATE
    private = None if key_file is None else key_file.expanduser().absolute()
    if private is not None:
        refuse_inside(root, private)
    others = _others(old_keys)
    if private is not None and private.is_file():
        key = read_private(private)
        others = [path for path in others if _public_of(path) != key.public_key()]
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    if certificate.is_file() and _certificate_of(certificate).public_key() == key.public_key():
        raise RepositoryError(
            f"this is the key of {CERTIFICATE} already", where=str(private), fix="give another --key-file, or none"
        )
    return SealingKey(
        certificate, private or _free_path(key.public_key()), tuple(others), NewKey(key, _self_signed(key))
    )


def make_sealing_key(root: Path, key_file: Path | None) -> tuple[SealingKey, bool]:
    """The key pair of the repository in ``root``, made where it is missing; and whether the private key is new.

    Raises:
        RepositoryError: the key file lies inside the repository, or is not the certificate's other half.
    """
    if (root / CERTIFICATE).is_file():
        return find_sealing_key(root, key_file), False
    key = new_sealing_key(root, key_file)
    is_new = key.keep()
    if key.new is not None:
        write_file(key.certificate, key.new.certificate)
    return key._replace(new=None), is_new


def kept_keys() -> list[Path]:
    """The private keys in the folder: first the one that the first fork of this machine made."""
    folder = key_folder()
    paths = [path for path in sorted(folder.glob("*.pem")) if path.is_file() and _public_of(path) is not None]
    return sorted(paths, key=lambda path: path.name != FIRST_KEY)


def _others(old_keys: Iterable[Path]) -> list[Path]:
    named = [path.expanduser() for path in old_keys]
    for path in named:
        if not path.is_file():
            raise RepositoryError("there is no such key file", where=str(path))
        read_private(path)
    return [*named, *(path for path in kept_keys() if path not in named)]


def _free_path(public: rsa.RSAPublicKey) -> Path:
    first = key_folder() / FIRST_KEY
    return first if not first.exists() else first.with_name(f"{first.stem}-{fingerprint(public)}.pem")


def refuse_inside(root: Path, private: Path) -> None:
    """Raises RepositoryError where a private key would lie in the repository."""
    if private.resolve().is_relative_to(root.resolve()):
        raise RepositoryError(
            "the private sealing key may not lie inside the repository",
            where=str(private),
            fix="choose another --key-file",
        )


def _write_private(path: Path, key: rsa.RSAPrivateKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_file(path, pem, mode=0o600)


def try_private(path: Path) -> rsa.RSAPrivateKey | None:
    """The private key in a file; None where it holds none."""
    try:
        return load_private_key(path.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _public_of(path: Path) -> rsa.RSAPublicKey | None:
    private = try_private(path)
    return None if private is None else private.public_key()


def read_private(path: Path) -> rsa.RSAPrivateKey:
    """The private sealing key.

    Raises:
        RepositoryError: others can read the file, or it is not an unencrypted RSA key.
    """
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RepositoryError("the private sealing key can be read by others", where=str(path), fix=f"chmod 600 {path}")
    try:
        return load_private_key(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RepositoryError("not an unencrypted PEM private RSA key", where=str(path)) from error


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
