"""A review as the comment of a pull request."""

from __future__ import annotations

import html
import re

from homelab_mlops.review.report import SIGNS, Item, Report, brief

MARKER = "<!-- homelab-diff -->"
# GitHub takes 65,536 characters, and counts some as two.
LIMIT = 60_000
_MARKS = {"danger": "🛑", "warning": "⚠️", "note": "ℹ️"}  # noqa: RUF001


def markdown(report: Report, limit: int | None = LIMIT, rest: str = "") -> str:
    """The comment, at most ``limit`` characters; ``rest`` says where the whole review is."""
    parts = [
        f"{MARKER}\n### {_code(report.base)} → {_code(report.head)}: what changes in the cluster\n\n{report.summary}\n"
    ]
    if report.sums:
        parts.append("\n| requests | before | after | budget |\n|---|---|---|---|\n")
        parts += [f"| {key} | {one} | {other} | {budget} |\n" for key, (one, other, budget) in report.sums.items()]
    for flag in report.flags:
        parts.append(
            f"\n{_MARKS[flag.level]} **{flag.level}** `{flag.rule}` {_code(flag.where)}: {_escape(flag.what)}  \n"
            f"{flag.reason} {flag.action}\n"
        )
    for group in report.groups:
        counted = ", ".join(
            f"{count} {action}" for action in SIGNS if (count := sum(item.action == action for item in group.items))
        )
        head = f"\n<details><summary><b>{_html(group.application)}</b>: {counted}</summary>\n"
        body = "".join(f"\n{_item(item)}" for item in group.items)
        parts.append(f"{head}{body}\n</details>\n")
    if limit is None:
        return "".join(parts)
    note = f"\n… more does not fit into a comment{f': {rest}' if rest else ''}.\n"
    text = ""
    for part in parts:
        if len(text) + len(part) + len(note) > limit:
            return text + _cut(part, limit - len(text) - len(note)) + note
        text += part
    return text


def _cut(part: str, room: int) -> str:
    """The part of a text that fits: whole lines, with the fold and the code block closed."""
    kept = ""
    for line in part.splitlines(keepends=True):
        if len(kept) + len(line) + 30 > room:
            break
        kept += line
    if kept.count("```") % 2:
        kept += "```\n"
    if "<details>" in kept and "</details>" not in kept:
        kept += "\n</details>\n"
    return kept


def _item(item: Item) -> str:
    sign = SIGNS[item.action]
    written = [f"{sign} {item.object}{f' stays: {item.why}' if item.why else ''}"]
    for line in item.fields:
        if line.note == "lines":
            written.append(f"  {line.where}:")
            written += [f"-   {one}" for one in str(line.before).splitlines()]
            written += [f"+   {one}" for one in str(line.after).splitlines()]
        elif line.note.startswith("the same"):
            written.append(f"  {line.where}: {line.note}")
        else:
            note = f" ({line.note})" if line.note not in ("", "order", "moved") else ""
            if line.before is not None:
                written.append(f"-   {line.where}: {brief(line.before, 300)}{note}")
            if line.after is not None:
                written.append(f"+   {line.where}: {brief(line.after, 300)}{note}")
    if item.yaml and item.action == "added":
        written += [f"+   {one}" for one in item.yaml.splitlines()]
    text = re.sub("`{3,}|~{3,}", lambda match: "'" * len(match[0]), "\n".join(written))
    return f"```diff\n{text}\n```\n"


def _html(text: str) -> str:
    """Text within HTML, where Markdown's marks mean nothing until a blank line."""
    return html.escape(text).replace("@", "@\u200b")


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _escape(text: str) -> str:
    """Text that cannot become markup, a mention or a link."""
    for character in "\\`*_[]|#~!":
        text = text.replace(character, f"\\{character}")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\u200b")
    # A forge turns an address into a link by itself.
    return re.sub(r"(?i)(://|www\.|\bgh-)", lambda match: f"{match[0]}\u200b", text).replace("\n", " ")
