"""The README's commands, for the tests that run them."""

from __future__ import annotations

import re

from tests.conftest import ROOT

README = ROOT / "README.md"
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VERB = re.compile(r"(?:^|`|\. |&& )homelab ([a-z]+)", re.MULTILINE)


def blocks(after: str) -> list[str]:
    """The fenced blocks that follow the first place where the README says ``after``, in order."""
    _, found, rest = README.read_text(encoding="utf-8").partition(after)
    assert found, f"the README does not say {after!r}"
    return _BLOCK.findall(rest)


def commands(after: str) -> list[list[str]]:
    """The lines `homelab …` of the first block there, each as the arguments of `homelab`."""
    lines = [line.split() for line in blocks(after)[0].splitlines()]
    return [words[1:] for words in lines if words[:1] == ["homelab"]]


def verbs() -> set[str]:
    """Every command of `homelab` that the README names."""
    return set(_VERB.findall(README.read_text(encoding="utf-8")))
