"""The checks of the git repository: what Argo CD would fetch from it, and what lies in it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from homelab_mlops.clients import git
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.schedules import cron_findings
from homelab_mlops.doctor.visit import NotLookedAtError, Visit
from homelab_mlops.errors import RepositoryError, ToolError
from homelab_mlops.gitops.secrets import unseal
from homelab_mlops.manifests import yaml_reader

DECLARED = ("apps", "base", "clusters", "overlays", "workflows")
_PRIVATE_KEY = re.compile(r"^\s*-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s*$", re.MULTILINE)
# git searches the history with these patterns too, so they use only the syntax that git and Python share.
_MANIFEST = r"kind[\"']? *: *[\"']?(Secret|Config)([^A-Za-z]|$)|^ *secretGenerator:"
_VARIABLE = r"^(export )?[A-Z0-9_]*(PASSWORD|SECRET|TOKEN|ACCESS_KEY)[A-Z0-9_]*=[\"']?[^<$\"' ]"
# A pattern that git looks for in the history, and where.
_SECRETS = (
    (_MANIFEST, ("*.yaml", "*.yml", "*.json")),
    (r"^ *-----BEGIN ([A-Z]+ )?PRIVATE KEY-----", ("*",)),
    (_VARIABLE, (".env", "*.env")),
)
_REMOTE = (
    (
        "GITOPS_REPOSITORY_LOGIN",
        r"authentication (?:failed|required)|could not read Username|Permission denied|\b40[13]\b|invalid credentials"
        r"|Host key verification failed",
    ),
    (
        "GITOPS_REVISION_MISSING",
        r"unable to resolve .* to a commit|couldn't find remote ref|Remote branch .* not found",
    ),
    (
        "GITOPS_REPOSITORY_MISSING",
        r"repository .*not found|does not appear to be a git repository|does not exist|\b404\b",
    ),
    (
        "GITOPS_REPOSITORY_UNREACHABLE",
        r"could not resolve|no such host|dial tcp|connection refused|timed? ?out|unable to access|failed to connect"
        r"|network is unreachable|repository is not accessible|no route|\bEOF\b",
    ),
)


def remote_code(message: str) -> str | None:
    """The fault's code, by what git or Argo CD says when it cannot fetch a repository."""
    found = (code for code, pattern in _REMOTE if re.search(pattern, message, re.IGNORECASE))
    return next(found, None)


def root_of(visit: Visit) -> Path:
    """The repository around the current folder.

    Raises:
        NotLookedAtError: there is none.
    """
    if visit.root is None:
        raise NotLookedAtError("the current folder lies in no clone of this repository")
    return visit.root


def initialised(visit: Visit) -> Path:
    from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE

    root = root_of(visit)
    if not (root / CERTIFICATE).is_file():
        raise NotLookedAtError("remote, push and sealed secrets: `homelab init` has not made this clone your own")
    return root


