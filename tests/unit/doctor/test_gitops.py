"""Each fault of a git repository, really made in a clone: exactly its code, and nothing once it is gone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homelab_mlops.doctor import forge, gitops  # noqa: F401 - registers their checks
from homelab_mlops.doctor.examine import examine
from homelab_mlops.doctor.visit import Visit
from homelab_mlops.gitops.secrets.sealing_key import CERTIFICATE, find_sealing_key, make_sealing_key
from tests.conftest import ROOT
from tests.unit.doctor import network

CRON = "workflows/models/churn/cronworkflow.yaml"
SEALED = "overlays/homelab/training/sealed/mlflow-login.yaml"
SETTINGS = "clusters/homelab/settings.yaml"
UPSTREAM = "https://github.com/homelab-mlops/homelab-mlops.git"


class Clone:
    """A user's clone with a sealing key and a remote of its own, which a web server on loopback serves."""

    def __init__(self, folder: Path, url: str) -> None:
        self.root, self.key, self.remote = folder / "clone", folder / "key" / "key.pem", folder / "remote.git"
        self.url = f"{url}/{folder.name}/remote.git"

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=tests", "-c", "user.email=tests@invalid", "-c", "safe.directory=*"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, file
        path.write_text(text.replace(old, new))

    def push(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        self.git("push", "--quiet", "--force", str(self.remote), "HEAD:refs/heads/main")
        self.git("--git-dir", str(self.remote), "update-server-info")

    def seal(self, namespace: str, name: str, certificate_key: rsa.RSAPublicKey) -> None:
        """Seals a value as kubeseal does, for a namespace and a name."""
        session = os.urandom(32)
        label = f"{namespace}/{name}".encode()
        scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)
        wrapped = certificate_key.encrypt(session, scheme)
        content = len(wrapped).to_bytes(2) + wrapped + AESGCM(session).encrypt(bytes(12), b"value", None)
        path = self.root / SEALED
        document = yaml.safe_load(path.read_text())
        document["spec"]["encryptedData"] = {"MLFLOW_TRACKING_PASSWORD": base64.b64encode(content).decode()}
        path.write_text(yaml.safe_dump(document))

    def answer_as_forge(self, branch: dict[str, object]) -> None:
        """Lets the web server say of main what Gitea would."""
        self.edit("overlays/homelab/training/promotion.yaml", 'forge: ""', "forge: gitea")
        folder = self.root.parent
        file = folder.parent / "api/v1/repos" / folder.name / "remote/branches/main"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(branch))

    def codes(self) -> list[str]:
        visit = Visit(env={}, root=self.root, key_file=self.key)
        return [finding.code for finding in examine(visit, ("gitops",)).findings]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """One clone, made once: a sealing key takes its seconds."""
    base = tmp_path_factory.mktemp("repositories")
    with network.files(base) as url:
        made = Clone(base / "template", url)
        for name in ("apps", "base", "clusters", "overlays", "workflows"):
            shutil.copytree(ROOT / name, made.root / name)
        made.git("init", "--quiet", "--initial-branch", "main")
        made.git("init", "--quiet", "--bare", str(made.remote))
        key, _ = make_sealing_key(made.root, made.key)
        assert key.certificate == made.root / CERTIFICATE
        made.edit(SETTINGS, UPSTREAM, made.url)
        made.seal("training", "mlflow-login", public(made))
        made.push()
        yield made


@pytest.fixture
def clone(template: Clone) -> Clone:
    folder = Path(tempfile.mkdtemp(dir=template.root.parent.parent))
    shutil.copytree(template.root.parent, folder, dirs_exist_ok=True)
    made = Clone(folder, template.url.removesuffix("/template/remote.git"))
    made.edit(SETTINGS, template.url, made.url)
    made.push()
    return made


def public(clone: Clone) -> rsa.RSAPublicKey:
    from cryptography import x509

    certificate = find_sealing_key(clone.root, clone.key).certificate
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


Change = Callable[[Clone], None]


def a_secret_that_is_about_to_be_committed(clone: Clone) -> None:
    """It is not asked to be pushed as well."""
    text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: mine\nstringData:\n  password: hunter2\n"
    (clone.root / "overlays/mine.yaml").write_text(text)


def a_secret_in_the_tree(clone: Clone) -> None:
    a_secret_that_is_about_to_be_committed(clone)
    clone.push()


def a_secret_in_a_list(clone: Clone) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": {"password": "aHVudGVyMg=="}}
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [secret]})
    (clone.root / "overlays/mine.yaml").write_text(text)
    clone.push()


def a_secret_that_kustomize_generates(clone: Clone) -> None:
    file = clone.root / "overlays/homelab/mlflow/kustomization.yaml"
    with file.open("a") as opened:
        opened.write("secretGenerator:\n  - name: mine\n    literals: [password=hunter2]\n")
    clone.push()


def a_secret_that_kustomize_reads_from_a_file(clone: Clone) -> None:
    folder = clone.root / "overlays/homelab/mlflow"
    (folder / "mine.txt").write_text("password=hunter2\n")
    with (folder / "kustomization.yaml").open("a") as opened:
        opened.write("secretGenerator:\n  - name: mine\n    envs: [mine.txt]\n")
    clone.push()


