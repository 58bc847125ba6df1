"""Where helm is."""

from __future__ import annotations

from functools import cache

from homelab_mlops.errors import ToolError
from homelab_mlops.gitops import tools


@cache
def program_or_reason() -> tuple[str, str]:
    """The program helm, or else why there is none. It is looked for, and built, once for all charts."""
    try:
        return str(tools.find("helm").absolute()), ""
    except ToolError as error:
        return "", error.what
