"""The pages that a command writes for people, made of templates beside its code."""

from __future__ import annotations

from typing import Any


def template(package: str, name: str) -> Any:
    """The template ``name`` in the folder ``templates`` of a package; what it is not given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.get_template(name)
