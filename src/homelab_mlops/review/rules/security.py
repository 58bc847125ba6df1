"""Containers, pods and namespaces that protect less than before."""

from __future__ import annotations

from homelab_mlops.manifests.objects import Container, entries, get, pod_specs, strings
from homelab_mlops.review.compare import Change
from homelab_mlops.review.rules.rule import Review, Said, paired, rule

_POD_SECURITY = {"privileged": 0, "baseline": 1, "restricted": 2}


_NEVER = ("privileged", "host", "add ", "runAsUser", "procMount")


@rule(
    "security-dangerous",
    "danger",
    looks_for="privileged, the host's namespaces, paths or ports, capabilities, root, a namespace that enforces less",
    reason="A fault in the program becomes a fault of the node.",
    action="Keep the restricted profile, or say in the pull request why it cannot be kept.",
)
def security_dangerous(review: Review) -> Said:
    return _security(review, strong=True)


@rule(
    "security-loosened",
    "warning",
    looks_for="a security context, token or Pod Security label that protects less than before",
    reason="A fault in the program can do more harm.",
    action="Keep the restricted profile.",
)
def security_loosened(review: Review) -> Said:
    return _security(review, strong=False)


def _security(review: Review, strong: bool) -> Said:
    for change in review.changes:
        if change.action in ("removed", "orphaned"):
            continue
        for was, now in paired(change):
            known = _weaknesses(was) if was else {}
            for key, text in _weaknesses(now).items():
                if key not in known and key.startswith(_NEVER) == strong:
                    yield f"{change.id} container {now.name}", text
        if not strong:
            yield from _service_account_token(change)
        if change.id.kind == "Namespace":
            yield from _pod_security(change, strong)


def _weaknesses(item: Container) -> dict[str, str]:
    """What this container may do, but a hardened one may not, by the setting."""
    own = item.spec.get("securityContext") or {}
    effective = {**(item.pod.get("securityContext") or {}), **own}
    found = {}
    if effective.get("runAsNonRoot") is not True:
        found["runAsNonRoot"] = "it may run as root (runAsNonRoot)"
    if effective.get("runAsUser") == 0:
        found["runAsUser"] = "it runs as root (runAsUser 0)"
    if effective.get("runAsGroup") == 0:
        found["runAsGroup"] = "it runs in the group root"
    if own.get("privileged") is True:
        found["privileged"] = "it is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        found["allowPrivilegeEscalation"] = "its processes may gain privileges (allowPrivilegeEscalation)"
    if own.get("readOnlyRootFilesystem") is not True:
        found["readOnlyRootFilesystem"] = "its root file system is writable"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in strings(capabilities.get("drop")):
        found["drop"] = "not all capabilities are dropped"
    for name in strings(capabilities.get("add")):
        found[f"add {name}"] = f"it has the capability {name}"
    profile = (effective.get("seccompProfile") or {}).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        found["seccomp"] = "its system calls are not filtered (seccompProfile)"
    if own.get("procMount") == "Unmasked":
        found["procMount"] = "/proc is unmasked"
    for key in ("appArmorProfile", "seLinuxOptions"):
        if (effective.get(key) or {}).get("type") in ("Unconfined", "spc_t"):
            found[key] = f"{key} is {(effective.get(key) or {}).get('type')}"
    for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"):
        if item.pod.get(key) is True and key != "hostUsers":
            found[key] = f"it shares the host's or its neighbours' {key.removeprefix('host')}"
    for port in entries(item.spec.get("ports")):
        if port.get("hostPort"):
            found[f"hostPort {port['hostPort']}"] = f"it takes the host's port {port['hostPort']}"
    for volume in entries(item.pod.get("volumes")):
        if "hostPath" in volume:
            path = get(volume, "hostPath", "path")
            found[f"hostPath {path}"] = f"it mounts {path} of the host"
    return found


def _service_account_token(change: Change) -> Said:
    for old, new in zip(pod_specs(change.old), pod_specs(change.new), strict=False):
        if old.get("automountServiceAccountToken") is False and new.get("automountServiceAccountToken") is not False:
            yield str(change.id), "its pods get a token of the API server"
    held_back = change.id.kind == "ServiceAccount" and change.old.get("automountServiceAccountToken") is False
    if held_back and change.new and change.new.get("automountServiceAccountToken") is not False:
        yield str(change.id), "its pods get a token of the API server"


def _pod_security(change: Change, strong: bool) -> Said:
    old, new = ((get(side, "metadata", "labels") or {}) for side in (change.old, change.new))
    for mode in ("enforce", "audit", "warn"):
        label = f"pod-security.kubernetes.io/{mode}"
        before, after = _POD_SECURITY.get(str(old.get(label)), 0), _POD_SECURITY.get(str(new.get(label)), 0)
        if change.action == "changed" and after < before and (mode == "enforce") == strong:
            yield str(change.id), f"{label}: {old.get(label)} → {new.get(label) or 'none'}"
