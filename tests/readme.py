"""The README's commands, for the tests that run them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.conftest import ROOT

README = ROOT / "README.md"
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VERB = re.compile(r"(?:^|`|\. |&& )homelab ([a-z]+)", re.MULTILINE)
# What differs from one run to the next, as the README has it and as a command prints it.
_VARIES = (
    (r"\d+(?:\.\d+)? (?=s\b)", r"\d+(?:\.\d+)? "),
    (r"\b\d+\.\d+(?:\.\d+)?\b", r"\d+(?:\.\d+)*"),
    (r"\b[0-9a-f]{8,40}\b", r"[0-9a-f]+"),
    (r"(?<=[a-z]-)(?=[a-z]*\d)[a-z0-9]{5}\b(?!-)", r"[a-z0-9]{5}"),
    (r"\.\.\.$", r".*"),
    (r"\s+", r"\s+"),
)
_ANY_OF_THEM = re.compile("|".join(f"({shown})" for shown, _ in _VARIES))


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


def first_missing(printed: str, shown: str, names: Mapping[str, str]) -> str:
    """The first line of a block of the README that a command has not printed, after those before it; or nothing.

    Times, figures with a point, hashes and generated names may differ, and ``...`` stands for whatever comes there.
    ``names`` are what the README calls something, by what it is called here.
    """
    printed_lines = iter(printed.splitlines())
    for line in shown.splitlines():
        pattern = _pattern(line, names)
        if line.strip() != "..." and not any(pattern.fullmatch(found.rstrip()) for found in printed_lines):
            return line
    return ""


def _pattern(line: str, names: Mapping[str, str]) -> re.Pattern[str]:
    for name, here in names.items():
        line = line.replace(name, here)
    parts, end = [], 0
    for match in _ANY_OF_THEM.finditer(line):
        _, printed = _VARIES[(match.lastindex or 1) - 1]
        parts += [re.escape(line[end : match.start()]), printed]
        end = match.end()
    return re.compile("".join([*parts, re.escape(line[end:])]))
