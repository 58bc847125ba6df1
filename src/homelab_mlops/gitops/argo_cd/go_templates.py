"""Go templates with all of their actions and functions, filled in by helm, whose engine is that of Argo CD."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from homelab_mlops.gitops.argo_cd.helm import program_or_reason
from homelab_mlops.gitops.argo_cd.templates import Parameters
from homelab_mlops.gitops.render import parse

SECONDS = 60.0
# Each text becomes a value of one object, filled in with its own parameters.
_TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: filled}
data:
{{- range $number, $item := .Values.items }}
  "{{ $number }}": {{ tpl $item.text $item.parameters | toJson }}
{{- end }}
"""


def filled_by_helm(node: Any, all_parameters: list[Parameters]) -> list[Any] | None:
    """Copies of ``node`` with each of the parameters filled in its keys and texts; None where helm is not here, or
    refuses a template."""
    texts = list(_texts(node))
    asked = [{"text": text, "parameters": parameters} for parameters in all_parameters for text in texts]
    found = _ask(json.dumps({"items": asked}, sort_keys=True, default=str))
    if found is None:
        return None
    answers = iter(found)
    return [_each_text(node, lambda _: next(answers)) for _ in all_parameters]


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from (*_texts(key), *_texts(value))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str) and "{{" in node:
        yield node


def _each_text(node: Any, change: Callable[[str], Any]) -> Any:
    """A copy of ``node`` with each text that holds a template changed, in the order of ``_texts``."""
    if isinstance(node, dict):
        return {_each_text(key, change): _each_text(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_each_text(value, change) for value in node]
    return change(node) if isinstance(node, str) and "{{" in node else node


@cache
def _ask(values: str) -> tuple[str, ...] | None:
    program, _ = program_or_reason()
    if not program:
        return None
    with tempfile.TemporaryDirectory() as work:
        chart = Path(work)
        (chart / "templates").mkdir()
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: filled\nversion: 0.0.0\n")
        (chart / "templates" / "filled.yaml").write_text(_TEMPLATE)
        try:
            done = subprocess.run(  # noqa: S603
                [program, "template", "filled", str(chart), "--values", "-"],
                input=values,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return None
    if done.returncode:
        return None
    data = next((item["data"] for item in parse(done.stdout)), None) or {}
    return tuple(str(data[str(number)]) for number in range(len(data)))
