"""What a shell offers for what a person has begun to type; reads folders only, so that it answers at once."""

from __future__ import annotations

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.location import find_root


def models(incomplete: str) -> list[str]:
    """The models of this clone whose names begin with ``incomplete``."""
    try:
        folders = (find_root() / "workflows" / "models").glob("*/model.yaml")
    except RepositoryError:
        return []
    return sorted(path.parent.name for path in folders if path.parent.name.startswith(incomplete))
