"""The policies of the rendered platform. Each policy is a function, and has a broken repository in the tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homelab_mlops.errors import HomelabError
from homelab_mlops.gitops.budgets import load_budgets
from homelab_mlops.gitops.render import ARGO_CD, ROOT_APPLICATION, Rendered, applications, origins, parse, read_yaml
from homelab_mlops.location import SETTINGS
from homelab_mlops.manifests.images import why_moving
from homelab_mlops.manifests.objects import (
    SERVERS,
    WORKLOADS,
    Container,
    Manifest,
    get,
    identity,
    is_workflow,
    pod_specs,
    strings,
)
from homelab_mlops.manifests.objects import containers as containers_of
from homelab_mlops.manifests.projects import project_problems
from homelab_mlops.manifests.quantities import Requests, say_quantity, sum_requests
from homelab_mlops.manifests.schedules import fires

DNS_PORT = 53
# The root declares Applications; the workflow controller has its rights in the namespace of the workflows, whose pods
# read there what git names.
NAMESPACES_BESIDE = {"homelab": "argo-cd", "argo-workflows": "training", "serving": "training"}
# The cluster itself fills in a Secret of this type.
FILLED_IN = "kubernetes.io/service-account-token"
SHELLS = ("sh", "ash", "bash", "dash", "zsh", "busybox")


@dataclass(frozen=True)
class Violation:
    """An object that violates a policy."""

    policy: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"[{self.policy}] {self.where}: {self.what}"


@dataclass(frozen=True)
class Repository:
    """A working tree and what its Applications render."""

    root: Path
    rendered: list[Rendered]

    @property
    def objects(self) -> list[Manifest]:
        """Every object of every Application, with upstream's install of Argo CD."""
        return [manifest for application in self.rendered for manifest in application.manifests]

    def manifests(self, *kinds: str) -> Iterator[tuple[str, Manifest]]:
        """Every object of the given kinds with its Application, without upstream's install of Argo CD."""
        for application in self.rendered:
            if application.name != ARGO_CD:
                for manifest in application.manifests:
                    if not kinds or manifest["kind"] in kinds:
                        yield application.name, manifest


Problems = Iterator[tuple[str, str]]
Policy = Callable[[Repository], Problems]
POLICIES: dict[str, Policy] = {}


def policy(function: Policy) -> Policy:
    """Registers a policy under its name."""
    POLICIES[function.__name__.replace("_", "-")] = function
    return function


def violations(repository: Repository) -> list[Violation]:
    """Every violation, policy by policy."""
    return [item for name, function in POLICIES.items() for item in _found(name, function, repository)]


def _found(name: str, function: Policy, repository: Repository) -> Iterator[Violation]:
    try:
        for where, what in function(repository):
            yield Violation(name, where, what)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A manifest that is no manifest ends this policy, and fails the check.
        yield Violation(name, "this policy", f"it ended early, at a field that is missing or of another form: {error}")


def containers(repository: Repository) -> Iterator[tuple[str, Container]]:
    """Every container of workloads and of workflow templates, with the words that name it."""
    for _, manifest in repository.manifests(*WORKLOADS, "WorkflowTemplate"):
        word = "step" if is_workflow(manifest) else "container"
        for container in containers_of(manifest):
            yield f"{identity(manifest)} {word} {container.name}", container


@policy
def security_context(repository: Repository) -> Problems:
    for where, container in containers(repository):
        if container.security("runAsNonRoot") is not True:
            yield where, "runAsNonRoot is not true"
        if container.security("runAsUser") in (None, 0):
            yield where, "runAsUser names no user, or root"
        if (container.security("seccompProfile") or {}).get("type") != "RuntimeDefault":
            yield where, "seccompProfile is not RuntimeDefault"
        own = container.spec.get("securityContext") or {}
        if own.get("readOnlyRootFilesystem") is not True:
            yield where, "readOnlyRootFilesystem is not true"
        if own.get("allowPrivilegeEscalation") is not False:
            yield where, "allowPrivilegeEscalation is not false"
        capabilities = own.get("capabilities") or {}
        if "ALL" not in capabilities.get("drop", []) or capabilities.get("add"):
            yield where, "not all capabilities are dropped"
        if own.get("privileged") or container.pod.get("hostNetwork") or container.pod.get("hostPID"):
            yield where, "it is privileged, or shares the host's network or processes"
        if any("hostPath" in volume for volume in container.pod.get("volumes", [])):
            yield where, "it mounts a folder of the host"


