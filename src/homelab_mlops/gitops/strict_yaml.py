"""Reads a declared YAML file into its Pydantic model; what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from homelab_mlops.errors import RepositoryError

Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model]) -> Model:
    """The content of ``path``, checked by ``model``.

    Raises:
        RepositoryError: the file is missing, is not YAML, repeats a key, or breaks a rule of the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RepositoryError(
            "the file is missing", where=str(path), fix="run inside a clone of the repository"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(root, path)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RepositoryError(f"not valid YAML: {error.problem}", where=f"{path}:{line}") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = []
        for detail in error.errors():
            message = str(detail["msg"]).removeprefix("Value error, ")
            name = ".".join(str(part) for part in detail["loc"])
            problems.append((_line(root, detail["loc"]), f"{name}: {message}" if name else message))
        problems.sort()
        more = "".join(f"\n{path}:{line} {what}" for line, what in problems[1:])
        raise RepositoryError(problems[0][1] + more, where=f"{path}:{problems[0][0]}") from error


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise RepositoryError(f"the key {key.value!r} stands twice", where=f"{path}:{key.start_mark.line + 1}")
            seen.add(key.value)
            _refuse_repeated_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, path)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: (key, value) for key, value in node.value}
            if part not in entries:
                break
            key, node = entries[str(part)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
