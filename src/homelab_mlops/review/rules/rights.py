"""Who may do more than before."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from itertools import product

from homelab_mlops.gitops.argo_cd.applications import Side, declares, load
from homelab_mlops.manifests.objects import Manifest, entries, get, strings
from homelab_mlops.review.compare import Change
from homelab_mlops.review.rules.rule import Review, Said, compact, rule

_STRONG_VERBS = {"*", "escalate", "bind", "impersonate"}


_STRONG_RESOURCES = {
    "*", "secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "serviceaccounts/token", "nodes/proxy",
    "roles", "rolebindings", "clusterroles", "clusterrolebindings", "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
}  # fmt: skip


_STRONG_ROLES = {"cluster-admin", "admin", "edit"}


Right = tuple[str, str, str, str]


def _rights(manifest: Manifest) -> set[Right]:
    found: set[Right] = set()
    for given in entries(manifest.get("rules")):
        names = strings(given.get("resourceNames")) or [""]
        found |= set(
            product(
                strings(given.get("apiGroups")), strings(given.get("resources")), strings(given.get("verbs")), names
            )
        )
        found |= {
            ("url", url, verb, "")
            for url in strings(given.get("nonResourceURLs"))
            for verb in strings(given.get("verbs"))
        }
    return found


def _covers(right: Right, other: Right) -> bool:
    parts = all(one in ("*", two) for one, two in zip(right[:3], other[:3], strict=True))
    subresource = right[1] == f"*/{other[1].partition('/')[2]}" and "/" in other[1]
    return (parts or (subresource and right[0] in ("*", other[0]) and right[2] in ("*", other[2]))) and right[3] in (
        "",
        other[3],
    )


def _new_rights(change: Change) -> list[Right]:
    before = _rights(change.old)
    return sorted(right for right in _rights(change.new) - before if not any(_covers(old, right) for old in before))


def _is_strong(right: Right) -> bool:
    writes = right[2] not in ("get", "list", "watch")
    resource = right[1]
    return (
        right[2] in _STRONG_VERBS
        or right[0] == "*"
        or (resource in _STRONG_RESOURCES and (writes or (resource in ("*", "secrets") and not right[3])))
    )


def _say_rights(rights: list[Right]) -> str:
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for api, resource, verb, name in rights:
        what = f"{resource}.{api}" if api and api != "url" else resource
        texts[what, name].append(verb)
    said = [f"{', '.join(verbs)} of {what}{f' {name}' if name else ''}" for (what, name), verbs in texts.items()]
    return "; ".join(said[:6]) + (f"; and {len(said) - 6} more" if len(said) > 6 else "")


@rule(
    "rbac-dangerous",
    "danger",
    looks_for="new rights that lead to all others: wildcards, secrets, exec, escalate, cluster-admin",
    reason="Whoever takes over the pod takes over the namespace or the cluster.",
    action="Name the exact resources and verbs that the program needs.",
)
def rbac_dangerous(review: Review) -> Said:
    return _rbac(review, strong=True)


@rule(
    "rbac-widened",
    "warning",
    looks_for="new rights of a role, or a new subject of a role",
    reason="The holder of the role may do more than before.",
    action="Check that the program needs each new right.",
)
def rbac_widened(review: Review) -> Said:
    return _rbac(review, strong=False)


def _rbac(review: Review, strong: bool) -> Said:
    for change in review.of("Role", "ClusterRole"):
        if change.action != "removed":
            new = [right for right in _new_rights(change) if _is_strong(right) == strong]
            if new:
                yield str(change.id), f"it now allows {_say_rights(new)}"
            if not strong and change.new.get("aggregationRule") not in (None, change.old.get("aggregationRule")):
                yield str(change.id), "it takes over the rights of other roles"
    for change in review.of("RoleBinding", "ClusterRoleBinding"):
        if change.action == "removed":
            continue
        role = get(change.new, "roleRef", "name")
        wide = role in _STRONG_ROLES
        before = [] if get(change.old, "roleRef") != get(change.new, "roleRef") else entries(change.old.get("subjects"))
        for subject in entries(change.new.get("subjects")):
            crowd = subject.get("kind") == "Group" and str(subject.get("name")).startswith("system:")
            if subject not in before and (wide or crowd) == strong:
                yield str(change.id), f"{subject.get('kind')} {subject.get('name')} gets {role}"


@rule(
    "project-widened",
    "warning",
    looks_for="an AppProject that admits more sources, destinations or kinds",
    reason="Applications may now deploy what the project kept out.",
    action="Name exactly what is deployed.",
)
def project_widened(review: Review) -> Said:
    keys = ("sourceRepos", "destinations", "clusterResourceWhitelist", "namespaceResourceWhitelist", "sourceNamespaces")
    for change in review.of("AppProject"):
        if change.action == "removed":
            continue
        spec, old = change.new.get("spec") or {}, change.old.get("spec") or {}
        for key in keys:
            for item in spec.get(key) or []:
                if item not in (old.get(key) or []):
                    yield str(change.id), f"{key} now has {compact(item)}"
        for key in ("clusterResourceBlacklist", "namespaceResourceBlacklist"):
            for item in old.get(key) or []:
                if item not in (spec.get(key) or []):
                    yield str(change.id), f"{key} no longer has {compact(item)}"
        if old.get("namespaceResourceWhitelist") and not spec.get("namespaceResourceWhitelist"):
            yield str(change.id), "it loses namespaceResourceWhitelist: every kind is allowed"


@rule(
    "project-opened",
    "danger",
    looks_for="an AppProject that admits kinds of the whole cluster or Argo CD's namespace, or a `default` that opens",
    reason="What an Application of the project renders can take every right in the cluster.",
    action="Admit both in the project of the platform's own Applications only, and leave `default` empty.",
)
def project_opened(review: Review) -> Said:
    for change in review.of("AppProject"):
        before, after = change.old.get("spec") or {}, change.new.get("spec") or {}
        if change.id.name == "default" and change.before is not None:
            if change.action == "removed" and not any(before.get(key) for key in _ADMITTING):
                yield str(change.id), "it leaves git, and Argo CD makes one that admits everything"
            for key in _ADMITTING:
                new = [compact(item) for item in after.get(key) or [] if item not in (before.get(key) or [])]
                if new:
                    yield str(change.id), f"it now admits {key} {'; '.join(new)}"
        elif change.action == "changed" or (change.action == "added" and _projects(review.base, change.application)):
            new = sorted(_openings(change.new) - _openings(change.old))
            if new:
                yield str(change.id), f"it now admits {', '.join(new)}"


@rule(
    "project-left",
    "danger",
    looks_for="an Application in an AppProject that git does not declare, or in one with rights in the whole cluster",
    reason="The Application may deploy what its project kept out.",
    action="Leave it in a project that names its namespaces and admits no kind of the whole cluster.",
)
def project_left(review: Review) -> Said:
    known: dict[str, dict[str, Manifest]] = {}
    for key, source in review.head.sources.items():
        cluster = key.rpartition("/")[0]
        if cluster not in known:
            known[cluster] = _projects(review.head, key)
        projects = known[cluster]
        twin = review.base.sources.get(key)
        project, before = (str(item.spec.get("project") or "default") if item else "" for item in (source, twin))
        if not projects or project == before:
            continue
        if project not in projects:
            everything = ", and Argo CD makes one that admits everything" if project == "default" else ""
            yield f"Application {key}", f"its project is {project}; git declares no such AppProject{everything}"
            continue
        rights = _openings(projects[project])
        others = [item for name, item in projects.items() if name not in (project, "default")]
        closed = [projects[before]] if before in projects else others
        if rights and any(not rights <= _openings(item) for item in closed):
            yield f"Application {key}", f"its project is {project}, which admits {', '.join(sorted(rights))}"


_ADMITTING = ("sourceRepos", "destinations", "clusterResourceWhitelist", "sourceNamespaces")


def _projects(side: Side, key: str) -> dict[str, Manifest]:
    """The AppProjects of the cluster that an Application's key names."""
    cluster = key.rpartition("/")[0]
    rendered = [
        item
        for source in side.sources.values()
        if source.key.rpartition("/")[0] == cluster
        for text in source.documents
        if "AppProject" in text
        for item in load(text)
    ]
    return {str(item["metadata"]["name"]): item for item in (*side.roots, *rendered) if declares(item, "AppProject")}


def _openings(project: Manifest) -> set[str]:
    """What leads out of an AppProject: kinds of the whole cluster but namespaces, and the namespace of Argo CD, where
    whoever may write declares Applications of every project."""
    admitted = entries(get(project, "spec", "clusterResourceWhitelist"))
    kinds = {str(item.get("kind")) for item in admitted if (item.get("group"), item.get("kind")) != ("", "Namespace")}
    namespace = str(get(project, "metadata", "namespace"))
    patterns = [str(item.get("namespace")) for item in entries(get(project, "spec", "destinations"))]
    found = {f"{kind} of the whole cluster" for kind in kinds}
    return found | {
        f"the namespace {namespace} of Argo CD" for item in patterns if fnmatch.fnmatchcase(namespace, item)
    }
