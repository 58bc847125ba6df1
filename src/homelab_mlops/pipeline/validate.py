"""The step *validate*: checks the ingested table against the model's schema, with pandera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from homelab_mlops.console import say
from homelab_mlops.errors import DataError
from homelab_mlops.model import values
from homelab_mlops.model.scoring import booleans
from homelab_mlops.model.spec import CategoryFeature, DatetimeFeature, ModelSpec, NumberFeature, RawFeature
from homelab_mlops.model.tasks import OF_AMOUNTS
from homelab_mlops.pipeline.ingest import load_ingested
from homelab_mlops.pipeline.workdir import read_json, step_folder, write_json
from homelab_mlops.tables.spelling import number_hint

EXAMPLES = 5
_LARGEST = float(np.finfo(np.float32).max)


def validate(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """Writes ``work/validate/report.json`` and returns it.

    Raises:
        DataError: the table breaks a rule; the report is written all the same and names each rule with example rows.
    """
    frame, manifest = load_ingested(spec, work)
    violations = validate_table(frame, spec)
    report = {"model": spec.name, "sha256": manifest["sha256"], "rows": len(frame), "violations": violations}
    with step_folder(work, "validate") as folder:
        write_json(folder / "report.json", report)
    refuse(violations, manifest["source"])
    say(f"validate: {len(frame):,} rows hold to every rule of {spec.name}")
    return report


def ensure_valid(frame: pd.DataFrame, spec: ModelSpec, work: Path, manifest: dict[str, Any]) -> None:
    """Accepts a table that *validate* has accepted, and checks any other one now.

    Raises:
        DataError: the table breaks a rule.
    """
    path = work / "validate" / "report.json"
    if path.exists():
        report = read_json(path, f"homelab validate {spec.name} --work {work}")
        if report["sha256"] == manifest["sha256"] and not report["violations"]:
            return
    refuse(validate_table(frame, spec), manifest["source"])


def refuse(violations: list[dict[str, Any]], source: str) -> None:
    """Raises DataError with one line for each violation, if there are any."""
    if not violations:
        return
    lines = [_line(violation) for violation in violations[:20]]
    if len(violations) > 20:
        lines.append(f"... and {len(violations) - 20} more rules")
    raise DataError(
        f"the table breaks {len(violations)} rule{'s' if len(violations) > 1 else ''}:\n" + "\n".join(lines),
        where=source,
        fix="mend the data where it comes from, or the rule in model.yaml if the data is right",
    )


def _line(violation: dict[str, Any]) -> str:
    examples = ", ".join(f"row {item['row']}: {item['value']}" for item in violation["examples"])
    count = f"{violation['rows']:,} rows" if violation["rows"] != 1 else "1 row"
    line = f"  {violation['column']}: {violation['rule']}" + (f" ({count}; {examples})" if examples else "")
    if not violation["rule"].endswith(("a number", "an integer")):
        return line
    hint = next(filter(None, (number_hint(str(item["value"])) for item in violation["examples"])), "")
    return f"{line}; {hint}" if hint else line


def validate_table(frame: pd.DataFrame, spec: ModelSpec) -> list[dict[str, Any]]:
    """Every rule that the table breaks.

    Returns:
        One record for each rule: ``column``, ``rule``, ``rows`` (how many break it), and ``examples``: up to five rows,
        counted from 1, with their value.
    """
    import pandera.pandas as pa

    columns = {
        name: pa.Column(checks=_feature_checks(pa, feature), nullable=True) for name, feature in spec.raw.items()
    }
    columns[spec.target.column] = pa.Column(checks=_target_checks(pa, spec), nullable=True)
    for key in spec.data.key:
        columns.setdefault(key, pa.Column(nullable=False))
    if spec.data.weight is not None:
        columns[spec.data.weight] = pa.Column(checks=_weight_checks(pa), nullable=True)
    if spec.split.group is not None and spec.split.group not in columns:
        columns[spec.split.group] = pa.Column(
            checks=[pa.Check(lambda s: s.notna(), error="the group is present", ignore_na=False)], nullable=True
        )
    schema = pa.DataFrameSchema(columns, checks=_table_checks(pa, spec))
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return _violations(errors.schema_errors, frame, spec)
    return []


def _feature_checks(pa: Any, feature: RawFeature) -> list[Any]:
    checks = [_share_missing(pa, feature.missing)]
    if isinstance(feature, CategoryFeature):
        if feature.values is not None:
            allowed = ", ".join(feature.values)
            checks.append(pa.Check(lambda s, values=feature.values: s.isin(values), error=f"is one of {allowed}"))
        return checks
    if isinstance(feature, DatetimeFeature):
        return [*checks, *_time_checks(pa, feature)]
    if not isinstance(feature, NumberFeature):
        return [
            *checks,
            pa.Check(lambda s: booleans(s).notna() | s.isna(), error="is true, false, 1 or 0", ignore_na=False),
        ]
    name = "an integer" if feature.type == "integer" else "a number"
    checks.append(pa.Check(lambda s: _is_number(s, feature.type), error=f"is {name}", ignore_na=False))
    checks.append(pa.Check(lambda s: ~np.isinf(_numbers(s)), error="is finite", ignore_na=False))
    checks.append(pa.Check(_has_float32, error=f"is below {_LARGEST:.2g}, the largest number of XGBoost"))
    if feature.type == "integer":
        checks.append(pa.Check(_has_64_bits, error="has at most 64 bits (an identifier is a category)"))
    if feature.min is not None:
        checks.append(
            pa.Check(lambda s, least=feature.min: ~(_numbers(s) < least), error=f"is at least {feature.min:g}")
        )
    if feature.max is not None:
        checks.append(pa.Check(lambda s, most=feature.max: ~(_numbers(s) > most), error=f"is at most {feature.max:g}"))
    return checks


def _time_checks(pa: Any, feature: DatetimeFeature) -> list[Any]:
    checks = [pa.Check(_is_time, error="is a time, such as 2026-01-31T05:30Z", ignore_na=False)]
    if feature.min is not None:
        first = pd.Timestamp(values.moment(feature.min))
        checks.append(pa.Check(lambda s: ~(_times(s) < first), error=f"is not before {feature.min}"))
    if feature.max is not None:
        last = pd.Timestamp(values.moment(feature.max))
        checks.append(pa.Check(lambda s: ~(_times(s) > last), error=f"is not after {feature.max}"))
    return checks


def _times(series: pd.Series[Any]) -> pd.Series[Any]:
    """The times of a column; none of one with a text that is no time."""
    is_typed = isinstance(series.dtype, pd.DatetimeTZDtype)
    return series if is_typed else pd.Series(pd.NaT, index=series.index, dtype="datetime64[us, UTC]")


def _is_time(series: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return pd.Series(data=True, index=series.index)
    good = {text: _is_moment(str(text)) for text in series.dropna().unique()}
    return series.map(good).fillna(value=True).astype(bool)


def _is_moment(text: str) -> bool:
    try:
        values.moment(text)
    except ValueError:
        return False
    return True


def _target_checks(pa: Any, spec: ModelSpec) -> list[Any]:
    checks = []
    if not spec.target.drop_missing:
        checks.append(pa.Check(lambda s: s.notna(), error="the target is present", ignore_na=False))
    if spec.target.labels is not None:
        labels = spec.target.labels
        checks.append(pa.Check(lambda s: s.isin(labels), error=f"the target is one of {', '.join(labels)}"))
        checks.append(
            pa.Check(
                lambda s: s[s.isin(labels)].nunique() == len(labels),
                error="the target is not constant: every label occurs"
                if len(labels) > 2
                else "the target is not constant",
                ignore_na=False,
            )
        )
    else:
        checks.append(pa.Check(lambda s: _is_number(s, "number"), error="the target is a number", ignore_na=False))
        checks.append(pa.Check(lambda s: ~np.isinf(_numbers(s)), error="the target is finite", ignore_na=False))
        checks.append(pa.Check(lambda s: s.nunique() > 1, error="the target is not constant", ignore_na=False))
        if spec.gate.metric in OF_AMOUNTS:
            what = f"the target is at least 0, as gate.metric {spec.gate.metric} wants it"
            checks.append(pa.Check(lambda s: ~(_numbers(s) < 0), error=what, ignore_na=False))
    return checks


def _weight_checks(pa: Any) -> list[Any]:
    return [
        pa.Check(lambda s: s.notna(), error="the weight is present", ignore_na=False),
        pa.Check(lambda s: _is_number(s, "number"), error="the weight is a number", ignore_na=False),
        pa.Check(lambda s: ~np.isinf(_numbers(s)), error="the weight is finite", ignore_na=False),
        pa.Check(lambda s: ~(_numbers(s) < 0), error="the weight is not negative", ignore_na=False),
        pa.Check(lambda s: bool(_numbers(s).ne(0).any()), error="not every weight is zero", ignore_na=False),
    ]


def _table_checks(pa: Any, spec: ModelSpec) -> list[Any]:
    least = spec.data.min_rows
    checks = [pa.Check(lambda df: len(df) >= least, error=f"has at least {least:,} rows")]
    if spec.data.key:
        keys = spec.data.key
        checks.append(
            pa.Check(
                lambda df: ~df.duplicated(keys, keep=False), error=f"unique key: {', '.join(keys)}", ignore_na=False
            )
        )
    return checks


def _share_missing(pa: Any, share: float) -> Any:
    def enough(series: pd.Series[Any]) -> bool:
        missing = series.isna()
        return not bool(missing.all()) and (share >= 1 or float(missing.mean()) <= share)

    if share == 0:
        rule = "no value is missing"
    elif share == 1:
        rule = "not every value is missing"
    else:
        rule = f"at most {share:.1%} of the values are missing"
    return pa.Check(enough, error=rule, ignore_na=False)


def _numbers(series: pd.Series[Any]) -> pd.Series[Any]:
    """The numbers of a column; NaN for a cell of text that is no number."""
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.astype("float64")
    found = {text: _number(text) for text in series.dropna().unique()}
    return series.map(found).astype("float64")


def _number(text: object) -> float:
    try:
        return values.number(values.text_of(text))
    except ValueError:
        return np.nan


def _is_number(series: pd.Series[Any], kind: str) -> pd.Series[Any]:
    numbers = _numbers(series)
    good = numbers.notna() | series.isna()
    return good & (numbers.isna() | (np.floor(numbers) == numbers)) if kind == "integer" else good


def _has_float32(series: pd.Series[Any]) -> pd.Series[bool]:
    return ~_numbers(series).abs().between(_LARGEST, np.inf, inclusive="neither")


def _has_64_bits(series: pd.Series[Any]) -> pd.Series[bool]:
    if pd.api.types.is_integer_dtype(series.dtype):
        return series.notna()
    size = _numbers(series).abs()
    return ~size.between(2**63, np.inf, inclusive="left")


def _violations(errors: list[Any], frame: pd.DataFrame, spec: ModelSpec) -> list[dict[str, Any]]:
    found = []
    for error in errors:
        whole_table = error.check is not None and not isinstance(error.failure_cases, pd.DataFrame)
        cases = error.failure_cases
        rows = [] if whole_table or "index" not in cases else sorted({int(i) for i in cases["index"].dropna()})
        name = getattr(error.schema, "name", None)
        column = name if name in frame.columns else ", ".join(spec.data.key) if rows else "table"
        rule = str(getattr(error.check, "error", None) or error.check or error)
        if rule == "not_nullable":
            rule = "the key is present"
        if not rows and name in frame.columns and rule.endswith("missing"):
            rows = np.flatnonzero(frame[name].isna()).tolist()
        values = (
            frame[column]
            if column in frame.columns
            else frame[spec.data.key].astype(str).agg(", ".join, axis=1)
            if rows
            else None
        )
        examples = (
            [{"row": row + 1, "value": _shown(values.iloc[row])} for row in rows[:EXAMPLES]]
            if values is not None
            else []
        )
        found.append({"column": column, "rule": rule, "rows": len(rows) or len(frame), "examples": examples})
    return found


def _shown(value: Any) -> str:
    return "missing" if value is None or value is pd.NA or value != value else str(value)[:80]
