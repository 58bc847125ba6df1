"""The checks of Argo CD's Applications: whether each can be fetched and applied, and stays in sync."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from homelab_mlops.cluster.pods import APPLICATION
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.cluster import executors, kinds, network, sealed, volumes
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.gitops import remote_code
from homelab_mlops.doctor.live import find, find_anew, live_of
from homelab_mlops.doctor.visit import Visit
from homelab_mlops.doctor.workloads import admitted, pods, schedules

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Object


@check(
    "cluster",
    "GITOPS_SYNC_FAILED",
    "GITOPS_CRD_RACED",
    "GITOPS_REPOSITORY_*",
    "GITOPS_REVISION_MISSING",
    "GITOPS_PATH_MISSING",
    after=[kinds, executors, admitted, network],
)
def applications(visit: Visit) -> Iterator[Finding]:
    """Whether Argo CD can fetch and apply each Application."""
    for app in find(visit, *APPLICATION):
        name, source = app["metadata"]["name"], app["spec"].get("source", {})
        status = app.get("status", {})
        where = f"Application {name}"
        operation = status.get("operationState", {})
        said = {condition["type"]: str(condition["message"]) for condition in reversed(status.get("conditions", []))}
        message = next(
            (said[kind] for kind in ("ComparisonError", "InvalidSpecError", "UnknownError") if kind in said), ""
        )
        trying = operation.get("phase") == "Running" and operation.get("retryCount")
        if not message and (operation.get("phase") in ("Failed", "Error") or trying):
            # Read before the condition SyncError, which only says that some resource failed.
            message = _sync_message(operation)
        if message := message or said.get("SyncError", ""):
            yield _application_finding(where, source, message)


def _sync_message(operation: dict[str, Any]) -> str:
    for resource in operation.get("syncResult", {}).get("resources", []):
        if resource.get("status") == "SyncFailed":
            return f"{resource['kind']} {resource['name']}: {resource.get('message', '')}"
    return str(operation.get("message", ""))


def _application_finding(where: str, source: dict[str, Any], message: str) -> Finding:
    said = " ".join(message.split())
    tail = said if len(said) <= 260 else f"… {said[-260:]}"
    if re.search(
        r"no matches for kind|could not find the requested resource|resource mapping not found|CRD is installed", said
    ):
        return Finding("GITOPS_CRD_RACED", where, f"{where}: {tail}")
    if re.search(r"app path does not exist", said):
        return Finding("GITOPS_PATH_MISSING", where, f"{where}: {tail}")
    fetching = re.search(r"ls-remote|list refs|fetch|clone|resolve|repo(sitory)? ?(client|not|is)|authentication", said)
    code = remote_code(said) if fetching and "kustomize" not in said else None
    if code:
        about = "revision" if code == "GITOPS_REVISION_MISSING" else "repository"
        place = f"{source.get('repoURL', '')} at {source.get('targetRevision', 'HEAD')}"
        return Finding(code, place, f"{where}: {tail}", about=about)
    return Finding("GITOPS_SYNC_FAILED", where, f"{where}: {tail}")


@check(
    "cluster",
    "GITOPS_OUT_OF_SYNC",
    after=[kinds, executors, admitted, network, sealed, schedules, volumes, pods, applications],
)
def in_sync(visit: Visit) -> Iterator[Finding]:
    """Whether each synced Application stays in sync. The check looks twice, since healing takes seconds."""
    first = {app["metadata"]["name"] for app in find(visit, *APPLICATION) if _stuck(app)}
    if not first:
        return
    time.sleep(min(2.0, visit.seconds(2.0)))
    for app in find_anew(visit, *APPLICATION):
        name = app["metadata"]["name"]
        if name in first and _stuck(app):
            differing = _differing(visit, app)
            what = (
                f"Application {name} stays OutOfSync though it was synced: {'; '.join(differing) or 'unknown fields'}"
            )
            yield Finding("GITOPS_OUT_OF_SYNC", f"Application {name}", what)


def _stuck(app: Object) -> bool:
    status = app.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    done = operation.get("phase") == "Succeeded" and operation.get("syncResult", {}).get("revision") == sync.get(
        "revision"
    )
    return sync.get("status") == "OutOfSync" and bool(done)


def _differing(visit: Visit, app: Object) -> list[str]:
    """What differs of each object that is out of sync: its fields, where the repository is here to compare with."""
    cluster = live_of(visit).cluster
    declared = _declared(visit, app)
    found = []
    for resource in app.get("status", {}).get("resources", []):
        if resource.get("status") != "OutOfSync":
            continue
        group, kind, name = resource.get("group", ""), resource["kind"], resource["name"]
        api_version = f"{group}/{resource['version']}" if group else resource["version"]
        live = cluster.get(api_version, kind, name, resource.get("namespace"))
        wanted = declared.get((kind, resource.get("namespace", ""), name))
        label = f"{kind} {name}"
        if live is None:
            found.append(f"{label} is missing")
        elif wanted is None:
            found.append(f"{label} is not in git" if declared else label)
        else:
            wanted = _as_argo_cd_applies_it(wanted, resource, live, app)
            predicted = cluster.predict(wanted)
            # A field that the API server drops is missing from the dry run too, so the manifest is compared as well.
            fields = (differences(live, predicted) if predicted else []) or unlike(live, wanted)
            found.append(f"{label} {', '.join(fields[:5])}".rstrip())
    return found


def _declared(visit: Visit, app: Object) -> dict[tuple[str, str, str], Object]:
    from homelab_mlops.errors import HomelabError
    from homelab_mlops.gitops.render import render

    path = app["spec"].get("source", {}).get("path", "")
    if visit.root is None or not (visit.root / path / "kustomization.yaml").is_file():
        return {}
    namespace = app["spec"]["destination"].get("namespace", "")
    try:
        manifests = render(visit.root / path)
    except HomelabError:
        return {}
    return {
        (item["kind"], item["metadata"].get("namespace", namespace), item["metadata"]["name"]): item
        for item in manifests
    }


def _as_argo_cd_applies_it(manifest: Object, resource: dict[str, Any], live: Object, app: Object) -> Object:
    """The manifest with what Argo CD adds to it: the namespace, and the annotations of the Application."""
    space = {"namespace": resource["namespace"]} if resource.get("namespace") else {}
    common = app["spec"].get("source", {}).get("kustomize", {}).get("commonAnnotations", {})
    has = live["metadata"].get("annotations", {})
    own = {key: has[key] for key in ("argocd.argoproj.io/tracking-id", *common) if key in has}
    notes = {**(manifest["metadata"].get("annotations") or {}), **own}
    return {**manifest, "metadata": {**manifest["metadata"], **space, **({"annotations": notes} if notes else {})}}


def differences(live: Any, wanted: Any, path: str = "") -> list[str]:
    """The paths of the fields in which two objects differ; what only the API server writes is left out."""
    if path in ("status", "metadata.managedFields", "metadata.resourceVersion", "metadata.generation"):
        return []
    if isinstance(live, dict) and isinstance(wanted, dict):
        keys = sorted(live.keys() | wanted.keys())
        return [
            found
            for key in keys
            for found in differences(live.get(key), wanted.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        pairs = enumerate(zip(live, wanted, strict=True))
        return [found for index, (a, b) in pairs for found in differences(a, b, f"{path}[{index}]")]
    return [] if live == wanted else [path]


def unlike(live: Any, wanted: Any, path: str = "") -> list[str]:
    """The paths of the declared fields that differ in the live object, which may have more fields."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        below = {f"{path}.{key}" if path else str(key): key for key, value in wanted.items() if value is not None}
        return [found for at, key in below.items() for found in unlike(live.get(key), wanted[key], at)]
    if isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        pairs = enumerate(zip(live, wanted, strict=True))
        return [found for index, (a, b) in pairs for found in unlike(a, b, f"{path}[{index}]")]
    return [] if live == wanted else [path]
