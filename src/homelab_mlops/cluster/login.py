"""`homelab login SERVICE`: shows the address of a service, and the login of a person."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from homelab_mlops.clients.authority import authority_of
from homelab_mlops.clients.kubernetes import PATIENCE, Cluster
from homelab_mlops.console import print_json, stdout
from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.render import read_yaml
from homelab_mlops.gitops.secrets.seal import reveal
from homelab_mlops.gitops.settings import CLUSTER, find_root

Service = Literal["argo-cd", "argo", "mlflow", "models", "minio"]
INGRESSES: dict[Service, Path] = {
    "argo-cd": Path("clusters") / CLUSTER / "argo-cd",
    "argo": Path("overlays") / CLUSTER / "argo-workflows",
    "mlflow": Path("overlays") / CLUSTER / "mlflow",
    "models": Path("overlays") / CLUSTER / "serving",
    "minio": Path("overlays") / CLUSTER / "minio",
}
CREDENTIALS = {"argo-cd": "argo-cd", "mlflow": "mlflow-admin", "models": "serving"}
PERSON = "training", "person"
TOKEN_SECONDS = 12 * 3600


class Login(NamedTuple):
    """The values that a person types into a page; Argo Workflows takes a token, and no name.

    Attributes:
        authority: the file of the authority that programs trust there, where it is one's own.
    """

    address: str
    username: str
    password: str
    authority: str = ""


def login_command(
    service: Service, context: str | None, *, key_file: Path | None, opens: bool | None, as_json: bool
) -> None:
    """The command `homelab login`."""
    root = find_root()
    login = login_of(root, service, context, key_file)
    login = login._replace(authority=authority_of(login.address))
    if as_json:
        print_json(login._asdict())
        return
    out = stdout()
    out.print(f"address:  {login.address}", markup=False)
    if login.username:
        out.print(f"user:     {login.username}", markup=False)
    word = "password" if login.username else "token"
    out.print(f"{word}:{' ' * (9 - len(word))}{login.password}", markup=False)
    if login.authority:
        out.print(f"trusts:   {login.authority}", markup=False, soft_wrap=True)
    # The store has no page, and the models answer programs.
    has_page = service not in {"minio", "models"}
    if opens or (opens is None and has_page and out.is_terminal and _has_desktop()):
        import webbrowser

        webbrowser.open(login.address)


def login_of(root: Path, service: Service, context: str | None, key_file: Path | None) -> Login:
    """The login of a person.

    Raises:
        RepositoryError: no Ingress names the service, or the private sealing key is not here.
        ClusterError: the login is Argo's, and the cluster does not answer.
    """
    address = _address(root, service)
    match service:
        case "argo":
            token = Cluster(context, patience=PATIENCE).token(*PERSON, seconds=TOKEN_SECONDS)
            return Login(address, "", f"Bearer {token}")
        case "argo-cd" | "mlflow" | "models":
            fields = reveal(root, CREDENTIALS[service], key_file=key_file)
            return Login(address, fields["username"], fields["password"])
        case "minio":
            fields = reveal(root, "minio-root", key_file=key_file)
            return Login(address, fields["accessKey"], fields["secretKey"])


def _address(root: Path, service: Service) -> str:
    for path in sorted((root / INGRESSES[service]).glob("*.yaml")):
        for document in read_yaml(path):
            if document.get("kind") == "Ingress":
                scheme = "https" if document["spec"].get("tls") else "http"
                return f"{scheme}://{document['spec']['rules'][0]['host']}"
    raise RepositoryError(f"no Ingress leads to {service}", where=str(INGRESSES[service]))


def _has_desktop() -> bool:
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
