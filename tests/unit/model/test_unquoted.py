"""An expression may stand in model.yaml without quotes, wherever YAML would want some."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from homelab_mlops.model.unquoted import with_quotes
from tests.unit.model.test_spec import VALID


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{from: total / max(tenure, 1)}", "total / max(tenure, 1)"),
        ("{from: total / max(tenure, 1), type: number}", "total / max(tenure, 1)"),
        ("{type: category, from: bins(a, 1, 2) , values: [a, b]}", "bins(a, 1, 2)"),
        ('{from: where(a > 0, "it, and", b)}', 'where(a > 0, "it, and", b)'),
        ("{from: where(a > 0, 'x', b)}  # a comment, of two", "where(a > 0, 'x', b)"),
        ("{from: `two words` + 1}", "`two words` + 1"),
        ('{from: "gold" == plan}', '"gold" == plan'),
        ('{from: "max(a, 1)"}', "max(a, 1)"),
        ("{from: 'max(a, 1)', type: number}", "max(a, 1)"),
        ("{from: 'plan == ''x'''}", "plan == 'x'"),
        ("{from: a - b}", "a - b"),
        ("{from: max(a,\n    b)}", "max(a, b)"),
        ("\n    from: max(a, 1)", "max(a, 1)"),
        ("\n    from: `two words` + 1  # a comment", "`two words` + 1"),
        ('\n    from: "gold" == plan', '"gold" == plan'),
        ('\n    from: "max(a, 1)"\n    type: number', "max(a, 1)"),
        ("{from: max(a, 1}", "max(a, 1"),
        ("{from: &e max(a, 1), type: number}", "max(a, 1)"),
        ("{from: !!str max(a, 1)}", "max(a, 1)"),
        ('{from: "where(a > 0, \\"it\'s\\", b)", type: category}', 'where(a > 0, "it\'s", b)'),
        ("{type: category, # it\n    from: max(a, 1)}", "max(a, 1)"),
        ("{\n      from: where(a > 0, \"x}, y\", 'z')}", "where(a > 0, \"x}, y\", 'z')"),
        ("{from: max(a, 1)}\n  z: {type: category, values: ['by post, from: abroad', b]}", "max(a, 1)"),
    ],
)
def test_an_expression_is_read_whole(written: str, expected: str) -> None:
    text = f"description: 'a, {{from: max(b, c)}}'\nfeatures:\n  x: {written}\nsplit: {{from: max(c}}\n"
    content = yaml.safe_load(with_quotes(text))
    assert expected == content["features"]["x"]["from"]
    assert content["description"] == "a, {from: max(b, c)}"
    assert with_quotes(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"features":\n  x: {from: max(a, 1)}', {"from": "max(a, 1)"}),
        ("features: {x: {from: max(a, 1)}}", {"from": "max(a, 1)"}),
        ("features:\n  z: {from: b}\n# from here on\n  x: {from: max(a, 1)}", {"from": "max(a, 1)"}),
        ("features:\n  z: {from: b} # , from: b\n  x: {from: max(a, 1)}", {"from": "max(a, 1)"}),
        ("features:\n  x: {values: ['by post, from: abroad', b]}", {"values": ["by post, from: abroad", "b"]}),
    ],
)
def test_features_are_found_however_they_are_written(written: str, expected: dict[str, object]) -> None:
    assert yaml.safe_load(with_quotes(written))["features"]["x"] == expected


@pytest.mark.parametrize(
    "path", [path for path in VALID if path.parent.name != "subscriptions"], ids=lambda path: path.parent.name
)
def test_a_model_without_expressions_stays_as_it_is(path: Path) -> None:
    text = path.read_text()
    assert text == with_quotes(text)
