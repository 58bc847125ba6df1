"""What all Applications may request together. It is read without Pydantic, which takes as long as a review."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import yaml

from homelab_mlops.errors import RepositoryError
from homelab_mlops.location import SETTINGS
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.manifests.objects import get
from homelab_mlops.manifests.quantities import quantity

RESOURCES = ("memory", "cpu", "storage")


def load_budgets(root: Path) -> dict[str, Decimal]:
    """Bytes of memory, cores and bytes of storage, by the settings of the repository in ``root``.

    Raises:
        RepositoryError: the settings have no budgets, or a budget is no amount.
    """
    path = root / SETTINGS
    try:
        given = get(yaml_reader.load(path.read_bytes()), "budgets")
    except (OSError, yaml.YAMLError) as error:
        raise RepositoryError("the settings cannot be read as YAML", where=str(path)) from error
    found = {}
    for name in RESOURCES:
        text = get(given, name)
        amount = quantity(text) if isinstance(text, str) else None
        if amount is None or amount <= 0:
            what = "is missing" if text is None else f"{text!r} is no amount such as 1536Mi, 2 or 100Gi"
            raise RepositoryError(f"budgets.{name}: {what}", where=str(path))
        found[name] = amount
    return found
