"""Every text of a SealedSecret is read as text, whatever it looks like."""

from __future__ import annotations

import yaml

from homelab_mlops.gitops.secrets.table import CHECKSUM, SecretSpec, render_sealed_secret
from homelab_mlops.gitops.yaml_loader import Loader

SPEC = SecretSpec(name="forge", namespace="mlflow", purpose="y", keys={"TOKEN": "brought"})
# Values whose checksums look like numbers: 0712220920759534 and 1031421500802e73.
ENCRYPTED = ("2460", "2982")


def test_a_checksum_that_looks_like_a_number_is_a_text() -> None:
    for value in ENCRYPTED:
        (found,) = yaml.load_all(render_sealed_secret(SPEC, {"TOKEN": value}), Loader=Loader)
        checksum = found["metadata"]["annotations"][CHECKSUM]
        assert isinstance(checksum, str)
        assert len(checksum) == 16
        assert checksum.replace("e", "").isdigit()
