"""Matches the objects of two sides by identity, and lists what differs, field by field."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import yaml

from homelab_mlops.gitops.argo_cd.applications import HERE, NAMESPACE, Side, Source, load
from homelab_mlops.gitops.render import ARGO_CD, parse
from homelab_mlops.manifests.objects import CLUSTER_SCOPED, Manifest, get, group, is_built_in
from homelab_mlops.manifests.quantities import Requests, quantity, sum_requests
from homelab_mlops.model.unquoted import with_quotes
from homelab_mlops.review.masking import (
    HIDDEN,
    is_reference,
    is_secret_name,
    mask,
    mask_text,
    masked_object,
    names_secret,
)
from homelab_mlops.review.normalise import (
    HASHED,
    KEYED,
    ORDER_MATTERS,
    SETS,
    generated_hash,
    is_quantity,
    normalise,
)

Action = Literal["added", "removed", "changed", "orphaned"]
Path = tuple[str, ...]
MISSING = object()
# Beyond this many pairs of lines a text is compared as two sets of lines.
MOST_COMPARISONS = 250_000
# Kinds whose lists are known by their names; in any other kind the order of a list counts.
_KNOWN_GROUPS = ("argoproj.io", "bitnami.com")


class Identity(NamedTuple):
    """The identity of an object for the API server, whatever version of its API the manifest names."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class FieldChange:
    """One field; ``before`` and ``after`` are raw; ``shown`` is safe to print."""

    path: Path
    before: Any
    after: Any
    shown: tuple[Any, Any]
    note: str = ""

    @property
    def where(self) -> str:
        """The path as people write it."""
        text = ""
        for part in self.path:
            part = part if _plain(part) else _masked_part(part)
            text += part if part.startswith("[") else f"{'.' if text else ''}{part}" if _plain(part) else f"[{part!r}]"
        return text


def _masked_part(part: str) -> str:
    """A key or the name of a list's entry; a name may go on with a value."""
    return f"[{mask_text(f'name: {part[1:-1]}')[6:]}]" if part.startswith("[") else mask_text(part)


_PLAIN = re.compile(r"[\w/()-]+")


def _plain(part: str) -> bool:
    return _PLAIN.fullmatch(part) is not None


@dataclass
class Object:
    """An object at one side."""

    id: Identity
    application: str
    raw: Manifest
    normal: Manifest


@dataclass
class Change:
    """An object that differs between the sides."""

    action: Action
    id: Identity
    application: str
    before: Object | None
    after: Object | None
    fields: list[FieldChange] = field(default_factory=list)
    why: str = ""

    @property
    def old(self) -> Manifest:
        """The object before, normalised; empty where there was none."""
        return self.before.normal if self.before else {}

    @property
    def new(self) -> Manifest:
        """The object after, normalised; empty where there is none."""
        return self.after.normal if self.after else {}

    @property
    def manifest(self) -> Manifest:
        """The object, after the change where it is still there."""
        return self.new or self.old


@dataclass
class Inventory:
    """The objects of one side that a comparison has read; ``rest`` are texts that both sides share."""

    side: Side
    objects: list[Object]


def compare(base: Side, head: Side) -> tuple[list[Change], Inventory, Inventory]:
    """Every object that changes, in the order of Applications and objects."""
    names = [*head.sources, *(name for name in base.sources if name not in head.sources)]
    texts = {
        side: {name: source.documents for name, source in both.sources.items()}
        for side, both in enumerate((base, head))
    }
    pairs: tuple[list[tuple[Source, str]], list[tuple[Source, str]]] = ([], [])
    for name in names:
        counted = [Counter(texts[side].get(name, [])) for side in (0, 1)]
        same_place = (
            name in base.sources
            and name in head.sources
            and base.sources[name].namespace == head.sources[name].namespace
            and not base.sources[name].leaves_cluster(head.sources[name])
        )
        for index, side in enumerate((base, head)):
            if name in side.sources:
                left = counted[index] - counted[1 - index] if same_place else counted[index]
                for text in side.sources[name].documents:
                    if left[text] > 0:
                        left[text] -= 1
                        pairs[index].append((side.sources[name], text))
    scoped = _cluster_scoped(base, head)
    inventories = Inventory(base, _objects(pairs[0], scoped)), Inventory(head, _objects(pairs[1], scoped))
    for index, side in enumerate((base, head)):
        inventories[index].objects.extend(_root_objects(side, scoped))
        inventories[index].objects.extend(_generated_objects(side, (head, base)[index], scoped))
    _name_generated(*(item.objects for item in inventories))
    return list(_changes(base, head, *inventories)), *inventories


