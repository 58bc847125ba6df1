"""Reads YAML as Kubernetes does, by libyaml, and makes plain values of it without PyYAML's general machinery."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

_TEXT, _MAPPING, _SEQUENCE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))
_NOT_OF_KUBERNETES = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_RESOLVERS = {
    key: [item for item in resolvers if item[0] not in _NOT_OF_KUBERNETES]
    for key, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_VALUES = {
    tag: yaml.CSafeLoader.yaml_constructors[tag]
    for tag in (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
}


class _OtherThanPlainError(Exception):
    """A merge key, an alias of a collection, a tag, or a key that is no text."""


@cache
def _tag(value: str) -> str:
    return next((tag for tag, pattern in _RESOLVERS.get(value[:1], ()) if pattern.match(value)), _TEXT)


class Loader(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does: dates and the value ``=`` stay text."""

    yaml_implicit_resolvers = _RESOLVERS

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node: PyYAML's answer, remembered."""
        if kind is yaml.ScalarNode:
            return _tag(value) if implicit[0] else _TEXT
        return _MAPPING if kind is yaml.MappingNode else _SEQUENCE

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Nothing: no tag depends on the path of a node."""

    def ascend_resolver(self) -> None:
        """Nothing, as above."""

    def construct_document(self, node: Any) -> Any:
        """The value of a document; what is not plain is left to PyYAML."""
        try:
            return self._plain(node, set())
        except (_OtherThanPlainError, RecursionError):
            return super().construct_document(node)

    def _plain(self, node: Any, known: set[Any]) -> Any:
        tag, kind = node.tag, type(node)
        if kind is yaml.ScalarNode:
            if tag == _TEXT:
                return node.value
            if tag in _VALUES:
                return _VALUES[tag](self, node)
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
