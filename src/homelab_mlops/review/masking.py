"""What no output may show: values that are, or look like, credentials."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(hidden)"
_WORD = r"(pass(word|wd|phrase)?|pwd|secret|token|credentials?|(api|access|private|secret|encryption|signing)[_.-]?key)"
_NAME = re.compile(rf"(^|[^a-z]|(?<=[a-z])(?=[A-Z])){_WORD}s?(\d*|[_.-]?(value|hash|data|base64|b64))$", re.IGNORECASE)
_NAME_ANYWHERE = re.compile(r"password|passwd|secret|token|api_?key|private_?key|access_?key|credential", re.IGNORECASE)
_REFERENCE = re.compile(r"(name|ref|file|path|namespace|url|uri|dir|kind|ttl|seconds|id)$", re.IGNORECASE)
_VALUES = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(
        r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,})"
    ),
    re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"),
    re.compile(r"(?<=://)[^\s:/@]*:[^\s/@]+(?=@)"),
    re.compile(
        r"(?<![\w-])(?P<name>[\w.-]*(password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)[\w-]*"
        r"[\"']?\s*[:=]\s*)(?P<value>(?![{$&|>*])\"[^\"{$]+\"|'[^'{$]+'|(?![{$&|>*\"'])[^\s,;}\]\"']+)",
        re.IGNORECASE,
    ),
)
_PLAIN = re.compile(r"^(true|false|null|~|\d{1,6}|\d+[smhd])?$", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name holds a credential."""
    return (_NAME.search(name) is not None or _NAME_ANYWHERE.search(name) is not None) and not _REFERENCE.search(name)


def is_secret_value(value: Any) -> bool:
    """Whether a text is or holds a credential by its look alone."""
    return isinstance(value, str) and any(pattern.search(value) for pattern in _VALUES[:5])


def is_reference(value: Any) -> bool:
    """Whether a value only says where a credential comes from, or is no credential at all."""
    return not isinstance(value, str) or "{{" in value or "$(" in value or "${" in value or bool(_PLAIN.match(value))


def mask_text(text: str) -> str:
    """A text with the credentials in it hidden."""
    for pattern in _VALUES:
        text = pattern.sub(_hide, text)
    return text


def _hide(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if "name" not in groups:
        return HIDDEN
    name = groups["name"].rstrip().rstrip(":=").rstrip().strip("\"'")
    if _REFERENCE.search(name) or is_reference(groups["value"].strip("\"'")):
        return match[0]
    return f"{groups['name']}{HIDDEN}"


def _asks_for_secret(argument: Any) -> bool:
    """Whether the argument after this one is a credential: ``--password VALUE``."""
    option = isinstance(argument, str) and argument.startswith("-") and "=" not in argument
    return option and is_secret_name(argument.lstrip("-"))


def mask(node: Any, path: tuple[str, ...] = (), *, secret: bool = False) -> Any:
    """A copy of a value at ``path`` with every credential hidden; with ``secret`` each leaf is one."""
    if isinstance(node, dict):
        named = str(node.get("name", ""))
        return {
            key: mask(
                value,
                (*path, str(key)),
                secret=secret
                or (key == "value" and is_secret_name(named) and not is_reference(value))
                or str(key) == "kubectl.kubernetes.io/last-applied-configuration",
            )
            for key, value in node.items()
        }
    if isinstance(node, list):
        before = [None, *node]
        return [
            mask(value, path, secret=secret or _asks_for_secret(last))
            for last, value in zip(before, node, strict=False)
        ]
    if secret and node not in (None, ""):
        return HIDDEN
    if isinstance(node, str):
        if path and is_secret_name(path[-1]) and not is_reference(node):
            return HIDDEN
        return mask_text(node)
    return node


def masked_object(manifest: dict[str, Any]) -> dict[str, Any]:
    """An object as it may be shown."""
    if manifest.get("kind") == "Secret":
        return {key: mask(value, (key,), secret=key in ("data", "stringData")) for key, value in manifest.items()}
    if manifest.get("kind") == "SealedSecret":
        spec = manifest.get("spec") or {}
        sealed = dict.fromkeys(spec.get("encryptedData") or {}, "(sealed)")
        return {
            **mask({key: value for key, value in manifest.items() if key != "spec"}),
            "spec": {**mask(spec), "encryptedData": sealed},
        }
    shown: dict[str, Any] = mask(manifest)
    return shown
