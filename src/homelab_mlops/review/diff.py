"""`homelab diff`: reviews both sides, and prints or writes the result."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.review.ahead import hurry, opened, rendered

if TYPE_CHECKING:
    from homelab_mlops.review.report import Report


def diff_command(
    base: str | None,
    head: str | None,
    *,
    roots: tuple[str, ...],
    output: str,
    file: Path | None,
    rest: Path | None,
    fail_on: str | None,
) -> bool:
    """Prints or writes the review, and returns whether no flag is as bad as ``fail_on``."""
    hurry()
    with ThreadPoolExecutor(max_workers=1) as pool:
        # What compares is loaded while kustomize builds.
        comparing = pool.submit(import_module, "homelab_mlops.review.report")
        with opened(base, head) as (old, new):
            report = comparing.result().report_of(*rendered(base, head, old, new, roots))
    gc.freeze()  # nor does the one at the end
    _write(report, output, file, rest)
    return not report.fails(fail_on)


def _write(report: Report, output: str, file: Path | None, rest: Path | None) -> None:
    match output:
        case "markdown":
            from homelab_mlops.review.markdown import markdown

            if rest is not None:
                rest.write_text(markdown(report, None), encoding="utf-8")
            text = markdown(report, rest=f"the whole review is in {rest.name}" if rest else "")
        case "html":
            from homelab_mlops.review.page import page

            text = page(report)
        case "json":
            import json

            text = json.dumps(report.as_json(), indent=2, ensure_ascii=False, default=str) + "\n"
        case _:
            from homelab_mlops.review.text import plain, styled

            if file is None and sys.stdout.isatty():
                from homelab_mlops.console import stdout

                stdout().print(styled(report))
                return
            text = plain(report)
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
