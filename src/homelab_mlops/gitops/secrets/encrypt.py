"""Encrypts and decrypts as Sealed Secrets does: kubeseal and the controller open what this module seals.

A sealed value is the length of the wrapped key (2 bytes, big-endian), the wrapped key, and the encrypted value. A new
AES-256 key encrypts each value by GCM; RSA-OAEP with SHA-256 wraps that key, bound to the value's label.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homelab_mlops.errors import RepositoryError

SESSION_KEY_BYTES = 32
# Each key encrypts one value, so the nonce need not differ.
_NONCE = bytes(12)


def strict_label(namespace: str, name: str) -> bytes:
    """What a value of strict scope is bound to: the one Secret that may hold it."""
    return f"{namespace}/{name}".encode()


def seal(value: bytes, *, namespace: str, name: str, public: rsa.RSAPublicKey) -> str:
    """``value`` sealed for the Secret ``namespace``/``name`` alone (strict scope), as base64 text."""
    return seal_labelled(value, strict_label(namespace, name), public)


def unseal(text: str, *, namespace: str, name: str, private: rsa.RSAPrivateKey) -> bytes:
    """The value that ``text`` holds for the Secret ``namespace``/``name``.

    Raises:
        RepositoryError: the value was sealed for another key, namespace or name, or is damaged.
    """
    return unseal_labelled(text, strict_label(namespace, name), private)


def try_unseal(text: str, label: bytes, private: rsa.RSAPrivateKey) -> bytes | None:
    """The value as `unseal_labelled` returns it; None where it refuses."""
    try:
        return unseal_labelled(text, label, private)
    except RepositoryError:
        return None


def unseal_labelled(text: str, label: bytes, private: rsa.RSAPrivateKey) -> bytes:
    """The value that ``text`` holds under a label.

    Raises:
        RepositoryError: the value was sealed for another key or label, or is damaged.
    """
    try:
        content = base64.b64decode(text, validate=True)
        session = session_key(content, private, label)
        if session is not None:
            return AESGCM(session).decrypt(_NONCE, encrypted_part(content), None)
    except (ValueError, InvalidTag) as error:
        raise RepositoryError("the sealed value is damaged", fix="bring back the file from git") from error
    raise RepositoryError(
        "the value was sealed for another key, namespace or name",
        fix="bring back the file from git, or name its key: `homelab init --old-key FILE`",
    )


def seal_labelled(value: bytes, label: bytes, public: rsa.RSAPublicKey) -> str:
    """``value`` sealed under a label, as base64 text."""
    session = os.urandom(SESSION_KEY_BYTES)
    wrapped = public.encrypt(session, _scheme(label))
    content = len(wrapped).to_bytes(2) + wrapped + AESGCM(session).encrypt(_NONCE, value, None)
    return base64.b64encode(content).decode()


def session_key(content: bytes, private: rsa.RSAPrivateKey, label: bytes) -> bytes | None:
    """The AES key of the sealed value ``content``; None where the private key or the label is another one."""
    try:
        return private.decrypt(content[2 : 2 + int.from_bytes(content[:2])], _scheme(label))
    except ValueError:
        return None


def encrypted_part(content: bytes) -> bytes:
    """The part of the sealed value ``content`` that its AES key opens."""
    return content[2 + int.from_bytes(content[:2]) :]


def _scheme(label: bytes) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label or None)
