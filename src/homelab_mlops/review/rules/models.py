"""Models: which version serves, and what the next training changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from homelab_mlops.manifests.objects import get
from homelab_mlops.model.promotion import ANNOTATION, LABEL, NONE_YET, Named
from homelab_mlops.model.tasks import LOWER_IS_BETTER
from homelab_mlops.review.compare import MISSING, Change
from homelab_mlops.review.promotions import metrics_of
from homelab_mlops.review.rules.rule import Review, Said, rule, say

_MODEL_KEY = re.compile(r"^(model[._-]?)?version$", re.IGNORECASE)


_GATE_METRIC = re.compile(r"(?<!\w)metric['\"]?:\s*['\"]?(\w+)")
_MODEL_URI = re.compile(r"models:/([^/@\s]+)[/@]([^/\s]+)")


@rule(
    "model-version",
    "note",
    looks_for="another version of a model in service",
    reason="Predictions change.",
    action="Compare the metrics of both versions.",
)
def model_version(review: Review) -> Said:
    for change, model, before, after in model_versions(review):
        old, new = (metrics_of(side, model, version) for side, version in ((review.base, before), (review.head, after)))
        yield str(change.id), f"{model} {before} ({old}) → {model} {after} ({new})"


@rule(
    "model-older",
    "warning",
    looks_for="an older version of a model",
    reason="The change rolls the model back.",
    action="Check that it is meant.",
)
def model_older(review: Review) -> Said:
    for change, model, before, after in model_versions(review):
        if before.isdigit() and after.isdigit() and int(after) < int(before):
            yield str(change.id), f"{model}: {before} → {after}"


@rule(
    "model-bytes",
    "danger",
    looks_for="other files of a model for the same version",
    reason="A version does not change once it is registered: somebody wrote over its files.",
    action="Look who wrote there, and promote another version.",
)
def model_bytes(review: Review) -> Said:
    for change, before, after in _pins(review):
        if before.sha256 and after.sha256 not in ("", before.sha256) and after.version == before.version:
            what = f"version {after.version} stays, sha256 {before.sha256[:12]} → {after.sha256[:12]}"
            yield str(change.id), f"{change.id.name}: {what}"


@rule(
    "model-unpinned",
    "warning",
    looks_for="a version of a model whose files git does not name, or names as those of another version",
    reason="Any files, or none, serve as that version.",
    action="`homelab promote MODEL VERSION` writes both.",
)
def model_unpinned(review: Review) -> Said:
    for change, before, after in _pins(review):
        if after.version == NONE_YET:
            continue
        if not after.sha256:
            yield str(change.id), f"{change.id.name} {after.version} has no sha256"
        elif after.sha256 == before.sha256 and after.version != before.version:
            same = f"{change.id.name}: {before.version} → {after.version}"
            yield str(change.id), f"{same}, and sha256 {after.sha256[:12]} stays"


@rule(
    "hyperparameters",
    "note",
    looks_for="other training parameters",
    reason="The next training produces another model, and the gate decides about it.",
    action="Nothing to do. `homelab run MODEL` trains now.",
)
def hyperparameters(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "train"):
        yield str(change.id), f"{name}: {say(before)} → {say(after)}"


@rule(
    "model-data",
    "warning",
    looks_for="another source, target, feature, split or task of a model",
    reason="Old and new versions are no longer measured on the same rows.",
    action="Check that the champion can still be compared.",
)
def model_data(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "data", "inputs", "features", "target", "split", "task"):
        yield str(change.id), f"{name}: {say(before)} → {say(after)}"


@rule(
    "gate-loosened",
    "warning",
    looks_for="a gate that admits more, measures something else, or another way of promotion",
    reason="A worse model may reach production.",
    action="Say why in the pull request.",
)
def gate_loosened(review: Review) -> Said:
    for change, name, before, after in _spec_fields(review, "gate", "promotion"):
        if not _tightens(name, before, after, lower=_lower_is_better(change)):
            yield str(change.id), f"{name}: {say(before)} → {say(after)}"


def _tightens(name: str, before: Any, after: Any, *, lower: bool) -> bool:
    """Whether a gate with ``after`` surely admits less than one with ``before``."""
    if name == "gate.slices" or name.startswith("gate.slices."):
        return before is MISSING
    if not all(isinstance(value, (int, float)) for value in (before, after)):
        return False
    match name:
        case "gate.margin" | "gate.confidence":
            return bool(after > before)
        case "gate.slice_margin":
            return bool(after < before)
        case "gate.floor":
            return bool(after < before if lower else after > before)
    return False


def _lower_is_better(change: Change) -> bool:
    """Whether the gate's metric in a ConfigMap with a model.yaml is one of which less is better."""
    text = str(get(change.new, "data") or {})
    match = _GATE_METRIC.search(text)
    return match is not None and match[1] in LOWER_IS_BETTER


