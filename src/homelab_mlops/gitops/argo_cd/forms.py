"""The forms of the fields of Argo CD's objects. The API server refuses an object with a field of another form."""

from __future__ import annotations

from typing import Any

Form = dict[str, Any] | list[Any] | type[str] | None
"""A mapping with the forms of its fields, a list with the form of its items, a text or another scalar, or anything."""

_KUSTOMIZE: Form = {
    "images": [None],
    "replicas": [{}],
    "patches": [{}],
    "components": [None],
    "commonLabels": {},
    "commonAnnotations": {},
}
_HELM: Form = {
    "valueFiles": [None],
    "parameters": [{}],
    "fileParameters": [{}],
    "apiVersions": [None],
    "valuesObject": {},
}
_ORIGIN: Form = {
    **dict.fromkeys(("repoURL", "targetRevision", "path", "chart", "ref"), str),
    "kustomize": _KUSTOMIZE,
    "helm": _HELM,
    "directory": {"jsonnet": {"libs": [None]}},
    "plugin": {},
}
_SPEC: Form = {
    "source": _ORIGIN,
    "sources": [_ORIGIN],
    "project": str,
    "destination": dict.fromkeys(("name", "server", "namespace"), str),
    "syncPolicy": {"automated": {}, "syncOptions": [None]},
    "ignoreDifferences": [{}],
}
_METADATA: Form = {"namespace": str, "labels": {}, "annotations": {}, "finalizers": [None]}
_TEMPLATE: Form = {"metadata": _METADATA, "spec": _SPEC}
_GENERATOR: dict[str, Any] = {
    "list": {"elements": [{}]},
    "git": {"directories": [{}], "files": [{}], "values": {}},
    "selector": {"matchLabels": {}},
    "template": _TEMPLATE,
}
_GENERATOR |= {
    "matrix": {"generators": [_GENERATOR]},
    "merge": {"generators": [_GENERATOR], "mergeKeys": [None]},
}
_FORMS: dict[str, Form] = {
    "Application": {"metadata": _METADATA, "spec": _SPEC},
    "ApplicationSet": {
        "metadata": _METADATA,
        "spec": {"generators": [_GENERATOR], "goTemplateOptions": [None], "template": _TEMPLATE, "syncPolicy": {}},
    },
}


def well_formed(manifest: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """An object of Argo CD without the fields of another form, and what is wrong with it; empty where nothing is."""
    wrong: list[str] = []
    found = _cleaned(manifest, _FORMS.get(str(manifest.get("kind"))), "", wrong)
    return (found, f"{wrong[0]}, which Argo CD refuses") if wrong else (manifest, "")


def _cleaned(node: Any, form: Form, where: str, wrong: list[str]) -> Any:
    if isinstance(form, dict) and isinstance(node, dict):
        fields = {
            key: _cleaned(value, form.get(key), f"{where}.{key}" if where else key, wrong)
            for key, value in node.items()
        }
        return {key: value for key, value in fields.items() if value is not None or node[key] is None}
    if isinstance(form, list) and isinstance(node, list):
        items = (_cleaned(item, form[0], f"{where}[{number}]", wrong) for number, item in enumerate(node))
        return [item for item in items if item is not None]
    if form is None or (node is None and not where.endswith("]")):
        return node
    if form is str and not isinstance(node, (dict, list)):
        return node
    wrong.append(f"{where} is no {'text' if form is str else 'mapping' if isinstance(form, dict) else 'list'}")
    return None
