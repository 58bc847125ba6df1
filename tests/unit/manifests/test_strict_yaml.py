"""Each file that a person writes is read by one reader, which names the line of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from homelab_mlops.errors import RepositoryError, SpecError
from homelab_mlops.gitops.secrets.table import SecretTable
from homelab_mlops.gitops.settings import Settings
from homelab_mlops.manifests.strict_yaml import parse_model, read_model
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.storage.declaration import Declaration
from tests.conftest import ROOT

FILES: dict[str, tuple[str, type[BaseModel]]] = {
    "model": ("workflows/models/churn/model.yaml", ModelSpec),
    "settings": ("clusters/homelab/settings.yaml", Settings),
    "storage": ("base/minio/storage.yaml", Declaration),
    "secrets": ("clusters/homelab/secrets.yaml", SecretTable),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("added", "what"),
    [
        ("nonsense: 1\n", "unknown key 'nonsense'"),
        ("? [a]\n: 1\n", "not valid YAML: found unhashable key"),
        ("a: 1\na: 2\n", "the key 'a' stands twice"),
        ("a: [\n", "not valid YAML: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(name: str, added: str, what: str) -> None:
    path, model = FILES[name]
    text = (ROOT / path).read_text(encoding="utf-8")
    parse_model(text, path, model, SpecError)

    with pytest.raises(SpecError) as refused:
        parse_model(text + added, path, model, SpecError)

    assert refused.value.what.startswith(what)
    line = int(refused.value.where.removeprefix(f"{path}:"))
    assert len(text.splitlines()) < line <= len((text + added).splitlines()) + 1


@pytest.mark.parametrize(
    ("name", "right", "wrong", "hint"),
    [
        ("model", "margin:", "margn:", "unknown key 'gate.margn'; did you mean 'margin'?"),
        ("settings", "imageRegistry:", "imageRegistri:", "unknown key 'imageRegistri'; did you mean 'imageRegistry'?"),
        ("storage", "versioning:", "versionning:", "did you mean 'versioning'?"),
    ],
)
def test_a_misspelt_key_is_told_the_right_one(name: str, right: str, wrong: str, hint: str) -> None:
    path, model = FILES[name]
    text = (ROOT / path).read_text(encoding="utf-8")
    assert right in text

    with pytest.raises(SpecError) as refused:
        parse_model(text.replace(right, wrong, 1), path, model, SpecError)

    assert hint in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"repository: caf\xe9\n")

    with pytest.raises(RepositoryError, match="not UTF-8"):
        read_model(path, Settings, RepositoryError)