@policy
def resources(repository: Repository) -> Problems:
    for where, container in containers(repository):
        given = container.spec.get("resources") or {}
        for resource in ("cpu", "memory"):
            if resource not in given.get("requests", {}):
                yield where, f"it requests no {resource}"
        if "memory" not in given.get("limits", {}):
            yield where, "it has no memory limit"


@policy
def probes(repository: Repository) -> Problems:
    for where, container in containers(repository):
        if container.kind in SERVERS and not container.is_init:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe not in container.spec:
                    yield where, f"it has no {probe}"


@policy
def exact_images(repository: Repository) -> Problems:
    for where, container in containers(repository):
        named = re.compile(r"^--?[\w-]*image[= ](\S+)$")
        arguments = [*strings(container.spec.get("command")), *strings(container.spec.get("args"))]
        images = [
            str(container.spec.get("image", "")),
            *(match[1] for item in arguments if (match := named.match(item))),
        ]
        for image in images:
            if why := why_moving(image):
                yield where, f"the image {image!r} has no exact tag: it {why}"
            if "/" not in image:
                yield where, f"the image {image!r} names no registry"


@policy
def network_policies(repository: Repository) -> Problems:
    for manifest in repository.objects:
        if manifest["kind"] == "Namespace":
            namespace = manifest["metadata"]["name"]
            if not any(_denies_all(item, namespace) for item in repository.objects):
                yield identity(manifest), "no NetworkPolicy denies by default"
    for _, manifest in repository.manifests("NetworkPolicy"):
        spec = manifest["spec"]
        if any(rule == {} for key in ("ingress", "egress") for rule in spec.get(key) or []):
            yield identity(manifest), "a rule admits everything"
        # The resolver may be a pod, a cache on the node or the node itself; nobody knows here which one a cluster has.
        for rule in spec.get("egress") or []:
            if rule.get("to") and any(port.get("port") == DNS_PORT for port in rule.get("ports") or []):
                yield identity(manifest), "it allows DNS to named peers only, and other clusters resolve elsewhere"