def everything(side: Side, other: Side, mark: re.Pattern[str]) -> list[Object]:
    """All objects of a side whose text has the mark; no others are parsed."""
    scoped = _cluster_scoped(side, other)
    sources = side.sources.values()
    return _objects([(source, text) for source in sources for text in source.documents if mark.search(text)], scoped)


_REQUESTING = re.compile(r"\b(requests|limits):|^kind: (Cluster)?WorkflowTemplate$", re.MULTILINE)


def request_sums(side: Side, other: Side) -> Requests:
    """The requests of all Applications of a side except Argo CD."""
    found = everything(side, other, _REQUESTING)
    return sum_requests(item.normal for item in found if item.application != ARGO_CD)


_Scoped = frozenset[tuple[str, str]]


def _cluster_scoped(*sides: Side) -> _Scoped:
    found = {("", kind) for kind in CLUSTER_SCOPED if kind in ("Namespace", "Node", "PersistentVolume")}
    for side in sides:
        for source in side.sources.values():
            for text in source.documents:
                if "kind: CustomResourceDefinition\n" in text and "scope: Cluster" in text:
                    for item in load(text):
                        spec = item.get("spec") or {}
                        found.add((str(spec.get("group")), str((spec.get("names") or {}).get("kind"))))
    return frozenset(found)


def _objects(texts: list[tuple[Source, str]], scoped: _Scoped) -> list[Object]:
    return [
        _named(source.key, item, normal)
        for source, text in texts
        for item, normal in _with_normal(text, source.namespace, scoped)
    ]


@cache
def _with_normal(text: str, namespace: str, scoped: _Scoped) -> list[tuple[Manifest, Manifest]]:
    """The objects of a text, each as it is and normalised. The caller must not change them."""
    return [(item, _normalised(item, namespace, scoped)) for item in load(text)]


def _normalised(item: Manifest, namespace: str, scoped: _Scoped) -> Manifest:
    try:
        return normalise(item, namespace, scoped)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A field of a form that Kubernetes refuses: no default is filled in, and every difference is shown.
        own = item["metadata"] if isinstance(item.get("metadata"), dict) else {}
        return {**item, "metadata": {"namespace": namespace, **own}}


def _object(application: str, item: Manifest, namespace: str, scoped: _Scoped) -> Object:
    return _named(application, item, _normalised(item, namespace, scoped))


def _named(application: str, item: Manifest, normal: Manifest) -> Object:
    metadata = normal["metadata"]
    name = str(metadata.get("name") or metadata.get("generateName") or "")
    return Object(
        Identity(group(item), str(item["kind"]), str(metadata.get("namespace", "")), name), application, item, normal
    )


BOOTSTRAP = "homelab bootstrap"
GENERATED = "ApplicationSet "


def _root_objects(side: Side, scoped: _Scoped) -> list[Object]:
    """The root Applications themselves. A person applies them, and chooses the namespace where they name none."""
    return [_object(BOOTSTRAP, json.loads(json.dumps(item)), "", scoped) for item in side.roots]


def _generated_objects(side: Side, other: Side, scoped: _Scoped) -> list[Object]:
    """The Applications that an ApplicationSet makes of its parameters at both sides."""
    sources = [item for key, item in side.sources.items() if item.generator and key in other.sources]
    return [
        _object(f"{GENERATED}{item.generator}", json.loads(json.dumps(item.application)), NAMESPACE, scoped)
        for item in sources
        if other.sources[item.key].generator == item.generator
    ]


