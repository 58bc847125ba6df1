"""Reads and writes YAML as Kubernetes does, by libyaml; plain values are made without PyYAML's general machinery."""

from __future__ import annotations

import base64
import operator
import re
from functools import cache
from typing import Any, ClassVar

import yaml

_TEXT, _MAPPING, _SEQUENCE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))
_INTEGER, _FLOAT, _BOOLEAN, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
_NOT_OF_KUBERNETES = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", _INTEGER, _FLOAT)
# The numbers of Go's YAML: 12:30 is none, and 1e3, 0o644 and 089 are. One beyond any float stays text.
_NUMBERS = [
    (_INTEGER, re.compile(r"[-+]?(0b[01][01_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*|0[0-7_]*|[1-9][0-9_]*)$")),
    (_FLOAT, re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]{1,2})?$")),
    (_FLOAT, re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")),
]
_SHORT_BOOLEANS = (_BOOLEAN, re.compile(r"[yYnN]$"))
_RESOLVERS = {
    key: [
        *(_NUMBERS if key in [*"+-.0123456789"] else []),
        *([_SHORT_BOOLEANS] if key in [*"yYnN"] else []),
        *(item for item in resolvers if item[0] not in _NOT_OF_KUBERNETES),
    ]
    for key, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_VALUES = {tag: yaml.CSafeLoader.yaml_constructors[tag] for tag in (_INTEGER, _FLOAT, _BOOLEAN, _NULL)}
# What PyYAML raises where a value is not of its tag, such as `!!int b`.
_NOT_OF_ITS_TAG = (ValueError, KeyError, AttributeError)


class _OtherThanPlainError(Exception):
    """A merge key, an alias of a collection, a tag, a value that is not of it, or a key that is no text."""


@cache
def _tag(value: str) -> str:
    return next((tag for tag, pattern in _RESOLVERS.get(value[:1], ()) if pattern.match(value)), _TEXT)


class Loader(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does: dates, ``12:30`` and ``=`` stay text, ``1e3`` is a number, and ``y`` is true.

    A key becomes a text, and a tag that Kubernetes does not know is passed over.
    """

    yaml_implicit_resolvers = _RESOLVERS
    bool_values: ClassVar = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node: PyYAML's answer, remembered."""
        if kind is yaml.ScalarNode:
            return _tag(value) if implicit[0] else _TEXT
        return _MAPPING if kind is yaml.MappingNode else _SEQUENCE

    # Both are called for each node, and do nothing: no tag depends on the path of a node.
    descend_resolver: Any = staticmethod(operator.is_)
    ascend_resolver: Any = staticmethod(bool)

    def construct_document(self, node: Any) -> Any:
        """The value of a document; what is not plain is left to PyYAML."""
        try:
            return self._plain(node, set())
        except (_OtherThanPlainError, RecursionError):
            return super().construct_document(node)

    def construct_object(self, node: Any, deep: Any = False) -> Any:
        """The value of a node, by PyYAML.

        Raises:
            yaml.constructor.ConstructorError: it is not of the tag that stands before it.
        """
        try:
            return super().construct_object(node, deep)
        except _NOT_OF_ITS_TAG as error:
            what = f"{str(node.value)[:40]!r} is not of the tag {node.tag}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error

    def flatten_mapping(self, node: Any) -> None:
        """Merges what ``<<`` names, by PyYAML, and makes a text of each key.

        Raises:
            yaml.constructor.ConstructorError: Kubernetes has no text for a key.
        """
        super().flatten_mapping(node)
        node.value = [(self._key(key), value) for key, value in node.value]

    def _key(self, node: Any) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag == _TEXT:
            return node
        key = self.construct_object(node)
        if isinstance(key, bool):
            key = "true" if key else "false"
        elif isinstance(key, float) and key.is_integer():
            key = int(key)
        if key is None:
            raise yaml.constructor.ConstructorError(None, None, "null is no key", node.start_mark)
        return yaml.ScalarNode(_TEXT, str(key), node.start_mark, node.end_mark)

    def _plain(self, node: Any, known: set[Any]) -> Any:
        tag, kind = node.tag, type(node)
        if kind is yaml.ScalarNode:
            if tag == _TEXT:
                return node.value
            if tag in _VALUES:
                try:
                    return _VALUES[tag](self, node)
                except _NOT_OF_ITS_TAG:
                    raise _OtherThanPlainError from None
            raise _OtherThanPlainError
        if node in known or tag != (_MAPPING if kind is yaml.MappingNode else _SEQUENCE):
            raise _OtherThanPlainError
        known.add(node)
        if kind is yaml.SequenceNode:
            return [self._plain(item, known) for item in node.value]
        found = {}
        for key, value in node.value:
            if key.tag != _TEXT or type(key) is not yaml.ScalarNode:
                raise _OtherThanPlainError
            found[key.value] = self._plain(value, known)
        return found


def _bytes(_: Loader, node: Any) -> str:
    content = base64.b64decode("".join(node.value.split()), validate=True)
    return content.decode(errors="replace")


def _without_tag(loader: Loader, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    is_list = isinstance(node, yaml.SequenceNode)
    return loader.construct_sequence(node, deep=True) if is_list else loader.construct_mapping(node, deep=True)


for _name in ("timestamp", "value", "set", "omap", "pairs"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _without_tag)
Loader.add_constructor("tag:yaml.org,2002:binary", _bytes)
Loader.add_constructor(None, _without_tag)

_QUOTED = {key: [*resolvers, *yaml.CSafeDumper.yaml_implicit_resolvers[key]] for key, resolvers in _RESOLVERS.items()}


class _Dumper(yaml.CSafeDumper):
    """Puts quotes around each text that PyYAML or Kubernetes would read as something else."""

    yaml_implicit_resolvers = _QUOTED


def dump(content: Any, *, sort_keys: bool = False, width: int = 80) -> str:
    """The YAML of plain values, which Kubernetes reads as these values."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=sort_keys, width=width)
    return text
