"""Puts the quotes around an expression that YAML needs, and a person need not write.

YAML ends a value of ``{from: total_charges / max(tenure, 1)}`` at the comma, and takes no value that begins with a
backtick, nor one that begins with a quoted text and goes on.
"""

from __future__ import annotations

import re

_FEATURES = re.compile(r"""^(["']?)features\1:.*?(?=^[^\s#]|\Z)""", re.MULTILINE | re.DOTALL)
_FROM = r"from:[ \t]+(?:[&!][^\s,{}]*[ \t]+)*"  # an anchor or a tag may stand before the expression
_IN_BRACES = re.compile(rf"(?<=[{{,])(?:\s|\s#[^\n]*\n)*{_FROM}(?=[^\s])")
_ON_ITS_LINE = re.compile(rf"^[ ]+{_FROM}(?=[`\"'])", re.MULTILINE)
_YAML_TEXT = r"""(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")"""
_QUOTED = re.compile(rf"{_YAML_TEXT}(?=\s*[,}}]|\s+#|[ \t]*$)", re.MULTILINE | re.DOTALL)
_TEXTS = re.compile(rf"(?<=[\[{{,:(=<>!\s]){_YAML_TEXT}")
_IN_COMMENT_OR_TEXT = re.compile(r"""(^|\s)#|(?<=[\[{,:\s])["']""")


def with_quotes(text: str) -> str:
    """The text of a model.yaml with quotes around each such expression; its lines stay where they are."""
    return _FEATURES.sub(lambda block: _quoted(_quoted(block[0], _IN_BRACES, ",}"), _ON_ITS_LINE, "\n"), text)


def _quoted(block: str, beginning: re.Pattern[str], ends: str) -> str:
    parts, at = list[str](), 0
    while match := beginning.search(block, at):
        line = block[block.rfind("\n", 0, match.start()) + 1 : match.start()]
        if _IN_COMMENT_OR_TEXT.search(_TEXTS.sub("", line)):
            parts, at = [*parts, block[at : match.end()]], match.end()
            continue
        end = _end(block, match.end(), ends)
        expression = block[match.end() : end].rstrip()
        parts += [block[at : match.end()], _as_yaml(expression)]
        at = match.end() + len(expression)
    return "".join([*parts, block[at:]])


def _end(block: str, start: int, ends: str) -> int:
    """Where an expression ends: at one of the marks outside of its brackets and quotes, or at a brace or comment; one
    that is in quotes already, with them."""
    if quoted := _QUOTED.match(block, start):
        return quoted.end()
    depth, quote = 0, ""
    for at in range(start, len(block)):
        mark = block[at]
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'`":
            quote = mark
        elif (mark in ends and (depth <= 0 or mark != ",")) or (mark == "#" and block[at - 1] in " \t"):
            return at
        else:
            depth += (mark == "(") - (mark == ")")
    return len(block)


def _as_yaml(expression: str) -> str:
    """The expression as YAML reads it whole."""
    is_quoted = re.fullmatch(r"'([^']|'')*'|\"([^\"\\]|\\.)*\"", expression, re.DOTALL) is not None
    if is_quoted or not (expression[:1] in "\"'`" or "," in expression):
        return expression
    return "'" + expression.replace("'", "''") + "'"