def keys_of_the_store_in_the_tree(clone: Clone) -> None:
    (clone.root / ".env").write_text("AWS_ACCESS_KEY_ID=minio\nAWS_SECRET_ACCESS_KEY=hunter2\n")
    clone.push()


def keys_of_the_store_in_the_history(clone: Clone) -> None:
    keys_of_the_store_in_the_tree(clone)
    (clone.root / ".env").unlink()
    clone.push()


def a_secret_in_the_history_of_a_name_with_an_umlaut(clone: Clone) -> None:
    a_secret_in_the_tree(clone)
    clone.git("mv", "overlays/mine.yaml", "overlays/müll.yaml")
    clone.push()
    (clone.root / "overlays/müll.yaml").unlink()
    clone.push()


def a_secret_beside_what_is_no_yaml(clone: Clone) -> None:
    text = "kind: Secret\nmetadata:\n  name: mine\nstringData:\n  password: hunter2\n---\na: [\n"
    (clone.root / "overlays/mine.yaml").write_text(text)
    clone.push()


def a_kubeconfig_in_the_tree(clone: Clone) -> None:
    user = {"name": "me", "user": {"client-key-data": "aHVudGVyMg=="}}
    (clone.root / "kubeconfig.yaml").write_text(yaml.safe_dump({"kind": "Config", "users": [user]}))
    clone.push()


def a_schedule_on_the_seventh_weekday(clone: Clone) -> None:
    """Sunday is 0; Argo knows no 7."""
    clone.edit(CRON, "30 2 * * *", "30 2 * * 7")
    clone.push()


def a_private_key_in_the_tree(clone: Clone) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (clone.root / "clusters/mine.pem").write_bytes(pem)
    clone.push()


def a_secret_in_the_history(clone: Clone) -> None:
    a_secret_in_the_tree(clone)
    (clone.root / "overlays/mine.yaml").unlink()
    clone.push()


def sealed_for_another_key(clone: Clone) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=4096)
    clone.seal("training", "mlflow-login", other.public_key())
    clone.push()


def sealed_for_another_namespace(clone: Clone) -> None:
    clone.seal("mlflow", "mlflow-login", public(clone))
    clone.push()


def sealed_for_another_name(clone: Clone) -> None:
    clone.seal("training", "datasets-reader", public(clone))
    clone.push()


def sealed_for_a_name_that_is_nowhere(clone: Clone) -> None:
    clone.seal("training", "no-longer-here", public(clone))
    clone.push()


def a_damaged_value(clone: Clone) -> None:
    clone.edit(SEALED, "MLFLOW_TRACKING_PASSWORD: ", "MLFLOW_TRACKING_PASSWORD: AAAA")
    clone.push()


def a_branch_that_does_not_exist(clone: Clone) -> None:
    clone.edit(SETTINGS, "branch: main", "branch: release")
    clone.push()


def a_repository_that_does_not_exist(clone: Clone) -> None:
    clone.edit(SETTINGS, "remote.git", "nothing.git")
    clone.push()


def a_server_that_is_down(clone: Clone) -> None:
    clone.edit(SETTINGS, clone.url, "http://127.0.0.1:9/homelab.git")
    clone.push()


def a_change_that_is_not_committed(clone: Clone) -> None:
    clone.edit(CRON, "30 2", "31 2")


def a_commit_that_is_not_pushed(clone: Clone) -> None:
    clone.git("commit", "--quiet", "--allow-empty", "--message", "mine alone")


def a_main_that_everybody_may_push_to(clone: Clone) -> None:
    clone.answer_as_forge({"protected": False, "enable_status_check": False})
    clone.push()


def a_schedule_that_never_fires(clone: Clone) -> None:
    clone.edit(CRON, "30 2 * * *", "30 2 30 2 *")
    clone.push()


def a_dead_time_zone(clone: Clone) -> None:
    clone.edit(CRON, "Etc/UTC", "Europe/Bonn")
    clone.push()


def a_suspended_schedule(clone: Clone) -> None:
    clone.edit(CRON, "concurrencyPolicy", "suspend: true\n  concurrencyPolicy")
    clone.push()


def a_resource_before_its_crd(clone: Clone) -> None:
    clone.edit("apps/sealed-secrets.yaml", 'sync-wave: "-30"', 'sync-wave: "99"')
    clone.push()


