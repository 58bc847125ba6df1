"""A review as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from homelab_mlops.review.report import SIGNS, Report, brief


def page(report: Report) -> str:
    """The page, which loads nothing from elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.filters["brief"] = lambda value: brief(value, 400)
    return environment.get_template("review.html.j2").render(report=report, signs=SIGNS)
