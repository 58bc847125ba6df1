"""What an extra of pyproject.toml alone can import, and whether a room imports only what its extras bring."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement

from tests.unit.test_house import PACKAGE, ROOT, files, imported, name_of

# What each extra alone can import. `tracking`, `mlflow-server` and `demo` have no room: they bring MLflow and tables.
EXTRAS = {
    "pipeline": ("model", "pipeline", "tables"),
    "storage": ("storage",),
    "proposal": ("clients/git_remote.py", "clients/forge.py"),
    "serving": ("serving",),
    "backup": ("backup",),
    "gitops": ("gitops", "review", "cluster", "doctor", "manifests", "clients"),
}
# Which extras bring what a room imports, within functions too.
NEEDED = {
    "pipeline": ("pipeline", "tracking", "proposal", "demo"),
    "doctor": ("gitops", "pipeline", "tracking", "mlflow-server"),
    "cluster": ("gitops", "pipeline", "demo"),
    "review": ("gitops",),
    "gitops": ("gitops",),
    "serving": ("serving",),
    "storage": ("storage",),
    "backup": ("backup",),
    "clients": ("gitops", "proposal", "storage"),
    "tables": ("pipeline",),
    "model": ("pipeline", "demo"),
    "manifests": ("gitops",),
}
_ALONE = """
import importlib, sys
hidden, modules = [set(argument.split(",")) for argument in sys.argv[1:]]
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}: it is in another extra", name=name)
sys.meta_path.insert(0, Hidden())
for module in sorted(modules):
    importlib.import_module(module)
"""


def _installed_with(requirements: list[str]) -> set[str]:
    """The distributions that the requirements bring, those of other requirements included."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = _canonical(requirement.name)
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            needed = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [item for item in needed if _is_wanted(item, requirement.extras)]
    return found


def _is_wanted(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a distribution that is installed with these extras brings the requirement."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(rooms: tuple[str, ...]) -> list[str]:
    paths = [path for room in rooms for path in (files(PACKAGE / room) or [PACKAGE / room])]
    return [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in paths]


def _hidden_without(*extras: str) -> set[str]:
    """The modules of every distribution that these extras do not bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    here = _installed_with(project["dependencies"] + [line for extra in extras for line in optional[extra]])
    modules = _distributions()
    return {module for module, names in modules.items() if not names & {*here, "homelab-mlops"}}


@cache
def _distributions() -> dict[str, set[str]]:
    """The distributions that have a module of this name, by the name of the module."""
    return {module: {_canonical(name) for name in names} for module, names in packages_distributions().items()}


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_each_extra_alone_imports_its_rooms(extra: str) -> None:
    """With no extra at all, the command line itself."""
    hidden = _hidden_without(*filter(None, [extra]))
    modules = _modules(EXTRAS[extra] if extra else ("cli.py",))

    done = subprocess.run(
        [sys.executable, "-c", _ALONE, ",".join(hidden), ",".join(modules)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", NEEDED)
def test_what_a_room_imports_is_in_its_extras(room: str) -> None:
    hidden = _hidden_without(*NEEDED[room])

    missing = {
        f"{name_of(path)}: {name}"
        for path in files(PACKAGE / room)
        for name in imported(path)
        if name.split(".")[0] in hidden and not name.startswith("mypy_boto3_s3.")
    }

    assert missing == set()
