"""A branch of the bot is one commit that names a newer version of one model; everything else is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.promotion_branch import promotion_violations
from homelab_mlops.model.promotion import Named, naming
from tests import forks
from tests.conftest import PATIENCE, ROOT, clean_environment, refused
from tests.unit.promotion.test_propose import MANIFEST, git, sha256_of

OTHER = "overlays/homelab/serving/flight-delay.yaml"
KUSTOMIZATION = "overlays/homelab/serving/kustomization.yaml"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose main names version 3 of churn, on a branch of its own."""
    for folder in ("overlays", "clusters"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    name(tmp_path, 3)
    save(tmp_path)
    git(tmp_path, "switch", "--quiet", "--create", "promote/churn")
    return tmp_path


def name(clone: Path, version: int, sha256: str | None = None) -> None:
    file = clone / MANIFEST
    sha256 = sha256_of(version) if sha256 is None else sha256
    file.write_text(naming(file.read_text(), Named(str(version), sha256), MANIFEST))


def save(clone: Path) -> None:
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "A commit")


def check(clone: Path, span: str = "main..HEAD", **env: str) -> subprocess.CompletedProcess[str]:
    return forks.run(["check", "--promotion", span], clean_environment(env), clone, PATIENCE)


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        name(clone, 4)
        text = (clone / file).read_text()
        assert old in text
        (clone / file).write_text(text.replace(old, new, 1))
        save(clone)

    return change


def only(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        (clone / file).write_text((clone / file).read_text().replace(old, new, 1))
        save(clone)

    return change


def written(path: str, text: str = "a: b\n") -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        name(clone, 4)
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
        save(clone)

    return change


def versioned(version: int, sha256: str | None = None) -> Callable[[Path], None]:
    def change(clone: Path) -> None:
        name(clone, version, sha256)
        save(clone)

    return change


def in_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def made(clone: Path) -> None:
        name(clone, 4)
        (clone / MANIFEST).write_bytes(change((clone / MANIFEST).read_bytes()))
        save(clone)

    return made


def executable(clone: Path) -> None:
    name(clone, 4)
    (clone / MANIFEST).chmod(0o755)
    save(clone)


def linked(clone: Path) -> None:
    (clone / MANIFEST).unlink()
    (clone / MANIFEST).symlink_to("flight-delay.yaml")
    save(clone)


def removed(clone: Path) -> None:
    (clone / MANIFEST).unlink()
    save(clone)


def two_commits(clone: Path) -> None:
    """The second one takes back what the first one brought, which main would have in its history."""
    written("src/evil.py")(clone)
    (clone / "src/evil.py").unlink()
    save(clone)


def merged(clone: Path) -> None:
    git(clone, "switch", "--quiet", "--create", "side")
    save(clone)
    git(clone, "switch", "--quiet", "promote/churn")
    name(clone, 4)
    save(clone)
    git(clone, "merge", "--quiet", "--no-edit", "side")


def two_models(clone: Path) -> None:
    name(clone, 4)
    file = clone / OTHER
    file.write_text(naming(file.read_text(), Named("4", sha256_of(4)), OTHER))
    save(clone)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (save, "it changes nothing"),
    "no commit": (lambda _: None, "0 commits"),
    "two commits": (two_commits, "2 commits"),
    "a merge": (merged, "3 commits"),
    "two models": (two_models, "it changes 2 files"),
    "back": (versioned(2), "not forward"),
    "the same": (versioned(3, "f" * 64), "not forward"),
    "none": (versioned(0, ""), "not forward"),
    "without bytes": (versioned(4, ""), "without the SHA-256"),
    "a role": (written("base/serving/role.yaml"), "base/serving/role.yaml"),
    "an Application": (written("apps/more.yaml"), "apps/more.yaml"),
    "a workflow": (written(".github/workflows/evil.yaml"), ".github/workflows/evil.yaml"),
    "a policy": (edited(KUSTOMIZATION, "resources:", "resources:\n  - https://evil.example/x"), "2 files"),
    "a resource": (only(KUSTOMIZATION, "resources:", "resources:\n  - https://evil.example/x"), "no manifest"),
    "a new manifest": (written("overlays/homelab/serving/evil.yaml"), "it is added"),
    "a folder below": (written("overlays/homelab/serving/sealed/evil.yaml"), "sealed/evil.yaml"),
    "the image": (edited(MANIFEST, "image: serving", "image: evil.example/x:1.0.0"), "other lines"),
    "the host": (edited(MANIFEST, "path: /churn", "path: /"), "other lines"),
    "the name": (edited(MANIFEST, "name: churn", "name: mlflow"), "other lines"),
    "a comment": (edited(MANIFEST, "# ", "#  "), "other lines"),
    "one document more": (in_bytes(lambda text: text + b"---\nkind: ClusterRole\n"), "other lines"),
    "line ends": (in_bytes(lambda text: text.replace(b"\n", b"\r\n")), MANIFEST),
    "no line end": (in_bytes(bytes.rstrip), "other lines"),
    "no YAML": (in_bytes(lambda _: b"{"), "no manifest"),
    "the mode": (executable, "another kind of file"),
    "a link": (linked, "another kind of file"),
    "removed": (removed, "removed"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_another_change_is_no_promotion(change: Callable[[Path], None], said: str, clone: Path) -> None:
    change(clone)
    found, _ = promotion_violations(clone, "main..HEAD")
    assert said in "\n".join(map(str, found))


def test_the_command_fails_with_what_is_wrong(clone: Path) -> None:
    written("base/serving/role.yaml")(clone)
    done = check(clone)
    assert done.returncode == 1
    assert "[promotion] base/serving/role.yaml: a promotion changes a model's manifest" in done.stderr


def test_a_newer_version_and_its_bytes_are_a_promotion(clone: Path) -> None:
    versioned(4)(clone)
    done = check(clone)
    assert done.returncode == 0, done.stderr
    assert f"churn to version 4, sha256 {sha256_of(4)}; whether the registry has it was not asked" in done.stderr


def test_main_may_have_gone_on(clone: Path) -> None:
    versioned(4)(clone)
    git(clone, "switch", "--quiet", "main")
    written("README.md")(clone)  # names version 4, too
    done = check(clone, "main..promote/churn")
    assert done.returncode == 1
    assert "it goes from version 4 to 4" in done.stderr


def test_what_names_no_two_commits_is_refused(clone: Path) -> None:
    for span in ("", "main", "main..", "..HEAD", "main...HEAD", "main..nowhere", "--help..HEAD"):
        with pytest.raises(RepositoryError):
            promotion_violations(clone, span)
    refused(check(clone, "main..nowhere"), "is not here")


def test_a_registry_that_is_away_passes_nothing(clone: Path) -> None:
    versioned(4)(clone)
    refused(check(clone, MLFLOW_TRACKING_URI="http://127.0.0.1:1"), "MLflow")
