"""The check of the forge: what guards the branch that Argo CD follows, and whether the bot could push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from homelab_mlops.clients.forge import Protection, forge_of, on_forge
from homelab_mlops.doctor.checks import check
from homelab_mlops.doctor.finding import Finding
from homelab_mlops.doctor.gitops import initialised, remote
from homelab_mlops.doctor.visit import NotLookedAtError, Visit
from homelab_mlops.errors import HomelabError, RepositoryError
from homelab_mlops.manifests.objects import get

PROMOTION = Path("overlays/homelab/training/promotion.yaml")
CODE = "GITOPS_MAIN_UNPROTECTED"


@check("gitops", CODE, after=[remote])
def protected(visit: Visit) -> Iterator[Finding]:
    """Whether the branch that Argo CD follows is protected, asked at the forge."""
    from homelab_mlops.gitops.settings import load_settings

    root = initialised(visit)
    settings = load_settings(root)
    where = f"{settings.repository}, branch {settings.branch}"
    kind = forge_of(settings.repository, _declared_forge(root))
    if kind == "none":
        raise NotLookedAtError(f"whether {settings.branch} is protected: {PROMOTION} names no forge that can be asked")
    token = _token(visit, root)
    visit.count("gitops")
    try:
        with on_forge(kind, settings.repository, token, visit.seconds(6.0)) as forge:
            guard = forge.protection(settings.branch)
    except RepositoryError as error:
        by = "with the bot's token" if token else "without a token, since the bot's is not here"
        raise NotLookedAtError(f"whether {settings.branch} is protected, {by}: {error.what}") from error
    if what := _open(guard, settings.branch, asks_as_bot=bool(token)):
        yield Finding(CODE, where, what)


def _open(guard: Protection, branch: str, *, asks_as_bot: bool) -> str:
    """Why somebody may push to the branch who should not; or nothing."""
    if not guard.is_protected:
        return f"{branch} is not protected: whoever may push to it changes everything in the cluster"
    if asks_as_bot and guard.may_push:
        return f"{branch} is protected, but the bot's token may push to it"
    return ""


def _declared_forge(root: Path) -> str:
    """The kind of forge in the ConfigMap that the step propose reads."""
    from homelab_mlops.gitops.render import read_yaml

    path = root / PROMOTION
    maps = [item for item in (read_yaml(path) if path.is_file() else []) if item.get("kind") == "ConfigMap"]
    return next((str(get(item, "data", "forge") or "") for item in maps), "")


def _token(visit: Visit, root: Path) -> str:
    """The token of the bot, where it is sealed and the private key is on this machine."""
    from homelab_mlops.gitops.secrets.seal import show_secret

    try:
        return show_secret(root, "git", key_file=visit.key_file).get("token", "")
    except HomelabError:
        return ""
