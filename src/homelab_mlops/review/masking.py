"""Hides values that are, or look like, credentials, in every output."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "(hidden)"
# The last word of a name says whether it is a credential; where that is `key`, the last two words do.
_WORDS = {
    "apikey", "apitoken", "authtoken", "bearer", "credential", "credentials", "masterauth", "pass", "passcode",
    "passphrase", "passwd", "password", "passwords", "pat", "presharedkey", "privatekey", "psk", "pw", "pwd",
    "requirepass", "salt", "secret", "secretkey", "secrets", "signature", "token", "tokens",
}  # fmt: skip
_KEYS_OF = {
    "access", "account", "api", "application", "client", "deploy", "encryption", "hmac", "license", "master",
    "preshared", "private", "secret", "service", "session", "shared", "signing", "ssh", "storage", "tls",
}  # fmt: skip
_AUTH = {"auth", "authorization"}
_SUFFIXES = {"value", "hash", "data", "base64", "b64", "plain", "text"}
# With one of these words the name says where a credential is, or how credentials are treated.
_ABOUT = {
    "algorithm", "age", "audience", "class", "count", "dir", "enabled", "encryption", "endpoint", "env", "expiration",
    "expiry", "file", "files", "format", "id", "interval", "issuer", "kind", "length", "limit", "lifetime", "max",
    "min", "mode", "mount", "name", "names", "namespace", "path", "policy", "prefix", "provider", "ref", "required",
    "rotation",
    "seconds", "size", "source", "store", "suffix", "timeout", "ttl", "type", "uri", "url", "version",
}  # fmt: skip
_ASKS = {"allow", "automount", "create", "disable", "enable", "existing", "from", "generate", "has", "is", "use"}
_PLAIN = re.compile(r"^(true|false|null|none|~|\d{1,6}|\d+(ms|[smhd]))?$", re.IGNORECASE)
_ORDINARY_AUTH = re.compile(r"^[a-z0-9_-]{0,16}$")
_LOOKS = (
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL
    ),
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(
        r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(pat|rt|dt)-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|xapp-[\w-]{10,}"
        r"|sk-[\w-]{20,}|[sr]k_(live|test)_\w{16,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|dckr_pat_[\w-]{20,}"
        r"|pypi-[\w-]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hv[sb]\.[\w-]{20,}|tskey-[\w-]{16,}"
        r"|shpat_[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{40,}|AGE-SECRET-KEY-1[0-9A-Z]{20,})"
    ),
    re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"),
    re.compile(r"(?<=://)[^\s:/@\"']*:[^\s/@\"']+(?=@)"),
    re.compile(r"(?<=://)[\w.~-]{16,}(?=@)"),
    re.compile(r"(?<=:)(\$(apr1|2[abxy]|[156y]|argon2\w*)\$\S+|\{S?SHA\d*\}\S+)"),
    re.compile(
        r"(?<=hooks\.slack\.com/)(services|workflows)/\S+|(?<=/api/webhooks/)\d+/[\w-]+|(?<=\.webhook\.office\.com/)\S+"
        r"|(?<=hooks\.zapier\.com/)\S+|(?<=api\.telegram\.org/bot)\d+:[\w-]+|(?<=/hooks/)[a-z0-9]{20,}"
    ),
)
# The group `value` is what is hidden.
_PLACES = (
    re.compile(r"\b(?:bearer|apikey)\s+(?P<value>(?=\S*[\d_=.+/A-Z-])[\w.~+/=-]{6,})", re.IGNORECASE),
    re.compile(r"\b(?:basic|authorization:\s*\w+)\s+(?P<value>(?=[^\s\"']*[\d=A-Z])[\w.~+/=-]{8,})", re.IGNORECASE),
    re.compile(r"(?<![\w-])(?:-u|--user|--proxy-user)[\s=]+[\"']?[^\s:\"']+:(?P<value>[^\s\"']+)"),
    re.compile(r"\b(?:mysql|mysqldump|mysqladmin|mariadb|mariadb-dump)\b[^;|&\n]*?\s-p(?P<value>[^\s;|&\"']+)"),
    re.compile(
        r"\b(?:sshpass|smbclient|docker login|podman login|helm registry login)\b[^;|&\n]*?\s-p\s*(?P<value>[^\s;|&]+)"
    ),
    re.compile(r"\bredis-cli\b[^;|&\n]*?\s-a\s+(?P<value>[^\s;|&]+)"),
    re.compile(r"\bldap\w+\b[^;|&\n]*?\s-w\s+(?P<value>[^\s;|&]+)"),
    re.compile(r"\b(?:login|account|user)\s+\S+\s+password\s+(?P<value>\S+)"),
    re.compile(r"^\s*(?:password|requirepass|masterauth)\s+(?P<value>\S+)\s*$", re.MULTILINE),
    re.compile(r"[?&](?:sig|signature|X-Amz-Signature|code|key)=(?P<value>[^&\s\"']{16,})"),
)
_ASSIGNED = re.compile(
    r"(?<![\w-])(?P<option>-{0,2})(?P<quote>[\"']?)(?P<name>[A-Za-z_][\w.-]*)(?P=quote)"
    r"(?P<between>\s*(?::=|=>|=|:(?!//))[ \t]*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\n]|'')*'|(?![{\[|>&*]|\$[({])[^\s,;}\]\"'&]+)"
)
_OPTION = re.compile(
    r"(?<![\w-])--?(?P<name>[a-z][\w-]*)[\"']?(?:,[ \t]*|[ \t]+)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|(?!-)[^\s;|&\"',\]]+)"
)
# A whole line that gives a name a value: the value is the rest of it.
_LINE = re.compile(
    r"^(?P<start>\s*(?:-\s+|export\s+|set\s+)?[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*[:=]\s*)(?P<value>\S.*)$"
)
_BLOCK = re.compile(r"^[|>][+-]?\d?\s*(#.*)?$")


def _words(name: str) -> list[str]:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word.rstrip("0123456789") or word for word in re.split(r"[^A-Za-z0-9]+", parts.lower()) if word]


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name holds a credential."""
    words = _words(name)
    while len(words) > 1 and (words[-1] in _SUFFIXES or words[-1].isdigit()):
        words.pop()
    if not words or words[0] in _ASKS or words[-1] in _ABOUT:
        return False
    if words[-1] in _WORDS or (len(words) > 1 and words[-1] in ("key", "keys") and words[-2] in _KEYS_OF):
        return True
    joined = "".join(words)
    return any(word in joined for word in ("password", "passwd", "privatekey", "secretkey", "apikey", "accesskey")) or (
        len(words) > 1 and any(word in ("secret", "token", "passphrase") for word in words[:-1]) and words[-1] != "key"
    )


