"""The controller of Sealed Secrets opens everything that `init` and `seal` write, whatever its bytes are."""

from __future__ import annotations

import base64
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.clients.kubernetes import Cluster
from homelab_mlops.cluster import bootstrap
from homelab_mlops.gitops.init import initialise
from homelab_mlops.gitops.secrets.encrypt import seal
from homelab_mlops.gitops.secrets.seal import rotate, set_secret
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, find_sealing_key, read_certificate
from homelab_mlops.gitops.secrets.table import as_bytes, as_text, load_table, read_sealed
from tests.conftest import ROOT
from tests.unit.gitops.controller import eventually, sealed_secrets_controller

Values = dict[str, bytes]
# What etcd takes of one object holds ten of the values, sealed and in base64.
IN_ONE = 10


def random_values() -> list[Values]:
    """A hundred values of 0 to 64 KiB, as Secrets."""
    draw = random.Random(19)
    lengths = [0, 1, 65536, *(draw.randint(0, 65536) for _ in range(97))]
    values = [draw.randbytes(length) for length in lengths]
    return [
        {f"key-{number}": value for number, value in enumerate(values[first : first + IN_ONE])}
        for first in range(0, len(values), IN_ONE)
    ]


def sealed_object(name: str, values: Values, key: SealingKey) -> dict[str, Any]:
    public = read_certificate(key.certificate)
    encrypted = {item: seal(value, namespace="default", name=name, public=public) for item, value in values.items()}
    return {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"encryptedData": encrypted},
    }


def opened(cluster: Cluster, place: str) -> Values | None:
    namespace, _, name = place.partition("/")
    secret = cluster.get("v1", "Secret", name, namespace)
    return None if secret is None else {key: base64.b64decode(text) for key, text in secret.get("data", {}).items()}


def test_the_controller_opens_all_of_it(cluster: Cluster, tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, fork / folder)
    initialise(fork, {}, key_file=tmp_path / "key.pem")
    rotate(fork, "s3-mlflow", key_file=tmp_path / "key.pem")
    set_secret(fork, "minio/backup-target", {"ssh": as_text(bytes(range(256)) * 256)}, key_file=tmp_path / "key.pem")
    key = find_sealing_key(fork, tmp_path / "key.pem")
    table = load_table(fork)
    expected: dict[str, Values] = {
        place: {item: as_bytes(text) for item, text in secret.data.items()}
        for place, secret in read_sealed(fork, table, key).items()
    }
    written = [yaml.safe_load((fork / spec.path).read_text(encoding="utf-8")) for spec in table.secrets]
    for number, values in enumerate(random_values()):
        expected[f"default/random-{number}"] = values
        written.append(sealed_object(f"random-{number}", values, key))
    assert len(expected) == len(written) > 20

    for namespace in {"kube-system", *(place.partition("/")[0] for place in expected)} - {"default"}:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    bootstrap._apply_sealing_key(cluster, key)
    cluster.apply(yaml.safe_load((fork / "base/sealed-secrets/crd.yaml").read_text(encoding="utf-8")))
    with sealed_secrets_controller(cluster, tmp_path):
        for one in written:
            if one["metadata"]["name"] == "argocd-secret":  # patched into what Argo CD has: its own test
                del expected["argo-cd/argocd-secret"]
            else:
                cluster.apply(one)
        eventually(lambda: all(opened(cluster, place) is not None for place in expected))
    assert {place: opened(cluster, place) for place in expected} == expected
