"""How the reference of an image is read."""

from __future__ import annotations

import re

# Their releases have two numbers.
_TWO_NUMBERS = ("postgres",)
_EXACT = re.compile(
    r"\d+\.\d+\.\d+"  # a whole version
    r"|(?<!\d)20\d\d[-_.]?(0\d|1[0-2])[-_.]?([0-2]\d|3[01])(?!\d)"  # a day
    r"|(?<![0-9a-z])(sha-?|g)?(?=[a-f]*\d)[0-9a-f]{7,40}(?![0-9a-z])"  # a commit
)


def split_image(image: str) -> tuple[str, str, str]:
    """Repository, tag and digest of an image."""
    rest, _, digest = image.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, "", digest
    return repository, tag, digest


def why_moving(image: str) -> str:
    """Why a reference may be another image tomorrow; empty of one that is exact."""
    repository, tag, digest = split_image(image)
    if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or _EXACT.search(tag):
        return ""
    if not tag:
        return "has no tag"
    numbers = re.match(r"v?(\d+)(\.\d+)?(?![\w.])", tag)
    if numbers is None:
        return "has a tag without a version, which moves"
    if numbers[2] is None:
        return "names a major version alone, whose tag moves"
    return "" if repository.rpartition("/")[2] in _TWO_NUMBERS else "names no patch version, and its tag moves"
