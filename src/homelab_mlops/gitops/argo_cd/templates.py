"""The templates of ApplicationSets: Go's own with its usual functions, and the older ``{{name}}``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

# An action with `-` takes the white space beside it away.
_ACTION = re.compile(r"(?:\s*\{\{-(?=\s)|\{\{)\s*(.*?)\s*(?:(?<=\s)-\}\}\s*|\}\})", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\([^()]*\)|[^\s|]+|\|')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|/\*.*?\*/', re.DOTALL)
_WHOLE_ACTION = re.compile(r'\{\{((?:"(?:[^"\\]|\\.)*"|`[^`]*`|[^"`])*?)\}\}')
_PARAMETER = re.compile(r"(?<![\w).$])\$?((?:\.[A-Za-z_]\w*)+)")
Parameters = dict[str, Any]


class UnknownTemplateError(Exception):
    """A template that is not understood here."""


def filled(node: Any, parameters: Parameters, *, go: bool) -> Any:
    """A copy of ``node`` with the templates in its keys and texts filled in.

    Raises:
        UnknownTemplateError: a template uses what is not understood here.
    """
    if isinstance(node, dict):
        return {filled(key, parameters, go=go): filled(value, parameters, go=go) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, parameters, go=go) for value in node]
    if not isinstance(node, str) or "{{" not in node:
        return node
    return _ACTION.sub(lambda action: _text(_go(action[1], parameters) if go else _flat(action[1], parameters)), node)


def _text(value: Any) -> str:
    if value is None:
        return "<no value>"  # as Go writes it
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _flat(name: str, parameters: Parameters) -> Any:
    """The value of ``path.basename`` or ``metadata.labels.x``; a list's item is written ``path[0]``."""
    node: Any = parameters
    if name in parameters:
        return parameters[name]
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", name):
        if part.startswith("["):
            node = node[int(part[1:-1])] if isinstance(node, list) and int(part[1:-1]) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            return f"{{{{{name}}}}}"  # Argo CD leaves names that it does not know
    return node


def _go(action: str, parameters: Parameters) -> Any:
    words = _WORD.findall(action)
    value: Any = None
    for number, call in enumerate(_split(words)):
        value = _call(call, parameters, [value] if number else [])
    return value


def missing(node: Any, parameters: Parameters) -> str:
    """The first parameter that Go templates surely ask for and that is not there; empty where there is none."""
    if isinstance(node, (dict, list)):
        parts = [*node, *node.values()] if isinstance(node, dict) else node
        return next(filter(None, (missing(part, parameters) for part in parts)), "")
    names = _asked(node) if isinstance(node, str) and "{{" in node else []
    return next((name for name in names if not _is_there(name, parameters)), "")


def _asked(text: str) -> Iterator[str]:
    """The parameters that a template asks for whatever their values are: those outside of its blocks."""
    depth = 0
    for match in _WHOLE_ACTION.finditer(text):
        action = _QUOTED.sub('""', match[1]).strip(" \t\r\n-")
        word = action.split(maxsplit=1)[0] if action else ""
        depth -= word == "end"
        # The operands of `and` and `or` are read only until the answer is known.
        if depth == 0 and word != "else" and not re.search(r"\b(and|or)\b", action):
            yield from _PARAMETER.findall(action)
        depth += word in ("if", "with", "range", "define", "block")


def _is_there(name: str, parameters: Parameters) -> bool:
    node: Any = parameters
    for part in name.strip(".").split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _split(words: list[str]) -> list[list[str]]:
    calls: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls


def _call(words: list[str], parameters: Parameters, piped: list[Any]) -> Any:
    if not words:
        raise UnknownTemplateError("an empty template")
    if len(words) == 1 and not piped and words[0] not in _FUNCTIONS:
        return _operand(words[0], parameters)
    function = _FUNCTIONS.get(words[0])
    if function is None:
        raise UnknownTemplateError(f"the template function {words[0]!r}")
    try:
        return function(*(_operand(word, parameters) for word in words[1:]), *piped)
    except (TypeError, IndexError, KeyError, ValueError) as error:
        raise UnknownTemplateError(f"the template {' '.join(words)!r}") from error


def _operand(word: str, parameters: Parameters) -> Any:
    if word.startswith('"'):
        try:
            return json.loads(word)
        except ValueError as error:
            raise UnknownTemplateError(f"the template {word!r}") from error
    if word.startswith("`"):
        return word[1:-1]
    if word.startswith("("):
        return _go(word[1:-1], parameters)
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word in ("true", "false"):
        return word == "true"
    if not re.fullmatch(r"\$?\.[\w.]*", word):
        raise UnknownTemplateError(f"the template {word!r}")
    node: Any = parameters
    for part in filter(None, word.lstrip("$").split(".")):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _index(node: Any, *keys: Any) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else node[key]
    return node


def _normalize(text: Any) -> str:
    return re.sub(r"[^a-z0-9.-]", "-", str(text).lower())[:253].strip("-.")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "index": _index,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "trim": lambda text: str(text).strip(),
    "quote": lambda text: json.dumps(str(text)),
    "toString": str,
    "normalize": _normalize,
    "replace": lambda old, new, text: str(text).replace(old, new),
    "trimPrefix": lambda prefix, text: str(text).removeprefix(prefix),
    "trimSuffix": lambda suffix, text: str(text).removesuffix(suffix),
    "default": lambda fallback, value=None: value or fallback,
    "printf": lambda form, *values: re.sub("%[vsd]", "%s", form) % values,
    "join": lambda separator, items: separator.join(map(str, items)),
    "splitList": lambda separator, text: str(text).split(separator),
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
    "toJson": lambda value: json.dumps(value),
}
