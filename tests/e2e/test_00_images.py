"""The project's own images: small, and at work as anybody but root on a root file system that nobody can write to."""

from __future__ import annotations

import json

import pytest
import yaml

from homelab_mlops.clients.kubernetes import Cluster
from tests.conftest import ROOT
from tests.e2e.conftest import Fork, noted, run_pod

DECLARED = yaml.safe_load((ROOT / "clusters/homelab/images/kustomization.yaml").read_text())["images"]
# Of all that is unpacked, in millions of bytes.
LARGEST = {"training": 750, "mlflow": 1050}
SIZE = """
import json, os
device = os.stat("/").st_dev
total = 0
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device]
    total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
print(json.dumps({"bytes": total, "user": os.getuid()}))
"""


def image(fork: Fork, name: str) -> str:
    declared = yaml.safe_load((fork.root / "clusters/homelab/images/kustomization.yaml").read_text())["images"]
    (found,) = [item for item in declared if item["name"] == name]
    return f"{found['newName']}:{found['newTag']}"


@pytest.mark.parametrize("name", [item["name"] for item in DECLARED])
def test_it_says_its_version(fork: Fork, cluster: Cluster, name: str) -> None:
    said = run_pod(cluster, "default", image(fork, name), ["--version"])
    assert any(character.isdigit() for character in said), said
    print(said)


@pytest.mark.parametrize("name", LARGEST)
def test_it_is_small(fork: Fork, cluster: Cluster, name: str) -> None:
    found = json.loads(run_pod(cluster, "default", image(fork, name), ["-c", SIZE], command=["python"]))
    noted(f"the image {name}, unpacked", f"{found['bytes'] / 1e6:.0f} MB")
    assert found["user"] != 0
    assert found["bytes"] <= LARGEST[name] * 1e6
