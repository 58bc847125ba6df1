"""No line with a credential shows it, and ordinary lines are shown as they are."""

from __future__ import annotations

from itertools import islice

import pytest

from homelab_mlops.review.masking import mask, mask_text
from homelab_mlops.review.visible import visible
from tests.conftest import ROOT
from tests.unit.review.repository import REVIEWS

# Each line has a credential, whose value begins with LEAK.
CREDENTIALS = (REVIEWS / "masking/credentials.txt").read_text().splitlines()
ORDINARY = ("base/**/*.yaml", "overlays/**/kustomization.yaml", "workflows/**/*.yaml", "apps/*.yaml", "docs/*.md")


def test_no_credential_is_shown() -> None:
    assert len(CREDENTIALS) == 200
    assert [line for line in CREDENTIALS if "LEAK" in mask_text(line)] == []


def test_no_credential_is_shown_within_a_text() -> None:
    assert "LEAK" not in mask_text("\n".join(CREDENTIALS))
    assert "LEAK" not in str(mask({"data": {"all.conf": "\n".join(CREDENTIALS)}}))


def test_ordinary_lines_are_shown() -> None:
    """At most one of a hundred is hidden, of the manifests and pages of this repository."""
    texts = (path.read_text() for pattern in ORDINARY for path in sorted(ROOT.glob(pattern)))
    lines = list(islice((line for text in texts for line in text.splitlines() if line.strip()), 2000))
    assert len(lines) == 2000
    hidden = [line for line in lines if mask_text(line) != line]
    assert len(hidden) <= 20, hidden


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        ({"name": "smtp.pass", "value": "LEAK"}, {"name": "smtp.pass", "value": "(hidden)"}),
        ({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}, None),
        ({"key": "node-role", "operator": "Exists"}, None),
        ({"redis": {"auth": {"password": "LEAK"}}}, {"redis": {"auth": {"password": "(hidden)"}}}),
        ({"existingSecret": "minio", "secretName": "tls"}, None),
        ({"credentials": {"a": "LEAK"}}, {"credentials": {"a": "(hidden)"}}),
    ],
)
def test_entries(node: dict[str, object], shown: dict[str, object] | None) -> None:
    assert mask(node) == (node if shown is None else shown)


def test_a_block_below_a_credentials_name_is_hidden() -> None:
    assert mask_text("a: b\npassword: |\n  LEAK\n  LEAK\nc: d") == "a: b\npassword: |\n  (hidden)\n  (hidden)\nc: d"


def test_what_steers_a_terminal_is_written_out() -> None:
    assert visible("a\x1b[31mb\u202ec\udcff\n") == "a\\x1b[31mb\\u202ec\\xff\\n"