def _name_generated(*sides: list[Object]) -> None:
    """Gives a generated object its declared name, and its references the digest of its content.

    Where an object of that name is declared at a side, both stay apart.
    """
    taken = {item.id for objects in sides for item in objects}
    for objects in sides:
        stems: dict[Identity, list[Object]] = defaultdict(list)
        for item in objects:
            match = HASHED.match(item.id.name)
            if match and item.id.kind in ("ConfigMap", "Secret") and generated_hash(item.raw) == match[2]:
                stems[item.id._replace(name=match[1])].append(item)
        renamed: dict[str, dict[str, str]] = defaultdict(dict)
        for stem, items in stems.items():
            if len(items) == 1 and stem not in taken:
                item = items[0]
                renamed[item.id.namespace][item.id.name] = f"{stem.name} (content {item.id.name[-10:]})"
                item.id = stem
                item.normal = {**item.normal, "metadata": {**item.normal["metadata"], "name": stem.name}}
        for item in objects:
            names = renamed.get(item.id.namespace, {})
            text = repr(item.normal) if names else ""
            if any(name in text for name in names):
                item.normal = _renamed(item.normal, names)


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _renamed(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names) for value in node]
    return names.get(node, node) if isinstance(node, str) else node


def _changes(base: Side, head: Side, before: Inventory, after: Inventory) -> Iterator[Change]:
    old, new = list(before.objects), list(after.objects)
    pairs: list[tuple[Object | None, Object | None]] = []
    moving = {name for name, item in base.sources.items() if _leaves_cluster(item, head)}
    for key in (
        lambda side, item: (item.application, item.id, side is base and item.application in moving),
        lambda side, item: (
            side.sources[item.application].cluster if item.application in side.sources else HERE,
            item.id,
        ),
    ):
        waiting: dict[Any, list[Object]] = defaultdict(list)
        for item in old:
            waiting[key(base, item)].append(item)
        left = []
        for item in new:
            found = waiting.get(key(head, item))
            if found:
                pairs.append((found.pop(0), item))
            else:
                left.append(item)
        new, old = left, [item for items in waiting.values() for item in items]
    pairs += [(None, item) for item in new] + [(item, None) for item in old]
    order = {name: number for number, name in enumerate([BOOTSTRAP, *head.sources, *base.sources])}
    found_changes = []
    for was, now in pairs:
        change = _change(was, now, base, head)
        if change is not None:
            found_changes.append(change)
    yield from sorted(found_changes, key=lambda change: (order.get(change.application, 0), change.id.kind, change.id))


def _leaves_cluster(source: Source, head: Side) -> bool:
    return source.key in head.sources and source.leaves_cluster(head.sources[source.key])


def _change(was: Object | None, now: Object | None, base: Side, head: Side) -> Change | None:
    if was and now:
        fields = list(differences(was.normal, now.normal))
        if was.application != now.application:
            shown = (was.application, now.application)
            fields.insert(0, FieldChange(("(Application)",), *shown, shown, "moved"))
        return Change("changed", now.id, now.application, was, now, fields) if fields else None
    if was is None:
        return Change("added", now.id, now.application, None, now) if now else None
    why = _why_it_stays(was, base, head)
    return Change("orphaned" if why else "removed", was.id, was.application, was, None, why=why)


def _why_it_stays(was: Object, base: Side, head: Side) -> str:
    """Why an object that is no longer in git stays in the cluster; empty where it is deleted."""
    options = sync_options(was.normal)
    if was.application.startswith(GENERATED):
        return ""
    if was.application == BOOTSTRAP:
        return "nothing deletes it: it was applied by `homelab bootstrap`"
    if "Prune=false" in options or "Prune=confirm" in options:
        return "its annotation says Prune=false"
    if get(was.normal, "metadata", "annotations", "argocd.argoproj.io/hook"):
        return "it was a hook, which Argo CD does not prune"
    source = head.sources.get(was.application)
    if source is None:
        gone = base.sources[was.application]
        if not gone.cascades:
            return f"its Application {was.application} goes without a finalizer, and leaves it behind"
        return "its annotation says Delete=false" if "Delete=false" in options else ""
    if _leaves_cluster(base.sources[was.application], head):
        return f"its Application {was.application} goes to another cluster, and deletes nothing on the old one"
    return "" if source.prunes else f"its Application {was.application} does not prune"


