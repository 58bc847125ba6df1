"""TLS of the pages is one answer of `homelab init`, and arrives at every page."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path
from typing import Any

import pytest

from homelab_mlops.certificates import covers, ends, new_authority, new_certificate, signed_by
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.check import check_repository
from homelab_mlops.gitops.init import Initialised, Lost, initialise
from homelab_mlops.gitops.render import read_yaml, render
from homelab_mlops.gitops.secrets.encrypt import strict_label, try_unseal
from homelab_mlops.gitops.secrets.seal import set_secret
from homelab_mlops.gitops.secrets.sealing_key import find_sealing_key
from homelab_mlops.gitops.secrets.table import load_table, read_sealed
from homelab_mlops.gitops.tls.command import renew_certificate
from homelab_mlops.gitops.tls.pages import HSTS_SECONDS, ISSUER, MIDDLEWARES
from homelab_mlops.location import AUTHORITY
from tests.conftest import ROOT, listing

DOMAIN = "home.example.org"
HOSTS = {"argo-cd": "argocd", "argo-workflows": "argo", "minio": "s3", "mlflow": "mlflow", "serving": "models"}


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        shutil.copytree(ROOT / folder, tmp_path / "fork" / folder)
    (tmp_path / "fork/.tools").symlink_to(ROOT / ".tools")
    return tmp_path / "fork"


def init(fork: Path, tls: str = "", **answers: str) -> Initialised:
    given = {"domain": DOMAIN, **answers, **({"tls": tls} if tls else {})}
    return initialise(fork, given, key_file=fork.parent / "key.pem")


def secrets(fork: Path) -> dict[str, dict[str, str]]:
    """The Secret `tls` of each namespace that has one, in plain text."""
    table = load_table(fork)
    found = read_sealed(fork, table, find_sealing_key(fork, fork.parent / "key.pem"))
    return {spec.namespace: found[spec.id].data for spec in table.secrets if spec.name == "tls"}


def objects(fork: Path, kind: str) -> dict[str, list[dict[str, Any]]]:
    """The objects of a kind that each namespace with a page gets, as Argo CD would render them."""
    found = {}
    for namespace in HOSTS:
        folder = fork / "overlays/homelab" / namespace
        # Argo CD's own install needs the internet; what lies here is whole.
        items = render(folder) if folder.is_dir() else read_yaml(fork / "clusters/homelab/argo-cd/ingress.yaml")
        found[namespace] = [item for item in items if item["kind"] == kind]
    return found


def secured(fork: Path) -> dict[str, set[tuple[str, str]]]:
    """Host and Secret of every TLS section, by namespace; each host of a rule has to be in one."""
    found: dict[str, set[tuple[str, str]]] = {}
    for namespace, items in objects(fork, "Ingress").items():
        for item in items:
            pairs = {(host, entry["secretName"]) for entry in item["spec"].get("tls", []) for host in entry["hosts"]}
            assert {rule["host"] for rule in item["spec"]["rules"]} == {host for host, _ in pairs}, namespace
            found.setdefault(namespace, set()).update(pairs)
    return found


def findings(fork: Path) -> list[str]:
    return [str(finding) for finding in check_repository(fork).findings]


@pytest.mark.parametrize("controller", ["traefik", "nginx"])
def test_an_own_authority_secures_every_page(controller: str, fork: Path) -> None:
    done = init(fork, "own", ingress_class=controller)

    assert done.made.authority_is_new
    authority = (fork / AUTHORITY).read_text()
    found = secrets(fork)
    assert found.keys() == HOSTS.keys()
    assert secured(fork) == {namespace: {(f"{name}.{DOMAIN}", "tls")} for namespace, name in HOSTS.items()}
    for namespace, data in found.items():
        assert signed_by(data["tls.crt"], authority)
        assert covers(data["tls.crt"], f"{HOSTS[namespace]}.{DOMAIN}")
    middlewares = objects(fork, "Middleware")
    for namespace, items in objects(fork, "Ingress").items():
        for item in items:
            named = item["metadata"].get("annotations", {}).get(MIDDLEWARES, "")
            present = [f"{namespace}-{one['metadata']['name']}@kubernetescrd" for one in middlewares[namespace]]
            assert set(named.split(",")) <= set(present) or not named
            assert bool(named) == (controller == "traefik")
    specs = {one["metadata"]["name"]: one["spec"] for one in middlewares["mlflow"]}
    redirect = {"redirectScheme": {"scheme": "https", "permanent": True}}
    wanted = {"mlflow-https": redirect, "mlflow-hsts": {"headers": {"stsSeconds": HSTS_SECONDS}}}
    assert specs == (wanted if controller == "traefik" else {})
    text = b"".join([*listing(fork / "overlays").values(), *listing(fork / "clusters").values()])
    assert b"PRIVATE KEY" not in text
    assert findings(fork) == []
    assert init(fork).changed == []


def test_every_address_of_a_page_is_of_its_scheme(fork: Path) -> None:
    def addresses() -> set[str]:
        text = b"".join(b"".join(listing(fork / name).values()) for name in ("apps", "overlays", "clusters")).decode()
        hosts = [f"{name}.{DOMAIN}" for name in HOSTS.values()]
        return {scheme for scheme in ("http", "https") for host in hosts if f"{scheme}://{host}" in text}

    init(fork, "own")
    assert addresses() == {"https"}
    init(fork, "off")
    assert addresses() == {"http"}


def test_off_again_leaves_nothing_of_it(fork: Path) -> None:
    init(fork, "off")
    before = {name: listing(fork / name) for name in ("apps", "overlays", "clusters")}
    init(fork, "own")
    init(fork, "off")
    after = {name: listing(fork / name) for name in ("apps", "overlays", "clusters")}
    # MLflow's origins named both schemes as long as TLS was somebody else's affair.
    differ = {
        str(path)
        for name in before
        for path in before[name].keys() | after[name].keys()
        if before[name].get(path) != after[name].get(path)
    }
    assert {Path(path).name for path in differ} <= {"hosts.yaml"}
    assert findings(fork) == []


def test_off_leaves_what_a_person_has_written(fork: Path) -> None:
    path = fork / "overlays/homelab/mlflow/ingress.yaml"
    own = path.read_text().replace(
        "  rules:\n", "  tls:\n    - hosts: [mlflow.homelab.example]\n      secretName: mine\n  rules:\n"
    )
    path.write_text(own)
    init(fork, "off")

    assert path.read_text() == own.replace("homelab.example", DOMAIN)
    assert findings(fork) == []


def test_cert_manager_makes_one_certificate_a_host(fork: Path) -> None:
    init(fork, "cert-manager letsencrypt")

    assert secured(fork) == {name: {(f"{host}.{DOMAIN}", f"tls-{host}")} for name, host in HOSTS.items()}
    for items in objects(fork, "Ingress").values():
        assert {item["metadata"]["annotations"][ISSUER] for item in items} == {"letsencrypt"}
    assert secrets(fork) == {}
    assert findings(fork) == []


def test_a_certificate_of_ones_own_is_brought_to_every_page(fork: Path) -> None:
    done = init(fork, "secret")
    assert done.made.is_missing
    theirs = new_certificate(new_authority(DOMAIN), [f"*.{DOMAIN}"])
    pair = {"tls.crt": theirs.certificate, "tls.key": theirs.key}
    other = new_certificate(new_authority(DOMAIN), [f"*.{DOMAIN}"])

    with pytest.raises(RepositoryError, match="not that of the certificate"):
        set_secret(fork, "tls", {"tls.crt": theirs.certificate, "tls.key": other.key}, key_file=fork.parent / "key.pem")
    set_secret(fork, "tls", pair, key_file=fork.parent / "key.pem")

    assert all(data == pair for data in secrets(fork).values())
    assert secrets(fork).keys() == HOSTS.keys()
    assert not (fork / AUTHORITY).exists()
    init(fork)
    assert all(data["tls.crt"] == theirs.certificate for data in secrets(fork).values())
    assert findings(fork) == []


def test_a_renewal_changes_the_certificate_and_not_the_authority(fork: Path) -> None:
    init(fork, "own")
    authority, before = (fork / AUTHORITY).read_text(), secrets(fork)
    changed = renew_certificate(fork, fork.parent / "key.pem")

    after = secrets(fork)
    assert (fork / AUTHORITY).read_text() == authority
    assert {path.name for path in changed} == {"tls.yaml"}
    assert all(after[name]["tls.crt"] != before[name]["tls.crt"] for name in before)
    assert all(signed_by(data["tls.crt"], authority) for data in after.values())


def test_a_certificate_that_ends_soon_is_renewed_by_init(fork: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(fork, "own")
    before = secrets(fork)["mlflow"]["tls.crt"]
    month = datetime.timedelta(days=31)
    assert init(fork).changed == []
    monkeypatch.setattr(
        "homelab_mlops.gitops.tls.own.RENEW_WITHIN", ends(before) - datetime.datetime.now(datetime.UTC) + month
    )
    init(fork)
    assert secrets(fork)["mlflow"]["tls.crt"] != before


def test_another_domain_gets_another_authority_since_the_old_one_cannot_sign_for_it(fork: Path) -> None:
    init(fork, "own")
    done = init(fork, domain="lab.example.net")

    assert done.made.authority_is_new
    assert covers(secrets(fork)["mlflow"]["tls.crt"], "mlflow.lab.example.net")
    assert secured(fork)["mlflow"] == {("mlflow.lab.example.net", "tls")}
    assert findings(fork) == []


def test_a_host_below_another_name_stands_in_the_certificate(fork: Path) -> None:
    path = fork / "overlays/homelab/mlflow/ingress.yaml"
    path.write_text(path.read_text().replace("mlflow.homelab.example", "a.deep.homelab.example"))
    init(fork, "own")

    assert covers(secrets(fork)["mlflow"]["tls.crt"], f"a.deep.{DOMAIN}")


def test_the_key_of_the_authority_follows_a_new_sealing_key(fork: Path) -> None:
    init(fork, "own")
    authority = (fork / AUTHORITY).read_text()
    new = fork.parent / "new.pem"
    initialise(fork, {}, key_file=new, new_key=True, old_keys=(fork.parent / "key.pem",))
    (fork.parent / "key.pem").unlink()

    renew_certificate(fork, new)
    assert (fork / AUTHORITY).read_text() == authority


def test_whoever_gives_up_the_old_sealing_key_gets_another_authority(fork: Path) -> None:
    init(fork, "own")
    authority = (fork / AUTHORITY).read_text()
    (fork.parent / "key.pem").unlink()
    lost: list[str] = []

    def accept(values: list[Lost]) -> bool:
        lost.extend(f"{value.secret}: {value.becomes}" for value in values)
        return True

    done = initialise(fork, {}, key_file=fork.parent / "new.pem", new_key=True, accept=accept)

    assert done.made.authority_is_new
    assert "mlflow/tls tls.crt: generated anew" in lost
    new = (fork / AUTHORITY).read_text()
    assert new != authority
    key = find_sealing_key(fork, fork.parent / "new.pem")
    assert signed_by(read_sealed(fork, load_table(fork), key)["mlflow/tls"].data["tls.crt"], new)


def test_no_application_has_the_key_of_the_authority(fork: Path) -> None:
    init(fork, "own")
    (document,) = read_yaml(fork / "clusters/homelab/authority-key.yaml")
    sealed = document["spec"]["encryptedData"]["tls.key"]
    (private,) = find_sealing_key(fork, fork.parent / "key.pem").privates()[:1]

    assert b"PRIVATE KEY" in (try_unseal(sealed, strict_label("nowhere", "authority"), private) or b"")
    for namespace, items in objects(fork, "SealedSecret").items():
        assert sealed not in str(items), namespace


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (("  tls:\n    - hosts:\n        - mlflow.home.example.org\n      secretName: tls\n", ""), "has no TLS"),
        (("mlflow-mlflow-https@kubernetescrd,", ""), "plain HTTP is not redirected"),
    ],
)
def test_a_page_that_lacks_what_the_setting_says_is_a_finding(
    broken: tuple[str, str], finding: str, fork: Path
) -> None:
    init(fork, "own")
    path = fork / "overlays/homelab/mlflow/ingress.yaml"
    assert broken[0] in path.read_text()
    path.write_text(path.read_text().replace(*broken))

    assert [text for text in findings(fork) if finding in text and "[tls]" in text]


@pytest.mark.parametrize("value", ["yes", "cert-manager", "cert-manager Let's", "On", "own letsencrypt"])
def test_an_answer_that_is_none_is_refused(value: str, fork: Path) -> None:
    with pytest.raises(RepositoryError, match="cannot be used"):
        init(fork, value)
