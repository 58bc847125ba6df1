"""A review for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from homelab_mlops.review.report import SIGNS, Line, Report, brief

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    "danger": "bold red",
    "warning": "yellow",
    "note": "cyan",
    "+": "green",
    "-": "red",
    "~": "yellow",
    "!": "magenta",
}
LONGEST = 12


def plain(report: Report) -> str:
    """The lines of a review."""
    return "".join(f"{text}\n" for _, text in lines(report))


def styled(report: Report) -> Text:
    """The lines of a review in colour."""
    from rich.text import Text

    return Text("\n").join(Text(text, STYLES.get(style, style)) for style, text in lines(report))


def lines(report: Report) -> list[tuple[str, str]]:
    """Style and text of each line."""
    found = [("bold", f"{report.base} → {report.head}"), ("bold", report.summary)]
    for flag in report.flags:
        found += [
            ("", ""),
            (flag.level, f"{flag.level}: [{flag.rule}] {flag.where}: {flag.what}"),
            ("dim", f"  why: {flag.reason}"),
            ("dim", f"  do:  {flag.action}"),
        ]
    for group in report.groups:
        found += [("", ""), ("bold", f"== {group.application}")]
        for item in group.items:
            sign = SIGNS[item.action]
            found.append((sign, f"{sign} {item.object}{f' stays: {item.why}' if item.why else ''}"))
            for line in item.fields:
                found += _field(line)
    return found


def _field(line: Line) -> list[tuple[str, str]]:
    if line.note == "lines":
        found = [("", f"    {line.where}")]
        for sign, text in (("-", line.before), ("+", line.after)):
            written = text.splitlines()
            found += [(sign, f"      {sign} {one}") for one in written[:LONGEST]]
            if len(written) > LONGEST:
                found.append(("dim", f"      {sign} … {len(written) - LONGEST} more lines"))
        return found
    if line.note.startswith("the same"):
        return [("dim", f"    {line.where}: {line.note}")]
    if line.before is None:
        return [("+", f"    + {line.where}: {brief(line.after)}")]
    if line.after is None:
        return [("-", f"    - {line.where}: {brief(line.before)}")]
    note = f" ({line.note})" if line.note not in ("", "order", "moved") else ""
    return [("", f"    {line.where}: {brief(line.before)} → {brief(line.after)}{note}")]