def sync_options(manifest: Manifest) -> set[str]:
    """The sync options that an object's annotation gives."""
    options = get(manifest, "metadata", "annotations", "argocd.argoproj.io/sync-options") or ""
    return {part.strip() for part in str(options).split(",") if part.strip()}


def differences(before: Manifest, after: Manifest) -> Iterator[FieldChange]:
    """What differs between two normalised objects."""
    kind = str(after.get("kind") or before.get("kind"))
    yield from _Differ(kind, is_built_in(after) or group(after) in _KNOWN_GROUPS).walk((), before, after)


class _Differ:
    def __init__(self, kind: str, known: bool) -> None:
        self.kind = kind
        self.known = known

    def walk(self, path: Path, before: Any, after: Any) -> Iterator[FieldChange]:
        # Python takes 1, 1.0 and True for equal; their texts differ.
        if type(before) is type(after) and before == after and repr(before) == repr(after):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            for key in [*before, *(key for key in after if key not in before)]:
                inner = self.walk((*path, key), before.get(key, MISSING), after.get(key, MISSING))
                is_secret = key == "value" and (names_secret(before) or names_secret(after))
                yield from map(_hidden, inner) if is_secret else inner
        elif isinstance(before, list) and isinstance(after, list):
            yield from self.lists(path, before, after)
        elif not self.equal(path, before, after):
            if self.kind == "ConfigMap" and len(path) == 2 and path[0] in ("data", "binaryData"):
                yield from self.text(path, before, after)
            else:
                yield self.field(path, before, after)

    def equal(self, path: Path, before: Any, after: Any) -> bool:
        if isinstance(before, dict) or isinstance(after, dict) or isinstance(before, list) or isinstance(after, list):
            return False
        if before is MISSING or after is MISSING:
            return False
        if type(before) is type(after) and before == after:
            return True
        if self.known and self.kind not in ("ConfigMap", "Secret") and is_quantity(path):
            one, other = quantity(before), quantity(after)
            return one is not None and one == other
        return False

    def field(self, path: Path, before: Any, after: Any, note: str = "") -> FieldChange:
        secret = self.kind == "Secret" and path[0] in ("data", "stringData")
        sealed = self.kind == "SealedSecret" and path[:2] == ("spec", "encryptedData")
        named = len(path) > 1 and path[-1] == "value" and path[-2].startswith("[") and is_secret_name(path[-2][1:-1])
        if sealed:
            return FieldChange(path, before, after, _words(before, after, "(sealed)"), note or "sealed anew")
        shown = []
        for value in (before, after):
            if value is MISSING:
                shown.append(MISSING)
            else:
                hide = secret or (named and not is_reference(value))
                # The path of a set's item ends with the item itself, which is no name of a value there.
                names = tuple(part.strip("[]") for part in path if part != f"[{value}]")
                shown.append(mask(value, names, secret=hide))
        if shown[0] == shown[1] and type(shown[0]) is type(shown[1]) and shown[0] is not MISSING:
            note = note or "another value"
        return FieldChange(path, before, after, (shown[0], shown[1]), note or _unseen(*shown))

    def lists(self, path: Path, before: list[Any], after: list[Any]) -> Iterator[FieldChange]:
        name = path[-1]
        keys = KEYED.get(name) or self.rule_keys(path)
        scalars = not any(isinstance(item, (dict, list)) for item in [*before, *after])
        if keys is not None and self.known:
            one, other = self.keyed(before, keys), self.keyed(after, keys)
            if one is not None and other is not None and not (name == "env" and "$(" in json.dumps([before, after])):
                yield from self.matched(path, one, other)
                common = [key for key in one if key in other]
                if name in ORDER_MATTERS and common != [key for key in other if key in one]:
                    yield self.field((*path, "(order)"), list(one), list(other), "order")
                return
        if self.known and (name in SETS or self.is_schema_set(path)):
            yield from self.sets(path, before, after)
            return
        if not self.known and keys is None and not scalars:
            keys = ("name",)
        if keys is not None:
            one, other = self.keyed(before, keys), self.keyed(after, keys)
            if one is not None and other is not None:
                yield from self.matched(path, one, other)
                if [key for key in one if key in other] != [key for key in other if key in one]:
                    yield self.field((*path, "(order)"), list(one), list(other), "order")
                return
        if scalars:
            if not (
                len(before) == len(after) and all(self.equal(path, a, b) for a, b in zip(before, after, strict=True))
            ):
                yield self.field(path, before, after)
            return
        for index in range(max(len(before), len(after))):
            values = (items[index] if index < len(items) else MISSING for items in (before, after))
            yield from self.walk((*path, f"[{index}]"), *values)

    def rule_keys(self, path: Path) -> tuple[str, ...] | None:
        if path[-1] == "ports":
            if self.kind == "Service":
                return ("port", "protocol")
            return ("containerPort", "protocol") if self.kind != "NetworkPolicy" else None
        return None

    def is_schema_set(self, path: Path) -> bool:
        name = path[-1]
        if self.kind in ("Role", "ClusterRole") and path == ("rules",):
            return True
        if self.kind == "NetworkPolicy" and name == "ports":
            return True
        if self.kind == "Ingress" and path == ("spec", "rules"):
            return True
        if self.kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration") and name == "rules":
            return True
        if self.kind == "CustomResourceDefinition" and name in ("required", "enum"):
            return "openAPIV3Schema" in path
        return name == "values" and any("matchExpressions" in part or "Expression" in part for part in path)

    @staticmethod
    def keyed(items: list[Any], keys: tuple[str, ...]) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for item in items:
            if not isinstance(item, dict):
                return None
            if keys == ("metadata",):
                parts = [str((item.get("metadata") or {}).get("name", ""))]
            elif keys[0] not in item:
                return None
            else:
                parts = [str(item[key]) for key in keys if key in item]
            name = "/".join(part for part in parts if part != "TCP")
            if name in found:
                return None
            found[name] = item
        return found

    def matched(self, path: Path, before: dict[str, Any], after: dict[str, Any]) -> Iterator[FieldChange]:
        for key in [*before, *(key for key in after if key not in before)]:
            yield from self.walk((*path, f"[{key}]"), before.get(key, MISSING), after.get(key, MISSING))

    def sets(self, path: Path, before: list[Any], after: list[Any]) -> Iterator[FieldChange]:
        """Equal entries cancel out, in any order. Where one is left at each side, the one changed into the other."""
        rest = list(after)
        gone = []
        for item in before:
            for index, other in enumerate(rest):
                if type(item) is type(other) and not any(self.walk((*path, "[]"), item, other)):
                    del rest[index]
                    break
            else:
                gone.append(item)
        if len(gone) == len(rest) == 1 and isinstance(gone[0], dict) and isinstance(rest[0], dict):
            yield from self.walk((*path, f"[{_label(gone[0], before.index(gone[0]))}]"), gone[0], rest[0])
            return
        for item in gone:
            yield self.field((*path, f"[{_label(item, before.index(item))}]"), item, MISSING)
        for item in rest:
            yield self.field((*path, f"[{_label(item, after.index(item))}]"), MISSING, item)

    def text(self, path: Path, before: Any, after: Any) -> Iterator[FieldChange]:
        """The differences in a text of a ConfigMap: fields of a document, or lines."""
        is_model = path[-1].endswith("model.yaml")
        if isinstance(before, str) and isinstance(after, str):
            one, other = (_document(with_quotes(text) if is_model else text) for text in (before, after))
            is_document = isinstance(one, (dict, list)) and type(one) is type(other)
            if is_document:
                inner = list(_Differ("", False).walk(path, one, other))
                # Python takes 1, 1.0 and True for equal; this comparison does not.
                if inner:
                    yield from _as_in_text(inner, before, after)
                    return
                if _scalars(before) == _scalars(after):
                    yield self.field(path, "before", "after", "the same values; comments or layout differ")
                    return
            if is_document or "\n" in before.strip() or "\n" in after.strip():
                name = path[-1]
                if is_secret_name(name):
                    yield FieldChange(path, before, after, (HIDDEN, HIDDEN), "another value")
                    return
                if before.splitlines() == after.splitlines():
                    yield self.field(path, "before", "after", "the same lines; their ends differ")
                    return
                lines = _lines(mask_text(before), mask_text(after))
                shown = lines or (HIDDEN, HIDDEN)
                yield FieldChange(path, before, after, shown, "lines" if lines else "another value")
                return
        yield self.field(path, before, after)


