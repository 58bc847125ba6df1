"""The step *propose*: makes a commit of the version that the gate promotes, on a branch of its own. It merges nothing.

A person does; or, with ``promotion: automatic``, the forge, once its required check has passed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from homelab_mlops.clients.forge import MERGING, Forge, forge_of, link_of, on_forge
from homelab_mlops.clients.git_remote import Race, Remote
from homelab_mlops.console import say
from homelab_mlops.errors import EvaluationError, RepositoryError
from homelab_mlops.model import promotion
from homelab_mlops.model.artifact import is_sha256
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline import result
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json

ATTEMPTS = 5
AUTOMATIC = "by the forge, once its checks have passed"
UNMERGED = f"promotion is automatic, and only {' and '.join(MERGING)} merge by themselves"


def propose(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """Writes ``work/propose/proposal.json`` and returns it; run again, it changes nothing.

    ``HOMELAB_REPOSITORY``, ``HOMELAB_BRANCH`` and ``HOMELAB_FORGE`` name the place, ``GIT_USERNAME`` and ``GIT_TOKEN``
    are the login. Without a token the step only says that there is none.

    Raises:
        EvaluationError: the steps before hand on different trainings.
        RepositoryError: the repository or the forge refuses, or is away; the version stays a challenger.
    """
    decision = read_json(work / "evaluate" / "decision.json", f"homelab evaluate {spec.name} --work {work}")
    registration = read_json(work / "register" / "registration.json", f"homelab register {spec.name} --work {work}")
    record = read_json(work / "train" / result.RECORD, f"homelab train {spec.name} --work {work}")
    _refuse_mixed(spec, decision, registration, record, work)
    proposal = {
        "model": spec.name,
        "version": registration["version"],
        **_proposed(spec, decision, registration, record),
    }
    with step_folder(work, "propose") as output:
        write_json(output / "proposal.json", proposal)
    return proposal


def _refuse_mixed(
    spec: ModelSpec, decision: dict[str, Any], registration: dict[str, Any], record: dict[str, Any], work: Path
) -> None:
    """Checks that the steps before hand on one training of this model.

    Raises:
        EvaluationError: they do not.
    """
    models = {decision["model"], registration["name"], record["model"]}
    if models != {spec.name} or decision["result"] != record["result"]:
        raise EvaluationError(
            f"the steps before hand on different trainings, or another model than {spec.name!r}",
            where=str(work),
            fix=f"run `homelab evaluate {spec.name} --work {work}` and `homelab register` again",
        )


def _proposed(
    spec: ModelSpec, decision: dict[str, Any], registration: dict[str, Any], record: dict[str, Any]
) -> dict[str, str]:
    version = str(registration["version"])
    name = f"{spec.name} version {version}"
    if not decision["promote"]:
        say(f"propose: the gate does not promote {name}: nothing to propose")
        return {"outcome": "rejected"}
    if not is_sha256(str(registration.get("sha256"))):
        raise RepositoryError(
            f"the registration of {name} has no SHA-256 of its files",
            where=str(registration.get("url", name)),
            fix=f"run `homelab register {spec.name}` again",
        )
    url, token = os.environ.get("HOMELAB_REPOSITORY", ""), os.environ.get("GIT_TOKEN", "")
    if not url or not token:
        by_hand = f"`homelab promote {spec.name} {version}` does"
        say(f"propose: no git login is sealed, so nothing names {name}; {by_hand}")
        return {"outcome": "not configured"}
    base = os.environ.get("HOMELAB_BRANCH") or "main"
    kind = forge_of(url, os.environ.get("HOMELAB_FORGE", ""))
    remote = Remote(url, os.environ.get("GIT_USERNAME", ""), token)
    try:
        for _ in range(ATTEMPTS):
            try:
                proposal = _push(remote, spec, version, base, decision, registration, record)
                break
            except Race:
                say("propose: somebody else pushed meanwhile; trying again on the new commit")
        else:
            raise RepositoryError(
                f"the branch moved {ATTEMPTS} times while pushing", where=url, fix="run it again", transient=True
            )
    finally:
        remote.close()
    say(f"propose: {name}: {proposal['outcome']} {proposal.get('branch', '')}".rstrip())
    if "branch" not in proposal:
        return proposal
    if kind != "none":
        with on_forge(kind, url, token) as forge:
            proposal |= _opened(forge, spec, proposal, base)
            say(f"propose: {proposal['url']}")
    if spec.promotion == "automatic" and proposal.get("merge") != AUTOMATIC:
        say(f"propose: {UNMERGED}, so a person merges {proposal['branch']}")
    return proposal


def _opened(forge: Forge, spec: ModelSpec, proposal: dict[str, str], base: str) -> dict[str, str]:
    """The address of the pull request, and who merges it."""
    title, _, body = proposal["message"].partition("\n\n")
    pull = forge.pull_request(proposal["branch"], base, title, body)
    found = {"url": link_of(pull)}
    if spec.promotion != "automatic" or forge.kind not in MERGING:
        return {**found, "merge": "by a person"}
    guard = forge.protection(base)
    if not guard.checks:
        raise RepositoryError(
            f"{base} requires no check, so the forge would merge whatever the bot pushes",
            where=found["url"],
            fix=f"protect {base} and require the check of the workflow review, as docs/serving.md says, or merge it",
        )
    forge.merge_when_checked(pull)
    return {**found, "merge": AUTOMATIC}


def _push(
    remote: Remote,
    spec: ModelSpec,
    version: str,
    base: str,
    decision: dict[str, Any],
    registration: dict[str, Any],
    record: dict[str, Any],
) -> dict[str, str]:
    path = promotion.manifest_of(spec.name)
    branch = f"promote/{spec.name}"
    main, current = remote.tips(path, base, branch)
    if main is None:
        raise RepositoryError(f"the repository has no branch {base}", where=remote.url)
    before = promotion.named_by(main.text, str(path)).version
    if int(before) >= int(version):
        return {"outcome": "named already", "commit": main.commit.decode()}
    links = {
        "Model": registration["url"],
        "Run": registration["run_url"],
        "Workflow": record["provenance"]["workflow"],
        "Code": record["provenance"]["commit"],
    }
    message = promotion.message(spec.name, version, before, decision, record["data"], links, registration["sha256"])
    text = promotion.naming(main.text, promotion.Named(version, registration["sha256"]), str(path))
    if current is not None and current.text == text:
        return {"outcome": "proposed already", "branch": branch, "commit": current.commit.decode(), "message": message}
    commit = remote.push(branch, current.commit if current else None, main.commit, path, text, message)
    return {"outcome": "pushed", "branch": branch, "commit": commit, "message": message}
