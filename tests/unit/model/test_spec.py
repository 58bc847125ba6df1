"""A model.yaml is strict, and says where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homelab_mlops.errors import SpecError
from homelab_mlops.model.grammar import FUNCTIONS
from homelab_mlops.model.spec import ModelSpec, load_spec, parse_spec
from tests.conftest import FIXTURES, ROOT

INVALID = sorted((FIXTURES / "models" / "invalid").glob("*.yaml"))
VALID = sorted(
    [*(FIXTURES / "models" / "valid").glob("*/model.yaml"), *(ROOT / "workflows/models").glob("*/model.yaml")]
)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_one_is_refused_with_its_line(path: Path) -> None:
    expected = path.with_suffix(".expected").read_text().strip().replace("{path}", str(path))
    with pytest.raises(SpecError) as refusal:
        load_spec(str(path))
    for line in expected.splitlines():
        assert line in str(refusal.value)
    assert f"where: {path}" in str(refusal.value)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.parent.name)
def test_a_valid_one_is_named_like_its_folder(path: Path) -> None:
    assert path.parent.name == load_spec(str(path)).name


def test_all_problems_are_named_at_once() -> None:
    text = (ROOT / "workflows/models/churn/model.yaml").read_text()
    with pytest.raises(SpecError) as refusal:
        parse_spec(text.replace("margin:", "margn:").replace("seed: 0", "sed: 0"), "model.yaml")
    assert "margn" in str(refusal.value)
    assert "sed" in str(refusal.value)


def test_an_unknown_model_suggests_a_near_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SpecError, match="did you mean 'churn'"):
        load_spec("chrun")


def test_the_derived_features_of_the_page_are_valid() -> None:
    page = (ROOT / "docs/model-yaml.md").read_text().split("## Derived features")[1]
    block = page.split("```yaml\n")[1].split("```")[0]
    text = (ROOT / "workflows/models/churn/model.yaml").read_text()
    before, rest = text.split("features:\n")
    spec = parse_spec(before + block + rest[rest.index("split:\n") :], "model.yaml")
    assert list(spec.derived) == ["weekday", "per_month", "is_new", "size"]
    assert [name for name in FUNCTIONS if f"`{name}(" not in page] == []


def test_the_schema_for_editors_is_up_to_date() -> None:
    """`make schema` writes it."""
    stored = json.loads((ROOT / "workflows/models/model.schema.json").read_text())
    assert stored == ModelSpec.model_json_schema()
