"""The commands of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from homelab_mlops import completion
from homelab_mlops.gitops.options import KeyFile

app = typer.Typer()


@app.command()
def init(
    repository: Annotated[str | None, typer.Option(help="Address of your repository, as Argo CD reaches it.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch that Argo CD follows.")] = None,
    domain: Annotated[str | None, typer.Option(help="Domain below which the services answer.")] = None,
    storage_class: Annotated[str | None, typer.Option(help="StorageClass of the volumes.")] = None,
    image_registry: Annotated[str | None, typer.Option(help="Registry and folder of the project's own images.")] = None,
    ingress: Annotated[
        Literal["k3s", "traefik", "ingress-nginx"] | None,
        typer.Option(help="The ingress controller: Traefik as k3s ships it, Traefik elsewhere, or ingress-nginx."),
    ] = None,
    ingress_class: Annotated[
        str | None, typer.Option(help="Class of the Ingresses, where none of these is it.")
    ] = None,
    ingress_namespace: Annotated[str | None, typer.Option(help="Namespace of the ingress controller.")] = None,
    ingress_labels: Annotated[
        str | None, typer.Option(help="Labels of its pods, as key=value,key=value; or any.", show_default=False)
    ] = None,
    tls: Annotated[
        str | None,
        typer.Option(help="Certificate of the pages: own, secret, 'cert-manager ISSUER', or off.", show_default=False),
    ] = None,
    private_repository: Annotated[
        bool | None,
        typer.Option("--private-repository/--public-repository", help="Whether Argo CD needs a login to read it."),
    ] = None,
    private_registry: Annotated[
        bool | None,
        typer.Option("--private-registry/--public-registry", help="Whether the nodes need a login to pull from it."),
    ] = None,
    argo_cd_release: Annotated[
        str | None, typer.Option("--argo-cd-version", help="Release of Argo CD to pin, such as v3.6.1.")
    ] = None,
    key_file: KeyFile = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make another sealing key, and seal all for it.")] = False,
    old_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A private key that opens what is sealed, beside those of this machine.",
            dir_okay=False,
        ),
    ] = None,
    lose_values: Annotated[
        bool, typer.Option("--lose-values", help="Go on without sealed values that no key opens; they are listed.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing, and keep every setting that no option gives.")
    ] = False,
) -> None:
    """Make a fork your own: settings, sealing key, credentials. Safe to run again.

    Asks for each setting that no option gives. Writes credentials only sealed; the private key goes outside the
    repository. The first run takes the clone's remote origin for the repository. A new key keeps every value that a
    private key of this machine opens.

    \b
    homelab init
    homelab init --yes --repository https://github.com/me/homelab.git --domain home.example.org
    homelab init --yes --ingress ingress-nginx
    homelab init --yes --tls own
    homelab init --yes --new-key
    """
    from homelab_mlops.gitops.init import ask_and_initialise
    from homelab_mlops.gitops.settings import INGRESS_PRESETS

    answers: dict[str, str | None] = {
        "repository": repository,
        "branch": branch,
        "domain": domain,
        "storage_class": storage_class,
        "image_registry": image_registry,
        "ingress_class": ingress_class,
        "ingress_namespace": ingress_namespace,
        "ingress_labels": ingress_labels,
        "tls": tls,
    }
    if ingress is not None:
        answers = {**answers, **{name: answers[name] or value for name, value in INGRESS_PRESETS[ingress].items()}}
    private = {"repository": private_repository, "registry": private_registry}
    ask_and_initialise(
        answers,
        private=private,
        argo_cd_release=argo_cd_release,
        key_file=key_file,
        ask=not yes,
        new_key=new_key,
        old_keys=tuple(old_key or ()),
        lose_values=lose_values,
    )


@app.command()
def seal(
    name: Annotated[
        str,
        typer.Argument(
            help="A Secret, NAME or NAMESPACE/NAME; or a credential of the table.",
            show_default=False,
            autocompletion=completion.credentials,
        ),
    ],
    keys: Annotated[
        list[str] | None, typer.Argument(help="Its keys; their values are typed without echo.", show_default=False)
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Where the Secret belongs.")] = None,
    from_file: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=PATH", help="A value as the file has it, byte by byte; - is standard input."),
    ] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Generate the credential anew.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print it in plain text; of one key the value alone.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take keys, or all, out of a Secret of your own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show: for a script.")] = False,
    key_file: KeyFile = None,
) -> None:
    """Bring, replace, rotate, show or remove a credential that is sealed in the repository.

    Values come from files, from standard input as lines KEY=value, or from a hidden prompt; never from the command
    line. A key that a Secret of your own does not have yet is added to it; the others stay.

    \b
    homelab seal forge TOKEN -n mlflow                    # a new Secret: asks for the value
    homelab seal forge -n mlflow < token.env              # lines KEY=value
    homelab seal mlflow/forge --from-file ssh=id_ed25519  # one key more
    homelab seal --rotate s3-mlflow                       # new values, then commit and push
    homelab seal --show mlflow-admin
    homelab seal --show --json s3-mlflow | jq -r .accessKey
    homelab seal --show mlflow/forge ssh > id_ed25519
    """
    from homelab_mlops.gitops.secrets.seal import seal_command

    seal_command(
        name,
        keys or [],
        namespace=namespace,
        rotate_it=rotate,
        show=show,
        as_json=as_json,
        remove=remove,
        files=from_file or [],
        key_file=key_file,
    )


@app.command()
def certificate(
    renew: Annotated[bool, typer.Option("--renew", help="Make a new certificate of the same authority.")] = False,
    new_authority: Annotated[
        bool, typer.Option("--new-authority", help="Make another authority too; every device needs its file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
    key_file: KeyFile = None,
) -> None:
    """Show the certificate of the pages and its authority, or renew it.

    A push brings a renewed certificate to the cluster; the pages answer all the while.

    \b
    homelab certificate
    homelab certificate --renew
    """
    from homelab_mlops.gitops.tls.command import certificate_command

    certificate_command(renew=renew, new_authority=new_authority, key_file=key_file, as_json=as_json)


@app.command()
def image(
    names: Annotated[list[str] | None, typer.Argument(help="The images to build (default: all four).")] = None,
    to: Annotated[
        Literal["registry", "k3s"] | None,
        typer.Option(help="Push the images to the pinned registry, or import them into the k3s of this machine."),
    ] = None,
    engine: Annotated[
        Literal["docker", "podman", "buildah"] | None,
        typer.Option(help="The program that builds (default: the first one on PATH).", show_default=False),
    ] = None,
    platform: Annotated[str | None, typer.Option(help="For another machine, such as linux/arm64.")] = None,
    tag: Annotated[str | None, typer.Option(help="Build under this tag, and pin it in the repository.")] = None,
) -> None:
    """Build the platform's own images: minio, mlflow, serving and training.

    Prints the name of each as the manifests pin it. Without a registry, import them into k3s on each node.

    \b
    homelab image
    homelab image --to registry --tag 0.2.0
    homelab image training serving --to k3s
    """
    from homelab_mlops.gitops.image import image_command

    image_command(names or [], engine=engine, to=to, platform=platform, tag=tag)


@app.command()
def check(
    promotion: Annotated[
        str | None,
        typer.Option(
            metavar="BASE..HEAD",
            help="Instead, hold a branch promote/MODEL to one commit that names a newer version and its SHA-256.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False,
) -> None:
    """Render every application, validate it strictly, and hold it to the policies.

    \b
    homelab check
    homelab check --json | jq .findings
    homelab check --promotion main..promote/churn    # what a forge merges by itself
    """
    from homelab_mlops.gitops.check import check_command, promotion_command

    if not (check_command(as_json) if promotion is None else promotion_command(promotion, as_json)):
        raise typer.Exit(1)


@app.command()
def grade(as_json: Annotated[bool, typer.Option("--json", help="For a script.")] = False) -> None:
    """Run the graders: checkov, kube-score, hadolint, actionlint, zizmor, shellcheck.

    `make check` installs them first. accepted-findings.yaml gives the reason for each finding that stays.

    \b
    homelab grade
    """
    from homelab_mlops.gitops.graders import grade_command

    if not grade_command(as_json):
        raise typer.Exit(1)
