"""The plan of the house: which room may import which, and who reads what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "homelab_mlops"

# From the top: a room imports only rooms that stand below it, and rooms of one line do not import each other.
FLOORS = (
    ("start",),
    ("cli",),
    ("pipeline",),
    ("backup", "doctor", "review"),
    ("cluster",),
    ("gitops",),
    ("serving", "storage"),
    ("tables", "completion"),
    ("clients",),
    ("model",),
    ("manifests",),
    ("certificates", "console", "lazy_group", "location", "pages", "signals"),
    ("errors",),
)
# Imports that still run upwards, as (file, room). A list that only shrinks: a line without its import fails too.
UPWARDS: set[tuple[str, str]] = set()

LARGEST_ROOM = 0.25
LARGEST_RULES = 300
# Files of rules that are still to be split.
UNSPLIT: set[str] = set()


class Import(NamedTuple):
    """An import of one of the house's rooms, at the top of a file or within a function."""

    file: str
    room: str


def files(folder: Path = PACKAGE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _room(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import, which this test does not follow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imports() -> set[Import]:
    """Every import from one room of another; the package itself, which has the version, is no room."""
    found = set()
    for path in files():
        for name in imported(path):
            package, _, rest = name.partition(".")
            room = rest.split(".")[0]
            if package == "homelab_mlops" and not room.startswith("__") and room and room != _room(name_of(path)):
                found.add(Import(name_of(path), room))
    return found


def _floor(room: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), -1)


def test_each_room_stands_on_a_floor() -> None:
    rooms = {_room(name_of(path)) for path in files()} - {"__init__"} - {room for _, room in UPWARDS}

    assert {room for room in rooms if _floor(room) < 0} == set()


def test_no_room_imports_one_beside_or_above_it() -> None:
    upwards = {found for found in _imports() if _floor(found.room) <= _floor(_room(found.file))}

    assert upwards == UPWARDS


def test_no_room_holds_more_than_a_quarter_of_the_code() -> None:
    lines: dict[str, int] = {}
    for path in files():
        code = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        room = _room(name_of(path))
        lines[room] = lines.get(room, 0) + sum(not line.lstrip().startswith("#") for line in code)
    shares = {room: count / sum(lines.values()) for room, count in lines.items()}

    assert {room: f"{share:.0%}" for room, share in shares.items() if share > LARGEST_ROOM} == {}


def test_rules_stay_shortfiles() -> None:
    long = {
        path.name
        for path in files(PACKAGE / "review" / "rules")
        if len(path.read_text(encoding="utf-8").splitlines()) > LARGEST_RULES
    }

    assert long == UNSPLIT


class Subject(NamedTuple):
    """What is read in one place only.

    Attributes:
        pattern: matches a string of the code, or a list that begins with such a string, of each file that reads it.
        readers: the places that may.
        others: those that still do. A list that only shrinks.
    """

    pattern: str
    readers: set[str]
    others: set[str]


SUBJECTS = {
    "quantities": Subject(r"\bKi\b", {"manifests/quantities.py"}, set()),
    "cron expressions": Subject(r"@hourly|\[cronsim", {"manifests/schedules.py"}, set()),
    "git's output": Subject(
        r"^\[git$",
        {"clients/git.py"},
        set(),
    ),
    "MLflow's REST interface": Subject(r"api/2\.0/mlflow", {"clients/mlflow.py"}, set()),
    "files that a person writes": Subject(r"^the key $", {"manifests/strict_yaml.py"}, set()),
    "clients of S3": Subject(r"^\[boto3\b", {"clients/s3.py"}, set()),
    "S3's error codes": Subject(r"^SignatureDoesNotMatch$", {"clients/s3.py"}, set()),
}


def _strings(path: Path) -> Iterator[str]:
    """Every string of the code; the first of a list after ``[``, so that a command shows; what is imported likewise."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.List | ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            yield f"[{node.elts[0].value!s}"
    yield from (f"[{name}" for name in imported(path))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_thing_has_one_reader(subject: str) -> None:
    pattern, readers, others = SUBJECTS[subject]

    found = {name_of(path) for path in files() if any(re.search(pattern, text) for text in _strings(path))}

    assert found - readers == others