def _denies_all(manifest: Manifest, namespace: str) -> bool:
    spec = manifest.get("spec") or {}
    return (
        manifest["kind"] == "NetworkPolicy"
        and manifest["metadata"].get("namespace") == namespace
        and spec.get("podSelector") == {}
        and set(spec.get("policyTypes", [])) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


@policy
def pod_security(repository: Repository) -> Problems:
    for manifest in repository.objects:
        if manifest["kind"] == "Namespace":
            labels = manifest["metadata"].get("labels", {})
            for mode in ("enforce", "audit", "warn"):
                if labels.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                    yield identity(manifest), f"pod-security.kubernetes.io/{mode} is not restricted"


@policy
def rbac(repository: Repository) -> Problems:
    for _, manifest in repository.manifests("Role", "ClusterRole"):
        for rule in manifest.get("rules") or []:
            if any("*" in rule.get(key, []) for key in ("apiGroups", "resources", "verbs")):
                yield identity(manifest), "a rule has a wildcard"
            if {"escalate", "bind", "impersonate"} & set(rule.get("verbs", [])):
                yield identity(manifest), "a rule lets its holder become more"
    for _, manifest in repository.manifests("RoleBinding", "ClusterRoleBinding"):
        if manifest["roleRef"]["name"] in ("admin", "cluster-admin", "edit"):
            yield identity(manifest), f"it gives away {manifest['roleRef']['name']}"
        for subject in manifest.get("subjects") or []:
            if subject["kind"] == "Group" or subject["name"] == "default":
                yield identity(manifest), f"its subject is the {subject['kind']} {subject['name']}"


@policy
def bound_accounts(repository: Repository) -> Problems:
    """Includes upstream's install: a binding to an account that does not exist gives nobody a right."""
    accounts = {
        (item["metadata"].get("namespace"), item["metadata"]["name"])
        for item in repository.objects
        if item["kind"] == "ServiceAccount"
    }
    for manifest in repository.objects:
        if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            for subject in manifest.get("subjects") or []:
                # A subject without a namespace lies in the namespace of its RoleBinding.
                namespace = subject.get("namespace") or manifest["metadata"].get("namespace")
                if subject["kind"] == "ServiceAccount" and (namespace, subject["name"]) not in accounts:
                    yield (
                        identity(manifest),
                        f"no Application declares the ServiceAccount {namespace}/{subject['name']}",
                    )


@policy
def service_accounts(repository: Repository) -> Problems:
    for _, manifest in repository.manifests(*WORKLOADS, "WorkflowTemplate"):
        for spec in [manifest["spec"]] if is_workflow(manifest) else pod_specs(manifest):
            if spec.get("serviceAccountName") in (None, "default"):
                yield identity(manifest), "it has no ServiceAccount of its own"


@policy
def no_plain_secrets(repository: Repository) -> Problems:
    for _, manifest in repository.manifests("Secret"):
        if manifest.get("type") == FILLED_IN and not any(manifest.get(key) for key in ("data", "stringData")):
            continue
        yield identity(manifest), "a Secret lies in git in plain text; seal it with `homelab seal`"
    for _, manifest in repository.manifests("SealedSecret"):
        annotations = manifest["metadata"].get("annotations", {})
        if any(key.startswith("sealedsecrets.bitnami.com/") and "wide" in key for key in annotations):
            yield identity(manifest), "its scope is wider than strict"
    secret_like = re.compile(r"password|secret|token|api_?key|private_?key", re.IGNORECASE)
    for where, container in containers(repository):
        for item in container.spec.get("env") or []:
            if secret_like.search(item["name"]) and item.get("value"):
                yield where, f"the variable {item['name']} has its value in plain text"


@policy
def protected_data(repository: Repository) -> Problems:
    for application in repository.rendered:
        for manifest in application.manifests:
            upstream = application.name == ARGO_CD and manifest["kind"] == "CustomResourceDefinition"
            if manifest["kind"] in ("PersistentVolumeClaim", "Namespace", "CustomResourceDefinition") and not upstream:
                options = manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-options", "")
                if not {"Prune=false", "Delete=false"} <= set(options.split(",")):
                    yield identity(manifest), "Argo CD may prune or delete it: Prune=false,Delete=false is missing"
    for _, manifest in repository.manifests("PersistentVolumeClaim"):
        if "ReadWriteMany" in manifest["spec"].get("accessModes", []):
            yield identity(manifest), "ReadWriteMany is not there on a homelab"
    for _, manifest in repository.manifests("StatefulSet"):
        if manifest["spec"].get("volumeClaimTemplates"):
            yield identity(manifest), "a claim from a template is not protected: declare it by itself"


@policy
def workflows(repository: Repository) -> Problems:
    for _, manifest in repository.manifests("WorkflowTemplate"):
        where, spec = identity(manifest), manifest["spec"]
        if not spec.get("activeDeadlineSeconds"):
            yield where, "it has no deadline"
        if not spec.get("ttlStrategy"):
            yield where, "its workflows are never deleted: ttlStrategy is missing"
        for template in spec["templates"]:
            step = f"{where} step {template['name']}"
            container = template.get("container") or template.get("script")
            if container is None:
                continue
            if not template.get("activeDeadlineSeconds"):
                yield step, "it has no deadline"
            if template["name"] != spec.get("onExit"):
                retry = template.get("retryStrategy") or {}
                if not retry.get("backoff") or not retry.get("expression"):
                    yield step, "it does not retry with back-off on what is transient only"
            words = " ".join(map(str, [*container.get("command", []), *container.get("args", [])]))
            if re.search(r"\b(pip|apt-get|apk|conda)\b.*\binstall\b", words + container.get("source", "")):
                yield step, "it installs software at run time"
            for name in sorted(_variables(container) & _variables(_default_container(spec))):
                yield step, f"{name} is in env of templateDefaults too, and Argo makes an invalid pod of both"
    for _, manifest in repository.manifests("CronWorkflow"):
        where, spec = identity(manifest), manifest["spec"]
        for key in ("timezone", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            if key not in spec:
                yield where, f"{key} is missing"
        if spec.get("concurrencyPolicy") != "Forbid":
            yield where, "concurrencyPolicy is not Forbid"
        if "workflowTemplateRef" not in spec["workflowSpec"]:
            yield where, "it holds its own steps instead of naming a WorkflowTemplate"
        for schedule in spec.get("schedules", []):
            if not fires(schedule):
                yield where, f"the schedule {schedule!r} never fires"
    for _, manifest in repository.manifests("Workflow"):
        yield identity(manifest), "a Workflow in git would run again at each sync: make it a WorkflowTemplate"


def _default_container(spec: dict[str, Any]) -> dict[str, Any]:
    return (spec.get("templateDefaults") or {}).get("container") or {}


def _variables(container: dict[str, Any]) -> set[str]:
    return {str(variable["name"]) for variable in container.get("env") or []}


@policy
def no_token_in_a_step(repository: Repository) -> Problems:
    """Whoever takes over a step has no login to the cluster, and runs no template of his own."""
    for _, manifest in repository.manifests("WorkflowTemplate"):
        where, spec = identity(manifest), manifest["spec"]
        parts = [part for part in (*spec["templates"], spec.get("templateDefaults")) if part]
        if spec.get("automountServiceAccountToken") is not False or any(
            part.get("automountServiceAccountToken") for part in parts
        ):
            yield where, "its steps get a token: automountServiceAccountToken is not false"
        if re.search(r"'serviceAccountToken'|service-account-token", str(spec)):
            yield where, "its steps get a token by a volume or a variable"
        for part in (spec, *parts):
            account = part.get("serviceAccountName") or spec.get("serviceAccountName")
            executor = get(part, "executor", "serviceAccountName") or get(spec, "executor", "serviceAccountName")
            if executor in (None, account):
                yield where, "its executor has no ServiceAccount of its own"
                break
    for _, manifest in repository.manifests("ConfigMap"):
        if manifest["metadata"]["name"] == "workflow-controller-configmap":
            restrictions = next(iter(parse((manifest.get("data") or {}).get("workflowRestrictions") or "")), {})
            if get(restrictions, "templateReferencing") not in ("Strict", "Secure"):
                yield identity(manifest), "it runs workflows that git does not name: templateReferencing is not Strict"


@policy
def no_parameter_in_a_shell(repository: Repository) -> Problems:
    """Argo writes a parameter into the text of a command as it is, and a shell would run what it says."""
    for _, manifest in repository.manifests("WorkflowTemplate", "CronWorkflow"):
        for container in containers_of(manifest):
            where = f"{identity(manifest)} step {container.name}"
            words = [*strings(container.spec.get("command")), *strings(container.spec.get("args"))]
            if "{{" in str(container.spec.get("source", "")):
                yield where, "its script has a parameter in its text; pass it as a variable"
            elif any("{{" in word for word in words) and _runs_code(words):
                yield where, "a shell or an interpreter reads a parameter as code; pass it as a variable"


def _runs_code(words: list[str]) -> bool:
    programs = [word.rpartition("/")[2] for word in words]
    return any(program in SHELLS for program in programs) or bool({"-c", "-e", "-lc", "-ec"} & set(words))


@policy
def jobs(repository: Repository) -> Problems:
    for _, manifest in repository.manifests("Job"):
        if "activeDeadlineSeconds" not in manifest["spec"] or "backoffLimit" not in manifest["spec"]:
            yield identity(manifest), "it has no deadline, or no limit of retries"


@policy
def budgets(repository: Repository) -> Problems:
    requested = vars(requests(repository))
    for resource, budget in load_budgets(repository.root).items():
        if requested[resource] > budget:
            total, most = (say_quantity(resource, value) for value in (requested[resource], budget))
            yield "the platform", f"its {resource} requests are {total}; the budget in {SETTINGS} is {most}"


def requests(repository: Repository) -> Requests:
    """The requests of all Applications except Argo CD."""
    return sum_requests(manifest for _, manifest in repository.manifests())


@policy
def labels(repository: Repository) -> Problems:
    for _, manifest in repository.manifests():
        given = manifest["metadata"].get("labels", {})
        if given.get("app.kubernetes.io/part-of") != "homelab-mlops" or "app.kubernetes.io/name" not in given:
            yield identity(manifest), "the labels app.kubernetes.io/name and part-of: homelab-mlops are missing"


@policy
def names(repository: Repository) -> Problems:
    declared = {item["metadata"]["name"]: item for item in applications(repository.root)}
    for name, application in declared.items():
        spec = application["spec"]
        if name == "homelab":
            continue
        if not (repository.root / "apps" / f"{name}.yaml").is_file():
            yield f"Application {name}", f"its file is not apps/{name}.yaml"
        expected = "clusters/homelab/argo-cd" if name == ARGO_CD else f"overlays/homelab/{name}"
        paths = [str(item.get("path") or item.get("chart")) for item in origins(application)]
        if paths != [expected]:
            yield f"Application {name}", f"it renders {', '.join(paths)}, not {expected}"
        if spec["destination"].get("namespace") != name:
            yield f"Application {name}", f"its namespace is not {name}"
    for folder in sorted((repository.root / "overlays" / "homelab").iterdir()):
        if folder.name not in declared:
            yield f"overlays/homelab/{folder.name}", "no Application renders it"
    for application_name, manifest in repository.manifests():
        namespace = manifest["metadata"].get("namespace")
        if namespace is not None and namespace not in {application_name, NAMESPACES_BESIDE.get(application_name)}:
            yield identity(manifest), f"it is not in the namespace of its Application {application_name}"


# Parts that an overlay may list. tests/manifests holds the tree with each of them to the policies, too.
OPTIONAL = ("base/serving/request-log",)
# No Application has these: they are read by the commands, and the root by `homelab bootstrap`.
UNRENDERED = ("settings.yaml", "secrets.yaml", "root.yaml", "authority-key.yaml")
REACHED_BY_KEY = ("resources", "components", "configurations", "crds", "transformers", "generators", "validators")


@policy
def no_orphans(repository: Repository) -> Problems:
    root = repository.root
    reached = {root / "clusters/homelab" / name for name in UNRENDERED}
    for start in ("apps", *OPTIONAL, *_paths(root)):
        _reach(root / start, reached)
    resolved = {path.resolve() for path in reached}
    for folder in ("apps", "base", "clusters", "overlays", "workflows"):
        for path in sorted((root / folder).rglob("*.yaml")):
            if path.resolve() not in resolved:
                yield str(path.relative_to(root)), "no kustomization reaches it"


def _paths(root: Path) -> list[str]:
    return [str(source["path"]) for item in applications(root) for source in origins(item) if source.get("path")]


def _reach(folder: Path, reached: set[Path]) -> None:
    file = folder / "kustomization.yaml"
    if file in reached or not file.is_file():
        return
    reached.add(file)
    (content,) = read_yaml(file)
    named = [str(item) for key in REACHED_BY_KEY for item in content.get(key) or []]
    for key in ("patches", "replacements"):
        named += [str(item["path"]) for item in content.get(key) or [] if "path" in item]
    for generator in content.get("configMapGenerator") or []:
        named += [str(item).rpartition("=")[2] for item in generator.get("files") or []]
    for name in named:
        path = (folder / name).resolve()
        if path.is_dir():
            _reach(path, reached)
        else:
            reached.add(path)


@policy
def no_list_patches(repository: Repository) -> Problems:
    """Refuses patches of lists: a strategic merge replaces a whole list inside a custom resource."""
    for path in sorted(repository.root.glob("overlays/**/*.yaml")):
        if path.name == "kustomization.yaml":
            for content in read_yaml(path):
                for patch in content.get("patches") or []:
                    file = path.parent / patch["path"] if "path" in patch else None
                    for document in read_yaml(file) if file is not None and file.is_file() else []:
                        if "argoproj.io" in str(document.get("apiVersion")) and _has_list(document.get("spec")):
                            yield (
                                str(path.relative_to(repository.root)),
                                f"{patch['path']} patches a list of {document['kind']}",
                            )


def _has_list(node: Any) -> bool:
    if isinstance(node, dict):
        return any(_has_list(value) for value in node.values())
    return isinstance(node, list)


@policy
def waves(repository: Repository) -> Problems:
    text = (repository.root / "clusters/homelab/README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (-?\d+) \|", text, flags=re.MULTILINE))
    found = {
        item["metadata"]["name"]: item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave")
        for item in applications(repository.root)
        if item["metadata"]["name"] != "homelab"
    }
    for name in sorted(table.keys() | found.keys()):
        if table.get(name) != found.get(name):
            yield (
                f"Application {name}",
                f"its wave is {found.get(name)}; clusters/homelab/README.md says {table.get(name)}",
            )


@policy
def agreement(repository: Repository) -> Problems:
    """Applications and settings name one repository and one branch."""
    from homelab_mlops.gitops.settings import load_settings

    settings = load_settings(repository.root)
    declared = applications(repository.root)
    for application in declared:
        where = f"Application {application['metadata']['name']}"
        for source in origins(application):
            for word, key, expected in (
                ("repository", "repoURL", settings.repository),
                ("branch", "targetRevision", settings.branch),
            ):
                if source.get(key) != expected:
                    yield where, f"its {word} is {source.get(key)}; clusters/homelab/settings.yaml says {expected}"
        automated = application["spec"].get("syncPolicy", {}).get("automated", {})
        if not (automated.get("prune") and automated.get("selfHeal")):
            yield where, "it does not prune and heal by itself"
        if "ServerSideApply=true" not in application["spec"].get("syncPolicy", {}).get("syncOptions", []):
            yield where, "it does not apply on the server"
        retry = application["spec"].get("syncPolicy", {}).get("retry", {})
        if not retry.get("backoff"):
            yield where, "it does not retry with back-off"
        if not retry.get("refresh"):
            yield where, "it retries the commit that failed, even after a newer one"


@policy
def projects(repository: Repository) -> Problems:
    from homelab_mlops.gitops.settings import load_settings

    address = load_settings(repository.root).repository
    (root,) = read_yaml(repository.root / ROOT_APPLICATION)
    rendered = [(item.name, item.manifests) for item in repository.rendered]
    yield from project_problems(root, rendered, address, NAMESPACES_BESIDE)


@policy
def tls(repository: Repository) -> Problems:
    """Every page has the TLS that the settings say."""
    from homelab_mlops.gitops.settings import load_settings
    from homelab_mlops.gitops.tls.pages import missing, pages

    settings = load_settings(repository.root)
    for page in pages(repository.root, settings):
        if what := missing(page, settings):
            yield identity(page.ingress), f"{what}, and tls is {settings.tls}: `homelab init --yes` writes it"


@policy
def models(repository: Repository) -> Problems:
    from homelab_mlops.model.parameters import resolve
    from homelab_mlops.model.spec import load_spec

    for folder in sorted((repository.root / "workflows/models").iterdir()):
        if not folder.is_dir():
            continue
        try:
            spec = load_spec(str(folder))
            resolve(spec.task, spec.train, {}, {})
        except HomelabError as error:
            yield f"workflows/models/{folder.name}", str(error).replace("\n", "; ")
            continue
        if spec.name != folder.name:
            yield f"workflows/models/{folder.name}", f"its model.yaml is of {spec.name!r}"
        for cron in read_yaml(folder / "cronworkflow.yaml"):
            given = {
                item["name"]: item.get("value") for item in cron["spec"]["workflowSpec"]["arguments"]["parameters"]
            }
            if given.get("model") != spec.name:
                yield identity(cron), f"it retrains {given.get('model')!r}, and lies in the folder of {spec.name!r}"


@policy
def served_models(repository: Repository) -> Problems:
    from homelab_mlops.model.promotion import LABEL, NAME

    lists = [item for _, item in repository.manifests("ConfigMap") if get(item, "metadata", "labels", NAME) == "models"]
    namespaces = {get(item, "metadata", "namespace") for item in lists}
    for namespace in ("serving", "training"):
        if namespace not in namespaces:
            yield f"namespace {namespace}", "no ConfigMap lists the models that serve"
    for _, manifest in repository.manifests("Deployment"):
        labels_of_pods = get(manifest, "spec", "template", "metadata", "labels") or {}
        file = f"{labels_of_pods.get(NAME)}.yaml"
        if LABEL in labels_of_pods:
            for item in lists:
                if file not in (item.get("data") or {}):
                    yield identity(manifest), f"{identity(item)} does not list {file}, which names its version"
