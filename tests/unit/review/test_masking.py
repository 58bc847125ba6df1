"""No line with a credential shows it, and ordinary lines are shown as they are."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

import pytest
import yaml

from homelab_mlops.review.markdown import markdown
from homelab_mlops.review.masking import mask, mask_text
from homelab_mlops.review.page import page
from homelab_mlops.review.text import plain
from homelab_mlops.review.visible import visible
from tests.conftest import ROOT
from tests.unit.review.repository import REVIEWS, commit, compared, edit, repository

# Each line has a credential, whose value begins with LEAK.
CREDENTIALS = (REVIEWS / "masking/credentials.txt").read_text().splitlines()
# Lines in many formats, written for this, with names that come near a credential's; and those of this repository.
ORDINARY = sorted((REVIEWS / "masking/ordinary").iterdir())
OWN = ("base/**/*.yaml", "overlays/**/kustomization.yaml", "workflows/**/*.yaml", "apps/*.yaml", "docs/*.md")


def test_no_credential_is_shown() -> None:
    assert len(set(CREDENTIALS)) >= 200
    assert [line for line in CREDENTIALS if "LEAK" in mask_text(line)] == []


def test_no_credential_is_shown_within_a_text() -> None:
    assert "LEAK" not in mask_text("\n".join(CREDENTIALS))
    shown = mask_text((REVIEWS / "masking/blocks.yaml").read_text())
    assert "LEAK" not in shown
    assert shown.count("shown") == 2


def objects(ending: str) -> str:
    """A ConfigMap and a Deployment that hold every credential, in one text and one by one."""
    lines = [line.replace("K9mP2vLw7", ending) for line in CREDENTIALS]
    container = {
        "name": "web",
        "command": ["sh", "-c", "\n".join(lines)],
        "env": [{"name": f"LINE_{number}", "value": line} for number, line in enumerate(lines)],
    }
    template = {"metadata": {"annotations": {"note": lines[0]}}, "spec": {"containers": [container]}}
    data = {"all.conf": "\n".join(lines), **{f"line-{number}": line for number, line in enumerate(lines)}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leaks"}, "data": data}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "leaks"}}
    return yaml.safe_dump_all([config, {**deployment, "spec": {"template": template}}])


def test_no_output_shows_one(tmp_path: Path) -> None:
    root = repository(tmp_path / "clone")
    base = commit(root, "before")
    resources = {"base/store/kustomization.yaml": {"  - network.yaml\n": "  - network.yaml\n  - leaks.yaml\n"}}
    edit(root, {"replace": resources, "write": {"base/store/leaks.yaml": objects("K9mP2vLw7")}})
    new = commit(root, "new")
    edit(root, {"write": {"base/store/leaks.yaml": objects("Q8nR3wMx6")}})
    for report in (compared(root, base, new), compared(root, new)):
        assert {item.kind for group in report.groups for item in group.items} == {"ConfigMap", "Deployment"}
        for text in (plain(report), markdown(report, None), page(report), json.dumps(report.as_json())):
            assert re.findall(r".{40}LEAK.{10}", text) == []


def test_ordinary_lines_are_shown() -> None:
    """At most one of a hundred is hidden, line by line and within the whole text."""
    texts = [path.read_text() for path in ORDINARY]
    lines = [line for text in texts for line in text.splitlines()]
    assert len(set(lines)) == 2000
    hidden = [line for line in lines if mask_text(line) != line]
    assert len(hidden) <= 20, hidden
    pairs = [
        (line, shown)
        for text in texts
        for line, shown in zip(text.split("\n"), mask_text(text).split("\n"), strict=True)
    ]
    assert len([line for line, shown in pairs if line != shown]) <= 20


def test_the_lines_of_this_repository_are_shown() -> None:
    texts = (path.read_text() for pattern in OWN for path in sorted(ROOT.glob(pattern)))
    lines = list(islice((line for text in texts for line in text.splitlines() if line.strip()), 2000))
    assert len(lines) == 2000
    hidden = [line for line in lines if mask_text(line) != line]
    assert len(hidden) <= 20, hidden


def test_code_that_holds_a_credential_is_hidden() -> None:
    lines = ['token = client.login("LEAK")', "password = store.get(name) or 'LEAK'", 'secret = box.open("LEAK 1", 2)']
    assert [line for line in lines if "LEAK" in mask_text(line)] == []


def test_a_near_miss_is_shown() -> None:
    lines = (REVIEWS / "masking/near-misses.txt").read_text().splitlines()
    assert [line for line in lines if mask_text(line) != line] == ["pin: latest"]


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        ({"name": "smtp.pass", "value": "LEAK"}, {"name": "smtp.pass", "value": "(hidden)"}),
        ({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}, None),
        ({"key": "node-role", "operator": "Exists"}, None),
        ({"redis": {"auth": {"password": "LEAK"}}}, {"redis": {"auth": {"password": "(hidden)"}}}),
        ({"existingSecret": "minio", "secretName": "tls"}, None),
        (["redis-cli", "-a", "LEAK1"], ["redis-cli", "-a", "(hidden)"]),
        (["--user", "admin:LEAK1", "--port", "80"], ["--user", "admin:(hidden)", "--port", "80"]),
        ({"pin": 471108, "port": 8080}, {"pin": "(hidden)", "port": 8080}),
        ({".htpasswd": "bob:LEAK1"}, {".htpasswd": "(hidden)"}),
        ({"credentials": {"a": "LEAK"}}, {"credentials": {"a": "(hidden)"}}),
    ],
)
def test_entries(node: object, shown: object) -> None:
    assert mask(node) == (node if shown is None else shown)


def test_a_block_below_a_credentials_name_is_hidden() -> None:
    assert mask_text("a: b\npassword: |\n  LEAK\n  LEAK\nc: d") == "a: b\npassword: |\n  (hidden)\n  (hidden)\nc: d"


def test_what_steers_a_terminal_is_written_out() -> None:
    assert visible("a\x1b[31mb\u202ec\udcff\n") == "a\\x1b[31mb\\u202ec\\xff\\n"
