"""Whether a private key opens a value of a SealedSecret; if not, what the value was sealed for."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from homelab_mlops.gitops.secrets.encrypt import SESSION_KEY_BYTES, encrypted_part, session_key, strict_label


@functools.lru_cache(maxsize=64)
def load_private_key(pem: bytes) -> RSAPrivateKey:
    """The private key of a PEM text. The result is cached, because OpenSSL takes 0.2 s to check a key of 4096 bits.

    Raises:
        ValueError: the text is no PEM, or its key is no RSA key.
    """
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("this private key is no RSA key, so no sealing key")
    return key


def label_of(metadata: dict[str, Any]) -> bytes:
    """The label that the values of a SealedSecret with this metadata are bound to, by its scope."""
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    notes = metadata.get("annotations") or {}
    if notes.get("sealedsecrets.bitnami.com/cluster-wide") == "true":
        return b""
    if notes.get("sealedsecrets.bitnami.com/namespace-wide") == "true":
        return str(namespace).encode()
    return strict_label(namespace, name)


def is_sealed(content: bytes) -> bool:
    """Whether a value has the form of a sealed one: a length in 2 bytes, a wrapped key of that length, ciphertext."""
    return 2 < int.from_bytes(content[:2]) + 2 < len(content)


def opens(content: bytes, private: RSAPrivateKey, label: bytes) -> bool:
    """Whether the key unwraps the value's session key under this label."""
    return session_key(content, private, label) is not None


def decrypts(content: bytes, private: RSAPrivateKey, label: bytes) -> bool:
    """Whether the key decrypts the whole value under this label."""
    session = session_key(content, private, label)
    try:
        AESGCM(session or b"").decrypt(bytes(12), encrypted_part(content), None)
    except (InvalidTag, ValueError):
        return False
    return True


def label_digest(content: bytes, private: RSAPrivateKey) -> bytes | None:
    """The SHA-256 of the label that a value was sealed with; None where it was sealed for another key.

    OpenSSL refuses another key and another label alike. This function therefore undoes OAEP's padding (RFC 8017, 7.1.2)
    itself: the part of the padding that does not depend on the label says whether the key is the right one.
    """
    numbers, size = private.private_numbers(), hashlib.sha256().digest_size
    sealed = int.from_bytes(content[2 : 2 + int.from_bytes(content[:2])])
    by_q = pow(sealed, numbers.dmq1, numbers.q)
    by_p = pow(sealed, numbers.dmp1, numbers.p)
    block = (by_q + (by_p - by_q) * numbers.iqmp % numbers.p * numbers.q).to_bytes(private.key_size // 8)
    seed, data = block[1 : 1 + size], block[1 + size :]
    seed = _xor(seed, _mgf1(data, size))
    data = _xor(data, _mgf1(seed, len(data)))
    label, rest, session = data[:size], data[size:-SESSION_KEY_BYTES], data[-SESSION_KEY_BYTES:]
    fits = block[0] == 0 and rest == bytes(len(rest) - 1) + b"\x01" and len(session) == SESSION_KEY_BYTES
    return label if fits else None


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = (hashlib.sha256(seed + number.to_bytes(4)).digest() for number in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