def model_versions(review: Review) -> Iterator[tuple[Change, str, str, str]]:
    """Each model whose version changes: the change, the model, the version before and after."""
    for change in review.changes:
        if change.action != "changed":
            continue
        for item in change.fields:
            before, after = str(item.before), str(item.after)
            uris = _MODEL_URI.search(before), _MODEL_URI.search(after)
            if uris[0] and uris[1]:
                yield change, uris[1][1], uris[0][2], uris[1][2]
            elif _is_model_version(change, item.path) and MISSING not in (item.before, item.after):
                yield change, _model_name(change, item.path), before, after


def _pins(review: Review) -> Iterator[tuple[Change, Named, Named]]:
    """Each Deployment whose model's version or files change: what it names before and after."""
    for change in review.of("Deployment"):
        before, after = (_pin(item) for item in (change.old, change.new))
        if before != after and after.version:
            yield change, before, after


def _pin(manifest: Any) -> Named:
    metadata = get(manifest, "spec", "template", "metadata") or {}
    labels, annotations = (metadata.get(key) or {} for key in ("labels", "annotations"))
    version = str(labels.get(LABEL, ""))
    return Named(version, "" if version == NONE_YET else str(annotations.get(ANNOTATION) or ""))


def _is_model_version(change: Change, path: tuple[str, ...]) -> bool:
    last = path[-1].strip("[]") if path[-1] != "value" else path[-2].strip("[]") if len(path) > 1 else ""
    if last.startswith(("app.kubernetes.io/", "helm.sh/")):
        return False
    last = last.rpartition("/")[2]
    if change.id.kind == "CustomResourceDefinition" or not _MODEL_KEY.match(last):
        return False
    text = " ".join((*path, change.id.name, *(get(change.new, "metadata", "labels") or {}))).lower()
    return "model" in text or "serving" in text or "serving" in (change.id.namespace, change.application)


def _model_name(change: Change, path: tuple[str, ...]) -> str:
    for key in ("name", "model"):
        for part in path:
            if part.endswith((".yaml", ".json")):
                content = (change.new.get("data") or {}).get(part)
                match = re.search(rf"^\s*[\"']?{key}[\"']?:\s*[\"']?([\w.-]+)", str(content), re.MULTILINE)
                if match:
                    return match[1]
    labels = get(change.new, "metadata", "labels") or {}
    for name in ("homelab-mlops/model", "app.kubernetes.io/instance"):
        if name in labels:
            return str(labels[name])
    return change.id.name.removeprefix("model-")


def _spec_fields(review: Review, *parts: str) -> Iterator[tuple[Change, str, Any, Any]]:
    """The changes inside a model.yaml, by its top-level keys."""
    for change in review.of("ConfigMap"):
        for item in change.fields:
            if (
                len(item.path) > 2
                and item.path[0] == "data"
                and item.path[1].endswith("model.yaml")
                and item.path[2] in parts
            ):
                name = ".".join(item.path[2:])
                yield change, name, item.before, item.after