@check("gitops", "GITOPS_PLAIN_SECRET")
def plain_secrets(visit: Visit) -> Iterator[Finding]:
    """Whether a Secret with values or a private key is committed, or would be by the next `git add`."""
    root = root_of(visit)
    listed = _git(visit, root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = [name for name in listed.split("\0") if name]
    now = {name: what for name in names if (what := _plain(name, _text(root / name)))}
    for name, what in now.items():
        yield Finding("GITOPS_PLAIN_SECRET", name, f"{what} lies in the repository in plain text")
    for commit, name, what in _in_history(visit, root):
        if name not in now:
            yield Finding(
                "GITOPS_PLAIN_SECRET",
                f"{name} in commit {commit[:12]}",
                f"{what} lies in the history of the repository in plain text",
                "rotate it (`homelab seal --rotate NAME`): whoever cloned has it. Then rewrite the history "
                f"(git filter-repo --invert-paths --path {name})",
            )


def _in_history(visit: Visit, root: Path) -> Iterator[tuple[str, str, str]]:
    """The newest commit of each file that once held a secret; git finds the candidates."""
    seen: set[str] = set()
    for pattern, places in _SECRETS:
        # Not --all: a stash never leaves this machine.
        everywhere = ("HEAD", "--branches", "--tags", "--remotes")
        log = _git(
            visit, root, "log", *everywhere, "--format=%x01%H", "--name-only", "-E", f"-G{pattern}", "--", *places
        )
        for entry in log.split("\x01")[1:]:
            commit, *names = (line for line in entry.splitlines() if line)
            for name in names:
                if name in seen:
                    continue
                for where in (commit, f"{commit}~"):
                    text = _git(visit, root, "show", f"{where}:{name}", check=False)
                    if what := _plain(name, text):
                        seen.add(name)
                        yield commit, name, what
                        break


def _plain(name: str, text: str) -> str:
    """Which secret a file holds, if any."""
    if name.startswith("tests/"):
        return ""  # broken examples, whose keys open nothing
    if _PRIVATE_KEY.search(text) and not name.endswith((".py", ".md")):
        return "a private key"
    if name.endswith(".env") and (found := re.search(_VARIABLE, text, re.MULTILINE)):
        return f"the variable {found[0].partition('=')[0].removeprefix('export ')}"
    if name.endswith((".yaml", ".yml", ".json")) and re.search(_MANIFEST, text, re.MULTILINE):
        return next(
            (what for part in re.split(r"^---", text, flags=re.MULTILINE) if (what := _values(_read(part)))), ""
        )
    return ""


def _read(text: str) -> dict[str, Any]:
    try:
        return _mapping(yaml_reader.load(text))
    except yaml.YAMLError:
        return {}


def _values(document: dict[str, Any]) -> str:
    """The Secret of a manifest, of a list or of a kustomization, where it has values; or nothing."""
    values = [value for key in ("data", "stringData") for value in _mapping(document.get(key)).values()]
    if document.get("kind") == "Secret" and any(values):
        return f"the Secret {_mapping(document.get('metadata')).get('name', '')}"
    if str(document.get("kind", "")).endswith("List"):
        return next((what for item in _list(document.get("items")) if (what := _values(_mapping(item)))), "")
    for user in _list(document.get("users")) if document.get("kind") == "Config" else []:
        if {"token", "client-key-data", "password"} & _mapping(_mapping(user).get("user")).keys():
            return "the login of a kubeconfig"
    for generator in map(_mapping, _list(document.get("secretGenerator"))):
        if any(generator.get(way) for way in ("literals", "envs", "env", "files")):
            return f"the Secret {generator.get('name', '')}, of a secretGenerator,"
    return ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < 1_000_000 else ""
    except (UnicodeDecodeError, OSError):
        return ""


@check("gitops", "GITOPS_REPOSITORY_*", "GITOPS_REVISION_MISSING")
def remote(visit: Visit) -> Iterator[Finding]:
    """Whether the repository that Argo CD follows answers here, and has the branch."""
    from homelab_mlops.gitops.settings import load_settings

    root = initialised(visit)
    settings = load_settings(root)
    try:
        done = _run(visit, root, "ls-remote", "--heads", "--tags", settings.repository)
    except git.GitTimeoutError:
        raise Finding("GITOPS_REPOSITORY_UNREACHABLE", settings.repository) from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        code = remote_code(said) or "GITOPS_REPOSITORY_UNREACHABLE"
        fix = "name its CA: `git config http.sslCAInfo FILE` here, the ConfigMap argocd-tls-certs-cm for Argo CD"
        what = f"{Finding(code, '').what}: {said[:200]}"
        raise Finding(code, settings.repository, what, fix if "certificate" in said else "", about="repository")
    heads = {line.split("\t")[1]: line.split("\t")[0] for line in done.stdout.splitlines() if "\t" in line}
    at = heads.get(f"refs/heads/{settings.branch}") or heads.get(f"refs/tags/{settings.branch}")
    if at is None:
        what = f"the branch {settings.branch!r} that Argo CD follows does not exist"
        raise Finding("GITOPS_REVISION_MISSING", settings.repository, what, about="revision")
    visit.shared["remote"] = at
    yield from ()


@check("gitops", "GITOPS_NOT_PUSHED", after=[remote])
def pushed(visit: Visit) -> Iterator[Finding]:
    """Whether Argo CD would deploy what this clone holds."""
    root = initialised(visit)
    head = _git(visit, root, "rev-parse", "HEAD").strip()
    status = _git(visit, root, "status", "--porcelain", "--untracked-files=all", "--", *DECLARED).splitlines()
    # A Secret in plain text has a finding of its own; nobody should push it.
    changed = [line for line in status if not _plain(line[3:], _text(root / line[3:]))]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        yield Finding("GITOPS_NOT_PUSHED", changed[0][3:] + more, f"{len(changed)} changed files are not committed")
    elif head != visit.shared["remote"] and not _is_pushed(visit, root, head):
        what = f"the commit {head[:12]} is not pushed; Argo CD deploys {visit.shared['remote'][:12]}"
        yield Finding("GITOPS_NOT_PUSHED", str(root), what, "git pull --rebase && git push")


def _is_pushed(visit: Visit, root: Path, head: str) -> bool:
    """Whether a commit is in the history of the one that Argo CD deploys, or else in a fetched remote branch."""
    known = _run(visit, root, "merge-base", "--is-ancestor", head, visit.shared["remote"]).returncode
    if known in (0, 1):
        return known == 0
    return bool(_git(visit, root, "for-each-ref", "--contains", head, "refs/remotes"))


@check("gitops", "GITOPS_SEALED_*")
def sealed(visit: Visit) -> Iterator[Finding]:
    """Whether the private key on this machine opens each SealedSecret of the tree, under its own name."""
    from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key

    root = initialised(visit)
    try:
        key = find_sealing_key(root, visit.key_file)
    except RepositoryError as error:
        fix = (
            error.fix or "bring the private sealing key back from where you keep its copy, and name it with --key-file"
        )
        raise Finding("GITOPS_SEALED_WRONG_KEY", error.where, error.what, fix) from error
    if key.private is None:
        raise NotLookedAtError("sealed secrets: the private sealing key is not on this machine")
    private = key.private.read_bytes()
    for path in sorted((root / "overlays").rglob("*.yaml")):
        for document in _documents(path):
            if document.get("kind") == "SealedSecret":
                yield from unsealable(document, [private], str(path.relative_to(root)), _identities(root))


def _identities(root: Path) -> list[tuple[str, str]]:
    """Namespace and name of every Secret that the table declares."""
    from homelab_mlops.gitops.secrets.table import load_table

    return [(spec.namespace, spec.name) for spec in load_table(root).secrets]


def unsealable(
    document: dict[str, Any], keys: list[bytes], where: str, others: list[tuple[str, str]]
) -> Iterator[Finding]:
    """Why a SealedSecret does not decrypt with the private ``keys`` (PEM): at most one finding.

    ``others`` are namespaces and names that its values may have been sealed for instead.
    """
    metadata = document.get("metadata", {})
    about = f"SealedSecret {metadata.get('namespace', '')}/{metadata.get('name', '')}"
    privates = [unseal.load_private_key(key) for key in keys]
    own = unseal.label_of(metadata)
    for entry, text in sorted((document.get("spec", {}).get("encryptedData") or {}).items()):
        if not text:
            continue  # a skeleton that `homelab init` fills
        try:
            content = base64.b64decode(str(text), validate=True)
        except ValueError:
            content = b""
        if not unseal.is_sealed(content):
            yield Finding("GITOPS_SEALED_DAMAGED", where, f"{about}: {entry} is no sealed value", about=about)
            return
        if any(unseal.opens(content, private, own) for private in privates):
            if any(unseal.decrypts(content, private, own) for private in privates):
                continue
            yield Finding("GITOPS_SEALED_DAMAGED", where, f"{about}: {entry} is damaged", about=about)
            return
        digest = next((found for private in privates if (found := unseal.label_digest(content, private))), None)
        if digest is None:
            yield Finding("GITOPS_SEALED_WRONG_KEY", where, f"{about}: {entry} was sealed for another key", about=about)
            return
        scope = _scope_of(digest, metadata, others)
        what = f"{about}: {entry} was sealed for {scope}, so it does not decrypt here"
        yield Finding("GITOPS_SEALED_WRONG_NAME", where, what, about=about)
        return


def _scope_of(digest: bytes, metadata: dict[str, Any], others: list[tuple[str, str]]) -> str:
    """In words: the name and namespace that a value was sealed for, by the SHA-256 of its label."""
    namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
    names = {*others, *((space, name) for space, _ in others), *((namespace, known) for _, known in others)}
    labels = ["", *sorted({space for space, _ in names}), *sorted(f"{space}/{known}" for space, known in names)]
    label = next((label for label in labels if hashlib.sha256(label.encode()).digest() == digest), None)
    if label is None:
        return "another name or namespace"
    return repr(label) if label else "the whole cluster"


@check("gitops", "CLUSTER_CRON_*")
def schedules(visit: Visit) -> Iterator[Finding]:
    """Whether each model's schedule in the tree fires."""
    root = root_of(visit)
    for path in sorted((root / "workflows").rglob("*.yaml")):
        for document in _documents(path):
            if document.get("kind") == "CronWorkflow":
                yield from cron_findings(document, str(path.relative_to(root)))


@check("gitops", "GITOPS_CRD_RACED")
def waves(visit: Visit) -> Iterator[Finding]:
    """Whether each custom resource of the tree comes after its CRD. Within one Application Argo CD orders them
    itself."""
    from homelab_mlops.gitops.render import applications

    root = root_of(visit)
    where: dict[str, tuple[str, int]] = {}
    used: dict[str, tuple[str, int, Path]] = {}
    try:
        apps = applications(root)
    except RepositoryError as error:
        raise NotLookedAtError(f"the order of CRDs: {error.what}") from error
    for app in apps:
        name = app["metadata"]["name"]
        wave = _wave(app)
        folder = Path(app["spec"]["source"]["path"]).name
        places = [app["spec"]["source"]["path"], f"base/{folder}", *(["workflows"] if folder == "training" else [])]
        for path in (path for place in places for path in sorted((root / place).rglob("*.yaml"))):
            for document in _documents(path):
                kind = str(document.get("kind", ""))
                if kind == "CustomResourceDefinition":
                    where[document["spec"]["names"]["kind"]] = (name, wave)
                elif "SkipDryRunOnMissingResource" not in str(document.get("metadata", {}).get("annotations", "")):
                    used.setdefault(f"{kind}@{name}", (name, wave, path))
    for key, (name, wave, path) in sorted(used.items()):
        owner, earlier = where.get(key.partition("@")[0], (name, wave))
        if owner != name and earlier >= wave:
            what = (
                f"{key.partition('@')[0]} of {name} (wave {wave}) is applied before its CRD of {owner} (wave {earlier})"
            )
            yield Finding("GITOPS_CRD_RACED", str(path.relative_to(root)), what)


def _wave(app: dict[str, Any]) -> int:
    """The wave of an Application; Argo CD takes one that is no number for 0."""
    text = str((app["metadata"].get("annotations") or {}).get("argocd.argoproj.io/sync-wave", ""))
    return int(text) if re.fullmatch(r"-?\d+", text) else 0


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    from homelab_mlops.gitops.render import read_yaml

    try:
        yield from read_yaml(path)
    except (RepositoryError, UnicodeDecodeError):
        return  # `homelab check` says what is wrong with it


def _run(visit: Visit, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    asks_nothing = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    return git.run(
        root,
        "-c",
        "safe.directory=*",
        *arguments,
        seconds=visit.seconds(6.0),
        environment={"LC_ALL": "C", **asks_nothing},
        errors="replace",
    )


def _git(visit: Visit, root: Path, *arguments: str, check: bool = True) -> str:
    try:
        done = _run(visit, root, *arguments)
    except git.GitTimeoutError:
        raise NotLookedAtError(f"git {arguments[0]} took too long") from None
    except ToolError as error:
        raise NotLookedAtError(error.what) from None
    if check and done.returncode:
        raise NotLookedAtError(f"git {arguments[0]}: {done.stderr.strip()[:100]}")
    return done.stdout if not done.returncode else ""
