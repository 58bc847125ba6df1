"""What the pages, the help and the messages name is there: commands with their options, and paths of the repository."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from homelab_mlops.cli import app
from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "homelab_mlops"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "clusters/**/*.md", "requirements/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
# What a page writes where a person puts a name of their own.
OWN = re.compile(r"\b(NAME|MODEL)\b|<[a-z]+>")
# Folders that a command makes.
MADE = ("work/", "taxi/", "abalone/", "marketing/", "evaluate/", ".demo/", ".tools/", "promote/")
CODE_SPANS = re.compile(r"`(homelab [^`]+)`")


def _lines(page: Path) -> Iterator[str]:
    """The lines of a page's shell blocks, and its inline code."""
    text = page.read_text(encoding="utf-8")
    for _, language, block in FENCED.findall(text):
        if language in ("", "sh"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(FENCED.sub("", text))


def _written() -> Iterator[tuple[str, str]]:
    """Each command `homelab ...` that a person reads, and where it stands."""
    for page in PAGES:
        for line in _lines(page):
            yield from ((str(page.relative_to(ROOT)), command) for command in _commands(line))
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in _strings(ast.parse(path.read_text(encoding="utf-8"))):
            where = str(path.relative_to(ROOT))
            spans = CODE_SPANS.findall(text)
            examples = text.partition("\b\n")[2].partition("\n\n")[0].splitlines()
            yield from ((where, command) for line in [*spans, *examples] for command in _commands(line))


def _strings(tree: ast.AST) -> Iterator[str]:
    """The strings of the code; what an f-string fills in is a name of the reader's own."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "NAME" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def _commands(line: str) -> Iterator[str]:
    """The commands `homelab ...` of a shell line, with a word after the name."""
    for part in re.split(r"\s*(?:&&|\||;)\s*", re.sub(r"\s+(#|→|>|<).*", "", line)):
        found = re.fullmatch(r"(?:[A-Z_]+=\S+\s+)*homelab\s+([a-z-].*)", part.strip())
        if found:
            yield found[1]


WRITTEN = sorted(set(_written()))


def _refused(written: str) -> str:
    """What of a written command does not exist; empty where all of it does."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("homelab", [], resilient_parsing=True)
    for word in shlex.split(written.replace("...", "")):
        if word.startswith("-"):
            options = [option for one in command.get_params(context) for option in (*one.opts, *one.secondary_opts)]
            if word.partition("=")[0] not in options:
                return f"{command.name} has no option {word}"
        elif hasattr(command, "get_command"):
            if word not in command.list_commands(context):
                return f"{command.name} has no command {word}"
            _, command, _ = command.resolve_command(context, [word])
            context = command.make_context(word, [], parent=context, resilient_parsing=True)
    return ""


def test_there_are_commands_to_try() -> None:
    assert {where for where, _ in WRITTEN} >= {"README.md", "docs/logins.md", "docs/review.md", "docs/script-mode.md"}
    assert _refused("nosuch") == "homelab has no command nosuch"
    assert _refused("train --nosuch 1") == "train has no option --nosuch"


@pytest.mark.parametrize("where", sorted({where for where, _ in WRITTEN}))
def test_every_command_that_is_named_exists(where: str) -> None:
    refused = {command: _refused(command) for file, command in WRITTEN if file == where}

    assert {command: why for command, why in refused.items() if why} == {}


def _paths(page: Path) -> Iterator[str]:
    """What a page names as a path of the repository: a word of code with a slash, from a folder that is there."""
    text = page.read_text(encoding="utf-8")
    for code in INLINE.findall(FENCED.sub("", text)):
        for word in code.split():
            if re.fullmatch(r"[\w.<>*-]+/[\w./<>*-]*", word) and not word.startswith(MADE):
                yield word


def _is_there(name: str, *folders: Path) -> bool:
    pattern = OWN.sub("*", name).rstrip("/")
    return any(any(folder.glob(pattern)) for folder in folders)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_named_exists(page: Path) -> None:
    tops = {path.name for path in ROOT.iterdir()}
    named = {name for name in _paths(page) if name.partition("/")[0] in tops}

    assert {name for name in named if not _is_there(name, ROOT)} == set()


def test_contributing_names_no_other_paths() -> None:
    table = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## What to touch")[2].partition("\n## ")[0]
    )
    named = [word for code in INLINE.findall(table) for word in code.split() if "/" in word]

    assert len(named) > 15
    assert {name for name in named if not _is_there(name, ROOT, PACKAGE)} == set()


def test_the_tree_of_the_readme_is_the_repository() -> None:
    house = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The house")[2]
    (_, _, tree) = FENCED.findall(house)[0]
    named = [word for line in tree.splitlines() for word in re.split(r"\s{3,}", line)[0].split(" → ")]

    assert len(named) >= 6
    assert {name for name in named if not _is_there(name, ROOT)} == set()