def _unseen(before: Any, after: Any) -> str:
    """What tells two values apart that look alike; empty where they look different."""
    if before is MISSING or after is MISSING:
        return ""
    if isinstance(before, str) and isinstance(after, str):
        return "white space differs" if before != after and before.split() == after.split() else ""
    texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in (before, after)]
    return f"{_kind_of(before)} → {_kind_of(after)}" if texts[0] == texts[1] else ""


def _kind_of(value: Any) -> str:
    kinds = ((bool, "boolean"), (str, "text"), ((int, float), "number"), (list, "list"), (dict, "mapping"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _scalars(text: str) -> list[str]:
    """The values of a YAML text as they are written, whatever they mean."""
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    return sorted(event.value for event in events if isinstance(event, yaml.ScalarEvent))


def _hidden(change: FieldChange) -> FieldChange:
    shown = (MISSING if change.before is MISSING else HIDDEN, MISSING if change.after is MISSING else HIDDEN)
    return replace(change, shown=shown, note=change.note or "another value")


def _as_in_text(changes: list[FieldChange], *texts: str) -> Iterator[FieldChange]:
    """The fields of a document, those hidden that the text as a whole does not show."""
    hiding = [(text, masked) for text in texts if (masked := mask_text(text)) != text]
    for change in changes:
        values = [value for value in (change.before, change.after) if isinstance(value, str) and len(value) > 2]
        is_hidden = any(value in text and value not in masked for value in values for text, masked in hiding)
        yield _hidden(change) if is_hidden else change


def _words(before: Any, after: Any, word: str) -> tuple[Any, Any]:
    return (MISSING if before is MISSING else word, MISSING if after is MISSING else word)


def _label(item: Any, index: int) -> str:
    if isinstance(item, dict):
        for key in ("name", "key", "kind", "host", "type", "resource", "port"):
            if isinstance(item.get(key), (str, int)):
                return str(item[key])
        return str(index)
    return str(mask_text(str(item)))[:60]


def _document(text: str) -> Any:
    try:
        documents = parse(text)
    except yaml.YAMLError:
        return None
    return documents[0] if len(documents) == 1 else None


def _common(one: list[str], other: list[str]) -> int:
    """How many first lines both share."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (line, twin) in enumerate(pairs) if line != twin), min(len(one), len(other)))


def _lines(before: str, after: str) -> tuple[str, str] | None:
    """The lines that differ, of each side."""
    one, other = before.splitlines(), after.splitlines()
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    one, other = one[start : len(one) - end], other[start : len(other) - end]
    if len(one) * len(other) > MOST_COMPARISONS:
        known, new = set(one), set(other)
        gone, come = [line for line in one if line not in new], [line for line in other if line not in known]
    else:
        gone, come = [], []
        for tag, first, last, begin, until in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
            if tag != "equal":
                gone += one[first:last]
                come += other[begin:until]
    return ("\n".join(gone), "\n".join(come)) if gone or come else None


def digest(value: Any) -> str:
    """A short name of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def shown_object(item: Object) -> str:
    """An object as YAML, credentials hidden."""
    return yaml.dump(masked_object(item.raw), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
