"""kubeseal opens what is sealed here, and what kubeseal seals is opened here."""

from __future__ import annotations

import base64
import datetime
import json
import random
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import tools
from homelab_mlops.gitops.secrets.encrypt import seal, unseal
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, make_sealing_key, read_certificate, read_private
from tests.conftest import PATIENCE, ROOT

STRICT = {"namespace": "mlflow", "name": "mlflow-s3"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SealingKey:
    folder = tmp_path_factory.mktemp("key")
    made, _ = make_sealing_key(folder / "repository", folder / "key.pem")
    return made


@pytest.fixture(scope="module")
def private(key: SealingKey) -> rsa.RSAPrivateKey:
    assert key.private is not None
    return read_private(key.private)


def kubeseal(*arguments: str | Path, stdin: bytes) -> bytes:
    command = [tools.find("kubeseal", ROOT), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=PATIENCE).stdout


def test_kubeseal_opens_what_is_sealed_here(key: SealingKey) -> None:
    draw = random.Random(7)
    lengths = [0, 1, 65536, *(draw.randint(0, 65536) for _ in range(97))]
    values = {f"key-{number}": draw.randbytes(length) for number, length in enumerate(lengths)}
    public = read_certificate(key.certificate)
    document = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": STRICT,
        "spec": {"encryptedData": {name: seal(value, **STRICT, public=public) for name, value in values.items()}},
    }
    assert key.private is not None
    opened = kubeseal("--recovery-unseal", "--recovery-private-key", key.private, stdin=json.dumps(document).encode())
    # kubeseal writes an empty value as null.
    assert {name: base64.b64decode(value or "") for name, value in json.loads(opened)["data"].items()} == values


@pytest.mark.parametrize("value", [b"", b"a value", bytes(range(256)) * 256], ids=["empty", "text", "64 KiB"])
def test_what_kubeseal_seals_is_opened_here(value: bytes, key: SealingKey, private: rsa.RSAPrivateKey) -> None:
    strict = ["--namespace", STRICT["namespace"], "--name", STRICT["name"]]
    text = kubeseal("--raw", *strict, "--cert", key.certificate, stdin=value).decode()
    assert unseal(text, **STRICT, private=private) == value


def test_what_was_sealed_for_another_secret_or_is_damaged_is_refused(
    key: SealingKey, private: rsa.RSAPrivateKey
) -> None:
    public = read_certificate(key.certificate)
    text = seal(b"a value", **STRICT, public=public)
    for other in ({**STRICT, "namespace": "training"}, {**STRICT, "name": "mlflow-login"}):
        with pytest.raises(RepositoryError, match="another key, namespace or name"):
            unseal(text, **other, private=private)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(RepositoryError, match="another key, namespace or name"):
        unseal(text, **STRICT, private=stranger)
    content = base64.b64decode(text)
    changed = base64.b64encode(content[:-1] + bytes([content[-1] ^ 1])).decode()
    for damaged in (text[:-8], changed, text.replace(text[5], "?"), base64.b64encode(content[:520]).decode()):
        with pytest.raises(RepositoryError, match="damaged"):
            unseal(damaged, **STRICT, private=private)


def test_nothing_is_sealed_for_a_certificate_that_has_expired(tmp_path: Path, private: rsa.RSAPrivateKey) -> None:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(RepositoryError, match="expired on"):
        read_certificate(path)
