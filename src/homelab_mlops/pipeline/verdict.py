"""The gate's decision in words: a line for lists of versions, and Markdown for the pages of MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# MLflow stores at most so many characters of a model version's description.
LONGEST_DESCRIPTION = 5000
LONGEST_TAG = 250


def verdict(decision: Mapping[str, Any]) -> str:
    """``promote`` or ``reject``."""
    return "promote" if decision["promote"] else "reject"


def why(decision: Mapping[str, Any]) -> str:
    """One line: what the version beats, or each condition of the gate that it fails, with the figures."""
    failed = [f"{reason['rule']}: {reason['text']}" for reason in decision["reasons"] if not reason["passed"]]
    if failed:
        return "; ".join(failed)
    opponents = [decision["champion"] if rule == "champion" else f"the {rule}" for rule in _opponents(decision)]
    return f"better than {' and '.join(opponents)}"


def in_short(decision: Mapping[str, Any]) -> str:
    """A few words, without figures: ``not better than the champion``."""
    failed = list(dict.fromkeys(reason["rule"] for reason in decision["reasons"] if not reason["passed"]))
    worse = [rule for rule in failed if rule not in _OWN_WORDS]
    said = [f"not better than the {', '.join(worse)}"] if worse else []
    said += [_OWN_WORDS[rule] for rule in failed if rule in _OWN_WORDS]
    if said:
        return "; ".join(said)
    return f"better than {decision['champion'] or 'the baseline'}"


def of_budget(decision: Mapping[str, Any]) -> str:
    """One line: the how many-th comparison with the champion it was, and what is left of their error budget."""
    budget = decision["budget"]
    which = f"comparison {budget['number']} of at most {budget['most']} a year with the {decision['champion']}"
    spent = f"it took {100 * budget['share']:.2f} % of their error budget, {100 * budget['left']:.0f} % is left"
    return f"{which}; {spent}" if budget["again"] is None else f"{which}: none is left until {budget['again']}"


def tag(text: str) -> str:
    """The text, cut to the length of a tag in MLflow."""
    return text if len(text) <= LONGEST_TAG else f"{text[: LONGEST_TAG - 1]}…"


def description(record: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """Markdown with the verdict, its reasons, the gate's table, and what the model was trained on."""
    where, names = record["provenance"], list(decision["metrics"]["challenger"])
    parts = ", ".join(f"{count:,} {part}" for part, count in record["rows"].items())
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    lines = [
        # MLflow's list of versions shows the beginning as plain text.
        f"{verdict(decision)}: {in_short(decision)}",
        "",
        *(f"- {'✓' if reason['passed'] else '✗'} {reason['rule']}: {reason['text']}" for reason in decision["reasons"]),
        "",
        f"On {decision['holdout']['rows']:,} holdout rows, with {_INTERVAL} intervals:",
        "",
        _table(["", *(f"**{name}**" if name == decision["metric"] else name for name in names)]),
        _table(["---"] * (1 + len(names))),
        *(_table([who, *(_interval(values[name]) for name in names)]) for who, values in decision["metrics"].items()),
        "",
        f"Data: `{record['data']['source']}`, {record['data']['rows']:,} rows ({parts})  ",
        f"Seed: {record['parameters']['seed']}  ",
        f"Packages: Python {where['python']}, {packages}",
    ]
    text = "\n".join(lines)
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[: LONGEST_DESCRIPTION - 1]}…"


_INTERVAL = "95 %"
_OWN_WORDS = {"budget": "the error budget of its comparisons is spent", "slices": "worse on a slice"}


def _opponents(decision: Mapping[str, Any]) -> list[str]:
    passed = {reason["rule"] for reason in decision["reasons"]}
    return [rule for rule in ("baseline", "champion") if rule in passed]


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def _table(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
