"""The step *register*: exactly one model version for a run, with alias and tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homelab_mlops.clients.mlflow import SHA256
from homelab_mlops.console import say
from homelab_mlops.errors import EvaluationError, TrackingError
from homelab_mlops.model.artifact import sha256_of
from homelab_mlops.model.spec import ModelSpec
from homelab_mlops.pipeline import result, tracking, verdict
from homelab_mlops.pipeline.model_registry import CHALLENGER, CHAMPION, version_by_alias
from homelab_mlops.pipeline.report import REPORT, write_report
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json

REGISTERED = "homelab.registered"
GATE, WHY, BUDGET = "homelab.gate", "homelab.why", "homelab.budget"
NO_ALIAS = "none"


def register(spec: ModelSpec, work: Path, *, alias_by_git: bool = False) -> dict[str, Any]:
    """Writes ``work/register/registration.json`` and returns it; run again, it changes nothing.

    A version that the gate promotes becomes ``champion`` when there is no champion yet, or the specification says
    ``promotion: automatic``; it is the ``challenger`` otherwise. A version that the gate rejects gets no alias, and
    ``alias`` is None. The verdict and its reason are tags of the version.

    Args:
        alias_by_git: git names the champion and a job moves the alias, so a promoted version begins as challenger.

    Raises:
        TrackingError: the result is not in MLflow, its files there are not those that the training uploaded, or the
        registry does not take it.
        EvaluationError: the decision is not about this result.
    """
    folder = work / "train"
    record = read_json(folder / result.RECORD, f"homelab train {spec.name} --work {work}")
    decision = read_json(work / "evaluate" / "decision.json", f"homelab evaluate {spec.name} --work {work}")
    if decision["result"] != record["result"]:
        raise EvaluationError(
            "the decision is about another training",
            where=str(work),
            fix=f"run `homelab evaluate {spec.name} --work {work}` again",
        )
    run = tracking.load_run(folder)
    client = tracking.client()
    with tracking.explained("registering the model"):
        _hold(client, run, folder)
        version = _version(client, spec, run, record, decision)
        done = version.tags.get(REGISTERED)
        alias = done or _alias(spec, decision, alias_by_git=alias_by_git) or NO_ALIAS
        if not done and alias != NO_ALIAS:
            client.set_registered_model_alias(spec.name, alias, version.version)
    registration = {
        "name": spec.name,
        "version": str(version.version),
        "alias": None if alias == NO_ALIAS else alias,
        "promote": decision["promote"],
        "sha256": run["sha256"],
        "run_id": run["run_id"],
        "url": tracking.page(f"models/{spec.name}/versions/{version.version}"),
        "run_url": run["url"],
    }
    with step_folder(work, "register") as output:
        write_json(output / "registration.json", registration)
    write_report(folder, work / "evaluate", registration)
    if not done:
        tracking.log_report(run["run_id"], work / "evaluate" / REPORT)
        # The last write: the server takes no change of a registered version and of its run from a training's login.
        with tracking.explained("registering the model"):
            client.set_model_version_tag(spec.name, version.version, REGISTERED, alias)
    stands = f"the {alias}" if registration["alias"] else f"rejected, without an alias ({verdict.in_short(decision)})"
    say(f"register: {spec.name} version {version.version} is {stands}: {registration['url']}")
    return registration


def _hold(client: Any, run: dict[str, Any], folder: Path) -> None:
    """Checks that the store holds the files that the training uploaded.

    Raises:
        TrackingError: it holds others, or the training recorded no SHA-256.
    """
    recorded = run.get("sha256")
    if not recorded:
        raise TrackingError(
            "the training recorded no SHA-256 of its model", where=str(folder), fix=f"run `homelab sync {folder}`"
        )
    stored = sha256_of(tracking.files_of(client, run["model_id"]))
    if stored != recorded:
        raise TrackingError(
            f"the files of the model have the SHA-256 {stored} in the store, and the training uploaded {recorded}",
            where=f"{run['url']}",
            fix="look who else writes there, and train again",
        )


def _alias(spec: ModelSpec, decision: dict[str, Any], *, alias_by_git: bool) -> str | None:
    if not decision["promote"]:
        return None
    return CHAMPION if not alias_by_git and _may_lead(spec) else CHALLENGER


def _may_lead(spec: ModelSpec) -> bool:
    return spec.promotion == "automatic" or version_by_alias(spec.name, CHAMPION) is None


def _version(
    client: Any, spec: ModelSpec, run: dict[str, Any], record: dict[str, Any], decision: dict[str, Any]
) -> Any:
    """The version of this run, made if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(spec.name, description=spec.description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(f"name = '{spec.name}' and run_id = '{run['run_id']}'")
    source = f"models:/{run['model_id']}"
    if found:
        version = client.get_model_version(spec.name, found[0].version)
        if version.source != source:
            raise TrackingError(
                f"version {version.version} is of this run, and of other files: {version.source}",
                where=spec.name,
                fix="delete that version, and run this again",
            )
        return version
    metric = decision["metrics"]["challenger"][decision["metric"]]
    tags = {
        GATE: verdict.verdict(decision),
        WHY: verdict.tag(verdict.why(decision)),
        **tracking.provenance_tags(record),
        SHA256: run["sha256"],
        f"homelab.holdout.{decision['metric']}": f"{metric['value']:.4f} [{metric['low']:.4f}, {metric['high']:.4f}]",
    }
    if decision.get("budget"):  # a decision of an earlier version of this package has none
        tags[BUDGET] = verdict.tag(verdict.of_budget(decision))
    return client.create_model_version(
        spec.name,
        source,
        run_id=run["run_id"],
        model_id=run["model_id"],
        tags=tags,
        description=verdict.description(record, decision),
    )
