"""The reader of YAML gives what PyYAML gives, for plain documents and for those that it leaves to PyYAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from homelab_mlops.gitops.yaml_loader import Loader, dump

ROOT = Path(__file__).parents[3]
FILES = sorted(path for part in ("apps", "base", "overlays", "workflows") for path in (ROOT / part).rglob("*.yaml"))
TEXTS = {
    "scalars": "[1, 0o17, 017, 1_000, 1:30, 0x1f, 1.10, 1e3, .inf, .nan, ~, yes, OFF, true, null, 08, +1, -.5, a b]",
    "quoted": "z:\na: '1'\nb: \"yes\"\nc: ''\nd: \"\\u00e9\"\ne: |\n  1\n",
    "dates and equals": "a: 2026-11-30\nb: 2026-11-30T10:00:00Z\nc: =\n=: d",
    "merge": "a: &a {x: 1, w: 2}\nb: {<<: *a, w: 3}\nc: {<<: [*a, {z: 4}]}",
    "aliases": "a: &a [1, {b: 2}]\nb: *a\nc: &c text\nd: *c\ne: {f: *a}",
    "within itself": "a: &a\n  b: *a\n",
    "unhashable key": "? {a: b}\n: c",
    "twice": "a: 1\nb: 2\na: 3",
    "tags": "a: !!str 1\nb: !!int '2'\nc: !!float 3",
    "several": "--- \na: 1\n---\n---\n- 2\n---\ntext\n...\n",
    "nothing": "",
    "no YAML": "a: [",
}


# What Helm makes of each, which reads YAML by the library of Kubernetes.
OF_KUBERNETES = {
    "12:30": "12:30",
    "190:20:30.5": "190:20:30.5",
    "2026-11-30": "2026-11-30",
    "1e3": 1000,
    "+.5e3": 500,
    "12345e6": 12345000000,
    "089": 89,
    "0644": 420,
    "0o644": 420,
    "-0o17": -15,
    "0o8": "0o8",
    "1e999": "1e999",
    "1_000": 1000,
    "0x1F": 31,
    "-0b1": -1,
    "1.": 1,
    ".": ".",
    ".e1": ".e1",
    "_1": "_1",
    "yes": True,
    "y": True,
    "N": False,
    "=": "=",
}
# What a tag makes of a value: Kubernetes knows those of scalars, and passes over any other one.
OF_TAGS = {
    "!!binary aGVsbG8=": "hello",
    "!!binary /w==": "\ufffd",
    "!!timestamp 2026-11-30": "2026-11-30",
    "!vault 12": "12",
    "!vault {a: !b yes}": {"a": "yes"},
    "!vault [1]": [1],
    "!!set {e}": {"e": None},
    "!!omap [g: 1]": [{"g": 1}],
    "!!str 12": "12",
}


class PyYAML(yaml.CSafeLoader):
    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers
    bool_values = Loader.bool_values


def read(text: str, loader: Any) -> tuple[str, list[Any]]:
    """What a loader makes of a text, or why it refuses it."""
    found: list[Any] = []
    try:
        found.extend(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError) as error:
        return str(error), found
    return "", found


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_is_what_pyyaml_makes_of_it(text: str) -> None:
    assert repr(read(text, Loader)) == repr(read(text, PyYAML))


@pytest.mark.parametrize(("text", "value"), OF_KUBERNETES.items())
def test_a_value_is_what_kubernetes_makes_of_it(text: str, value: Any) -> None:
    (found,) = yaml.load_all(f"[{text}, '{text}']", Loader=Loader)
    assert found == [value, text]
    assert isinstance(found[0], str) == isinstance(value, str)


@pytest.mark.parametrize(("text", "value"), OF_TAGS.items())
def test_a_tag_is_what_kubernetes_makes_of_it(text: str, value: Any) -> None:
    assert read(f"a: {text}", Loader) == ("", [{"a": value}])


def test_the_keys_of_a_mapping_are_texts() -> None:
    assert read("1: a\n1.50: b\nyes: c\n0x10: d\n1e3: e", Loader) == (
        "",
        [{"1": "a", "1.5": "b", "true": "c", "16": "d", "1000": "e"}],
    )


def test_a_key_that_is_null_is_refused() -> None:
    with pytest.raises(yaml.MarkedYAMLError, match="null is no key"):
        list(yaml.load_all("a: 1\n~: d", Loader=Loader))


@pytest.mark.parametrize("text", OF_KUBERNETES)
def test_a_text_that_is_written_is_read_as_this_text(text: str) -> None:
    assert read(dump({text: [text]}), Loader) == ("", [{text: [text]}])
    assert f"'{text}'" in dump([text]) or OF_KUBERNETES[text] == text


@pytest.mark.parametrize("value", ["!!int b", "!!bool b", "!!binary b", "9" * 5000, "&a [!!float b, *a]"])
def test_a_value_that_is_not_of_its_tag_is_named_with_its_line(value: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError, match=r"is not of the tag(.|\n)*line 2"):
        list(yaml.load_all(f"a: 1\nb: {value}", Loader=Loader))


def test_the_files_of_this_repository_are_what_pyyaml_makes_of_them() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert repr(read(text, Loader)) == repr(read(text, PyYAML)), path


def test_an_alias_stays_one_value() -> None:
    (found,) = yaml.load_all("a: &a {b: 1}\nc: *a", Loader=Loader)
    assert found["a"] is found["c"]


def test_a_text_deeper_than_pythons_stack_is_read() -> None:
    (found,) = yaml.load_all(f"{'[' * 3000}{']' * 3000}", Loader=Loader)
    depth = 0
    while found:
        (found,), depth = found, depth + 1
    assert depth == 2999
