"""Makes the text of others safe to show: it can neither steer a terminal nor hide itself."""

from __future__ import annotations

import re
from typing import Any

# Control characters, characters that reorder or hide text, halves of characters, and bytes that are no text.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str, *, lines: bool = False) -> str:
    """The text with its invisible characters written out, such as ``\\x1b``; with ``lines`` its line ends stay."""
    text = _UNSEEN.sub(_written_out, text)
    return text if lines else text.replace("\n", "\\n").replace("\t", "\\t")


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def visible_value(node: Any) -> Any:
    """A copy of a value in which every text, keys too, can be seen."""
    if isinstance(node, dict):
        return {visible(str(key)): visible_value(value) for key, value in node.items()}
    if isinstance(node, list):
        return [visible_value(value) for value in node]
    return visible(node, lines=True) if isinstance(node, str) else node