def _is_auth_name(name: str) -> bool:
    words = _words(name)
    return bool(words) and words[-1] in _AUTH


def is_secret_value(value: Any) -> bool:
    """Whether a text looks as if it is or holds a credential."""
    return isinstance(value, str) and any(pattern.search(value) for pattern in _LOOKS)


def is_reference(value: Any) -> bool:
    """Whether a value only says where a credential comes from, or is no credential at all."""
    return not isinstance(value, str) or "{{" in value or "$(" in value or "${" in value or bool(_PLAIN.match(value))


def _is_hidden(name: str, value: str) -> bool:
    value = value.strip().strip("\"'")
    if is_reference(value):
        return False
    return is_secret_name(name) or (_is_auth_name(name) and not _ORDINARY_AUTH.match(value))


def mask_text(text: str) -> str:
    """A text with the credentials in it hidden."""
    for pattern in _LOOKS:
        text = pattern.sub(HIDDEN, text)
    for pattern in _PLACES:
        text = pattern.sub(_hide_value, text)
    if not re.search(r"[:=]|(?<![\w-])--?[a-z]", text):
        return text
    lines = _mask_lines(text.split("\n"))
    return "\n".join(_OPTION.sub(_hide_named, _ASSIGNED.sub(_hide_named, line)) for line in lines)


def _mask_lines(lines: list[str]) -> list[str]:
    """Hides lines that give a credential's name a value, and the lines of a block that do."""
    found = []
    deeper_than: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if deeper_than is not None and line.strip():
            if indent > deeper_than:
                found.append(line[:indent] + HIDDEN)
                continue
            deeper_than = None
        match = _LINE.match(line)
        if match and is_secret_name(match["name"]):
            if _BLOCK.match(match["value"]):
                deeper_than = indent
            elif match["value"][0] not in "{[&*" and _is_hidden(match["name"], match["value"]):
                ending = "," if match["value"].endswith(",") else ""
                line = f"{match['start']}{HIDDEN}{ending}"
        found.append(line)
    return found


def _hide_value(match: re.Match[str]) -> str:
    if is_reference(match["value"]) or HIDDEN in match["value"]:
        return match[0]
    start, end = (place - match.start() for place in match.span("value"))
    return f"{match[0][:start]}{HIDDEN}{match[0][end:]}"


def _hide_named(match: re.Match[str]) -> str:
    return _hide_value(match) if _is_hidden(match["name"], match["value"]) else match[0]


def _asks_for_secret(argument: Any) -> bool:
    """Whether the argument after this one is a credential: ``--password VALUE``."""
    option = isinstance(argument, str) and argument.startswith("-") and "=" not in argument
    return option and (is_secret_name(argument.lstrip("-")) or argument in ("--auth", "--masterauth"))


_BESIDE_A_REFERENCE = {
    "name",
    "operator",
    "path",
    "effect",
    "values",
    "optional",
    "value",
    "property",
    "version",
    "kind",
}


def _is_secret_entry(node: dict[Any, Any], key: str, value: Any) -> bool:
    if key == "value":
        return is_secret_name(str(node.get("name", ""))) and not is_reference(value)
    if key == "key":
        return isinstance(value, str) and not _BESIDE_A_REFERENCE & node.keys() and len(node) > 1
    if isinstance(value, dict):
        return _words(key)[-1:] in (["credentials"], ["passwords"], ["tokens"])
    return key == "kubectl.kubernetes.io/last-applied-configuration"


def mask(node: Any, path: tuple[str, ...] = (), *, secret: bool = False) -> Any:
    """A copy of a value at ``path`` with every credential hidden; with ``secret`` each leaf is one."""
    if isinstance(node, dict):
        return {
            key: mask(value, (*path, str(key)), secret=secret or _is_secret_entry(node, str(key), value))
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
        if path and _is_hidden(path[-1], node):
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
