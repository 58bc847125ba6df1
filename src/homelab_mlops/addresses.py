"""Addresses as they may be shown: a login in one stays out of messages, logs and files."""

from __future__ import annotations

import re

# A password that nobody has escaped may hold a slash.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/@]+|[^\s/@:]+:[^\s@]*)@")


def without_login(text: str) -> str:
    """The text with ``USER:PASSWORD@`` or ``TOKEN@`` left out of each address in it."""
    return _LOGIN.sub("", text)
