"""The one reader of the YAML files that a person writes: it checks a file strictly, and names each problem's line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from homelab_mlops.errors import HomelabError
from homelab_mlops.manifests import yaml_reader

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model], error: type[HomelabError], fix: str = "") -> Model:
    """The content of ``path``, checked by ``model``.

    Raises:
        HomelabError: of the class ``error``: the file is missing, or as `parse_model` says.
    """
    return parse_model(read_text(path, error), str(path), model, error, fix)


def read_text(path: Path, error: type[HomelabError]) -> str:
    """The text of ``path``.

    Raises:
        HomelabError: of the class ``error``: the file is missing, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise error("the file is missing", where=str(path), fix="run inside a clone of the repository") from missing
    except UnicodeDecodeError as other:
        raise error("the file is not UTF-8 text", where=str(path)) from other


def parse_model(text: str, where: str, model: type[Model], error: type[HomelabError], fix: str = "") -> Model:
    """The content of ``text``, checked by ``model``; ``where`` names the file in errors, and ``fix`` is their advice.

    Raises:
        HomelabError: of the class ``error``: the text is not YAML, repeats a key, or breaks a rule of the model.
    """
    with valid_yaml(where, error):
        content = yaml_reader.load(text)
        root = yaml_reader.compose(text)
    _refuse_repeated_keys(root, where, error)
    if not isinstance(content, dict):
        key = next(iter(_fields(model)))
        raise error(f"the content is not a mapping that begins with `{key}:`", where=f"{where}:1", fix=fix)
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        (line, what), *others = sorted(_problem(model, root, detail) for detail in invalid.errors())
        more = "".join(f"\n{where}:{number} {other}" for number, other in others)
        raise error(what + more, where=f"{where}:{line}", fix=fix) from invalid


@contextmanager
def valid_yaml(where: str, error: type[HomelabError]) -> Iterator[None]:
    """Turns a YAML error inside the block into one of the class ``error`` that names the line."""
    try:
        yield
    except yaml.MarkedYAMLError as invalid:
        line = f":{invalid.problem_mark.line + 1}" if invalid.problem_mark else ""
        raise error(f"not valid YAML: {invalid.problem}", where=f"{where}{line}") from invalid
    except yaml.YAMLError as invalid:
        raise error(f"not valid YAML: {invalid}", where=where) from invalid


def _refuse_repeated_keys(node: yaml.Node | None, where: str, error: type[HomelabError]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise error(f"the key {key.value!r} stands twice", where=f"{where}:{key.start_mark.line + 1}")
            seen.add(key.value)
            _refuse_repeated_keys(value, where, error)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, where, error)


def _problem(model: type[BaseModel], root: yaml.Node | None, detail: ErrorDetails) -> tuple[int, str]:
    """The line of one of Pydantic's errors, and its words."""
    path, missing = detail["loc"], detail["type"] == "missing"
    place = _place(root, path)
    name = ".".join([*place.location, str(path[-1])] if missing else place.location)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _keys(model, path[:-1]) - place.siblings, n=1)
        return place.line, f"unknown key {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return place.line, f"{name}: {message}" if name else message


class _Place(NamedTuple):
    line: int
    location: list[str]
    siblings: set[str]


def _place(node: yaml.Node | None, path: Sequence[str | int]) -> _Place:
    """Where one of Pydantic's locations is in the file; its parts that stand there, and the keys beside the last.

    A part that does not stand there names a member of a union, or a key that is missing.
    """
    line, location, siblings = 1, [], set[str]()
    for part in path:
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in node.value}
            siblings = set(entries)
            if str(part) in entries:
                key, node = entries[str(part)]
                line = key.start_mark.line + 1
                location.append(str(part))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            location.append(str(part))
    return _Place(line, location, siblings)


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """The keys that may stand at a location below ``model``."""
    models: set[type[BaseModel]] = {model}
    for part in path:
        fields = [_fields(one)[str(part)] for one in models if part in _fields(one)]
        models = {inner for field in fields for inner in _models(field.annotation)} or models
    return {name for one in models for name in _fields(one)}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: Any) -> set[type[BaseModel]]:
    """The models that an annotation names, in its lists, mappings and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for inner in get_args(annotation) for model in _models(inner)}