FAULTS: dict[Change, str] = {
    a_secret_in_the_tree: "GITOPS_PLAIN_SECRET",
    a_secret_in_a_list: "GITOPS_PLAIN_SECRET",
    a_secret_that_kustomize_generates: "GITOPS_PLAIN_SECRET",
    a_secret_that_kustomize_reads_from_a_file: "GITOPS_PLAIN_SECRET",
    a_secret_that_is_about_to_be_committed: "GITOPS_PLAIN_SECRET",
    keys_of_the_store_in_the_tree: "GITOPS_PLAIN_SECRET",
    keys_of_the_store_in_the_history: "GITOPS_PLAIN_SECRET",
    a_secret_in_the_history_of_a_name_with_an_umlaut: "GITOPS_PLAIN_SECRET",
    a_secret_beside_what_is_no_yaml: "GITOPS_PLAIN_SECRET",
    a_kubeconfig_in_the_tree: "GITOPS_PLAIN_SECRET",
    a_private_key_in_the_tree: "GITOPS_PLAIN_SECRET",
    a_secret_in_the_history: "GITOPS_PLAIN_SECRET",
    sealed_for_another_key: "GITOPS_SEALED_WRONG_KEY",
    sealed_for_another_namespace: "GITOPS_SEALED_WRONG_NAME",
    sealed_for_another_name: "GITOPS_SEALED_WRONG_NAME",
    sealed_for_a_name_that_is_nowhere: "GITOPS_SEALED_WRONG_NAME",
    a_damaged_value: "GITOPS_SEALED_DAMAGED",
    a_branch_that_does_not_exist: "GITOPS_REVISION_MISSING",
    a_repository_that_does_not_exist: "GITOPS_REPOSITORY_MISSING",
    a_server_that_is_down: "GITOPS_REPOSITORY_UNREACHABLE",
    a_change_that_is_not_committed: "GITOPS_NOT_PUSHED",
    a_commit_that_is_not_pushed: "GITOPS_NOT_PUSHED",
    a_main_that_everybody_may_push_to: "GITOPS_MAIN_UNPROTECTED",
    a_schedule_that_never_fires: "CLUSTER_CRON_NEVER",
    a_schedule_on_the_seventh_weekday: "CLUSTER_CRON_NEVER",
    a_dead_time_zone: "CLUSTER_CRON_TIMEZONE",
    a_suspended_schedule: "CLUSTER_CRON_SUSPENDED",
    a_resource_before_its_crd: "GITOPS_CRD_RACED",
}


@pytest.mark.parametrize("change", FAULTS, ids=lambda change: change.__name__.replace("_", " "))
def test_a_fault_of_a_repository_has_its_code_alone_and_no_code_once_it_is_gone(change: Change, clone: Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    change(clone)
    assert set(clone.codes()) == {FAULTS[change]}
    clone.git("reset", "--quiet", "--hard", before)
    clone.git("clean", "--quiet", "--force")
    clone.git("push", "--quiet", "--force", str(clone.remote), "HEAD:refs/heads/main")
    clone.git("--git-dir", str(clone.remote), "update-server-info")
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("update-ref", "-d", "ORIG_HEAD")
    assert clone.codes() == []


def test_a_protected_main_is_no_fault_and_a_silent_forge_is_said(clone: Clone) -> None:
    clone.answer_as_forge({"protected": True, "user_can_push": False})
    clone.push()
    assert clone.codes() == []
    clone.edit("overlays/homelab/training/promotion.yaml", "forge: gitea", "forge: github")
    clone.push()
    report = examine(Visit(env={}, root=clone.root, key_file=clone.key), ("gitops",))
    assert report.findings == []
    assert any("whether main is protected, without a token" in reason for reason in report.not_looked_at["gitops"])


def test_a_clone_that_is_only_behind_has_everything_pushed(clone: Clone, tmp_path: Path) -> None:
    """Somebody else's commit is there, such as a promotion that was merged, and was not fetched here yet."""
    clone.git("remote", "add", "origin", str(clone.remote))
    clone.git("fetch", "--quiet", "origin")
    other = Clone(tmp_path, clone.url.removesuffix(f"/{clone.remote.parent.name}/remote.git"))
    subprocess.run(["git", "clone", "--quiet", str(clone.remote), str(other.root)], check=True)
    other.git("checkout", "--quiet", "-B", "main", "origin/main")
    other.git("commit", "--quiet", "--allow-empty", "--message", "theirs")
    other.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
    clone.git("--git-dir", str(clone.remote), "update-server-info")
    assert clone.codes() == []
    clone.git("commit", "--quiet", "--allow-empty", "--message", "mine")
    assert clone.codes() == ["GITOPS_NOT_PUSHED"]


def test_what_is_no_manifest_is_no_fault(clone: Clone) -> None:
    """Files that somebody left, which no check trips over."""
    folder = clone.root / "overlays"
    (folder / "text.yaml").write_text("kind: Secret\nstringData: text\n")
    (folder / "list.yaml").write_text("kind: List\nitems: [text, 1]\n# kind: Secret\n")
    (folder / "latin.yaml").write_bytes("kind: ConfigMap # für\n".encode("latin-1"))
    clone.push()
    assert clone.codes() == []


def test_a_repository_that_wants_a_login(clone: Clone) -> None:
    """A real server that answers as a forge does to whoever has no credentials."""
    with network.proxy("http://127.0.0.1:9", lambda _request: (401, "text/plain", b"")) as url:
        clone.edit(SETTINGS, clone.url, f"{url}/homelab.git")
        clone.push()
        assert clone.codes() == ["GITOPS_REPOSITORY_LOGIN"]
