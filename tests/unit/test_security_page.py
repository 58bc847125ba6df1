"""Each test that docs/security.md names is there."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = ROOT / "docs/security.md"


def test_the_tests_that_the_page_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 20
    for path, function in named:
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8") if function else (ROOT / path).exists()
