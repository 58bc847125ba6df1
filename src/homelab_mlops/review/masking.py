"""Hides values that are, or look like, credentials, in every output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

HIDDEN = "(hidden)"
# The last word of a name says whether it is a credential; where that is `key`, the last two words do.
_WORDS = {
    "apikey", "apitoken", "authtoken", "bearer", "credential", "credentials", "masterauth", "pass", "passcode",
    "passphrase", "passwd", "password", "passwords", "pat", "pin", "pincode", "presharedkey", "privatekey", "psk", "pw",
    "pwd", "requirepass", "salt", "secret", "secretkey", "secrets", "signature", "token", "tokens",
}  # fmt: skip
# A number is no credential, unless the name ends with one of these.
_EVEN_NUMBERS = {"pass", "passcode", "passphrase", "passwd", "password", "pin", "pincode", "psk", "pw", "pwd"}
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
    "reviewer", "rotation",
    "seconds", "size", "source", "store", "suffix", "timeout", "ttl", "type", "uri", "url", "version",
}  # fmt: skip
_ASKS = {
    "allow",
    "automount",
    "checksum",
    "create",
    "disable",
    "enable",
    "existing",
    "from",
    "generate",
    "has",
    "is",
    "use",
}
_PLAIN = re.compile(
    r"^(true|false|null|none|yes|no|on|off|enabled|disabled|required|optional|~|\[\]|\{\}|\d{1,6}|\d+(ms|[smhd]))?$",
    re.IGNORECASE,
)
_ORDINARY_AUTH = re.compile(r"^[a-z0-9_-]{0,16}$")
# Longer lines are read in parts.
LONGEST = 2000
_PART = re.compile(rf".{{1,{LONGEST}}}[,;&]|.{{1,{LONGEST}}}\s|.{{1,{LONGEST}}}")
# A line without any of these holds no credential that is known here.
_HINTS = (
    "pass", "pw", "secret", "token", "key", "auth", "salt", "cred", "psk", "pin", "pat", "sig", "bearer",
    "basic", "otp", "seed", "communit", "@", "$", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
    "glpat", "glrt", "gldt", "xox", "xapp", "sk-", "sk_", "rk_", "hf_", "npm_", "sg.", "aiza", "ya29",
    "hvs.", "hvb.", "dp.", "dop_", "doo_", "dor_", "docker", "age-", "eyj", "{s", "ls0t", "curl", "cookie", "mc ",
    "vault", "openssl", "identified", "user", "account", "login", "hook", " -u", "mysql", "maria", "smb",
    "mongo", "podman", "helm", "redis", "ldap", "http -", "https -", "echo", "printf", "jdbc", "%",
    "literal", "hc-ping", "telegram", ":aa", "code=",
)  # fmt: skip


class _Later:
    """A pattern that is compiled when it is used: most reviews show no line that could hold a credential."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern = pattern
        self.flags = flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, self.flags)

    def search(self, text: str) -> re.Match[str] | None:
        return self.compiled.search(text)

    def sub(self, new: str | Callable[[re.Match[str]], str], text: str) -> str:
        return self.compiled.sub(new, text)


_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL
)
_LOOKS = (
    _Later(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    _Later(
        r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(pat|rt|dt)-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|xapp-[\w-]{10,}"
        r"|sk-[\w-]{20,}|[sr]k_(live|test)_\w{16,}|hf_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|dckr_pat_[\w-]{20,}"
        r"|pypi-[\w-]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hv[sb]\.[\w-]{20,}|tskey-[\w-]{16,}"
        r"|shpat_[0-9a-f]{32}|do[opr]_v1_[0-9a-f]{40,}|dp\.(st|pt|ct|sa|scim|audit)\.[\w.-]{30,}|AGE-SECRET-KEY-1[0-9A-Z]{20,})"
    ),
    _Later(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"),
    _Later(r"(?<=://)[^\s:/@\"']*:[^\s/@\"']+(?=@)"),
    _Later(r"(?<=://)[\w.~-]{16,}(?=@)"),
    _Later(r"(?<=:)\$(apr1|2[abxy]|[156y]|argon2\w*)\$\S+|(?<!\w)\$(apr1|[156y]|argon2\w*)\$[^\s$]{2,}\$\S{8,}"),
    _Later(r"(?<!\w)\$2[abxy]\$\d\d\$\S{8,}|\{S?SHA\d*\}\S+"),
    _Later(r"\bLS0tLS1CRUdJTi(BSU0Eg|BQUklW|BFQyBQ|BPUEVOU1NI|BFTkNSWVBURUQg)[\w+/=]*"),
    _Later(
        r"(?<=hooks\.slack\.com/)(services|workflows)/\S+|(?<=/api/webhooks/)\d+/[\w-]+|(?<=\.webhook\.office\.com/)\S+"
        r"|(?<=hooks\.zapier\.com/)\S+|(?<=api\.telegram\.org/bot)\d+:[\w-]+|(?<=hc-ping\.com/)[\w-]+"
        r"|\b\d{8,10}:[\w-]{30,}"
    ),
)
# The group `value` is what is hidden.
_ADDRESS = r"(?P<value>(?=[\w-]*\d)(?:(?=[\w-]*[A-Z])|(?=[a-z0-9]{16}))[\w-]{10,}[\w/-]*)"
_PLACES = (
    _Later(
        rf"https?://[^\s/]+/(?:[\w.~-]+/){{0,6}}?[\w-]*(?:hook|hooks|webhookb2|key|token|trigger)/"
        rf"(?:[\w.~-]+/){{0,3}}?{_ADDRESS}",
        re.IGNORECASE,
    ),
    _Later(rf"https?://(?:web)?hooks?\.[\w.-]+(?::\d+)?/(?:[\w.~-]+/){{0,3}}?{_ADDRESS}"),
    _Later(rf"webhook[\w.-]*[\"']?[\s:=]+[\"']?https?://[^\s/]+/(?:[\w.~-]+/){{0,3}}?{_ADDRESS}", re.IGNORECASE),
    _Later(r"\bjdbc:oracle:\w+:[^/\s]+/(?P<value>[^@\s]+)@"),
    _Later(r"\b(?:password|identified\s+by(?:\s+password)?)\s+(?P<quote>['\"])(?P<value>.+?)(?P=quote)", re.IGNORECASE),
    _Later(r"\bcurl\b[^;|&\n]*?\s-[A-Za-z]*u\s*[\"']?[^\s:/\"']+:(?P<value>[^\s\"']+)"),
    _Later(r"\bhttps?\s[^;|&\n]*?-a\s+[\"']?[^\s:/\"']+:(?P<value>[^\s\"']+)"),
    _Later(r"\bmc\s+(?:-\S+\s+)*(?:alias\s+set|config\s+host\s+add)\s+\S+\s+\S+\s+\S+\s+(?P<value>\S+)"),
    _Later(r"\bvault\s+login\s+(?P<value>(?!-)\S+)"),
    _Later(r"\bopenssl\b[^;|&\n]*?\s(?:-k\s+|pass:)(?P<value>\S+)"),
    _Later(r"\s-U\s*[^\s%]+%(?P<value>\S+)"),
    _Later(
        r"\b(?:echo|printf)\s+(?:-n\s+)?[\"']?(?P<value>[^\s\"'|]+)[\"']?\s*\|[^|\n]*(?:--password-stdin|\bpasswd\b)"
    ),
    _Later(r"--from-literal[=\s]+[\"']?[\w.-]+=(?P<value>[^\s\"']+)"),
    _Later(r"^[^\s:]+:(?:\d+|\*):[^\s:]+:[^\s:]+:(?P<value>\S+)$", re.MULTILINE),
    _Later(r"\b(?i:bearer|apikey)\s+(?P<value>(?=\S*[\d_=.+/A-Z-])[\w.~+/=-]{6,})"),
    _Later(r"\b(?i:basic|authorization:\s*\w+)\s+(?P<value>(?=[^\s\"']*[\d=A-Z])[\w.~+/=-]{8,})"),
    _Later(r"(?<![\w-])(?:-u|--user|--proxy-user)[\s=]+[\"']?[^\s:\"']+:(?P<value>[^\s\"']+)"),
    _Later(r"\b(?:mysql|mysqldump|mysqladmin|mariadb|mariadb-dump)\b[^;|&\n]*?\s-p(?P<value>[^\s;|&\"']+)"),
    _Later(
        r"\b(?:sshpass|smbclient|mongo(?:sh|dump|restore)?|docker login|podman login|helm registry login)\b"
        r"[^;|&\n]*?\s-p\s*(?P<value>[^\s;|&]+)"
    ),
    _Later(r"\bredis-cli\b[^;|&\n]*?\s-a\s+(?P<value>[^\s;|&]+)"),
    _Later(r"\bldap\w+\b[^;|&\n]*?\s-w\s+(?P<value>[^\s;|&]+)"),
    _Later(r"\b(?:login|account|user)\s+\S+\s+password\s+(?P<value>\S+)"),
    _Later(r"^\s*(?:password|passphrase|requirepass|masterauth|bindpw|rootpw)\s+(?P<value>\S+)\s*$", re.MULTILINE),
    _Later(r"^\s*(?:passwd|pwd|psk|secret|token)[ \t]+(?P<value>(?=\S*\d)\S{6,})\s*$", re.MULTILINE),
    _Later(r"\b(?:password|passphrase|token|pin)\s+(?:is|was)[:\s]+(?P<value>(?=\S*\d)\S{6,})", re.IGNORECASE),
    _Later(r"(?<![\w/:.])[\w.-]+:(?P<value>[^\s:@/,\"']{6,})@(?!sha256)[\w.-]+(?::\d+\b|/)"),
    _Later(r"(?<=://)(?P<value>(?=[\w-]*\d)[\w-]{10,})@"),
    _Later(r"\bcookie:\s*[\w.-]+=(?P<value>[^\s;\"']{8,})", re.IGNORECASE),
    _Later(r"[?&](?:sig|signature|X-Amz-Signature|code|key)=(?P<value>[^&\s\"']{16,})"),
)
_ASSIGNED = re.compile(
    r"(?<![\w-])(?<!checksum/)(?P<option>-{0,2})(?P<quote>[\"']?)(?P<name>[A-Za-z_][\w.-]*)(?P=quote)"
    r"(?P<between>\s*(?::=|=>|=|:(?!//))[ \t]*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\n]|'')*'|(?![{\[|>&*]|\$[({])[^\s,;}\]\"'&]+)"
)
_OPTION = re.compile(
    r"(?<![\w-])--?(?P<name>[a-z][\w-]*)[\"']?(?:,[ \t]*|[ \t]+)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|(?!-)[^\s;|&\"',\]]+)"
)
# The group `name` says whether the group `value` is one.
_NAMED = (
    _Later(r"<(?P<name>[\w.:-]+)(?:\s[^<>]*)?>(?P<value>[^<>\n]+)</"),
    _Later(r"\\+\"(?P<name>[\w.-]+)\\+\"\s*:\s*\\+\"(?P<value>[^\"\\\n]+)"),
    _Later(r"(?<!\w)(?P<name>\w+)%3D(?P<value>[^%&\s]+)", re.IGNORECASE),
    _Later(r"\|[ \t]*`?(?P<name>[\w.-]+)`?[ \t]*\|[ \t]*`?(?P<value>(?=[^\s|]*\d)[^\s|`]{6,})`?[ \t]*\|"),
    _Later(r"\b(?:name|key|id)=[\"'](?P<name>[\w.:-]+)[\"'][^<>\n]*?(?:>|\bvalue=[\"'])(?P<value>[^<>\"'\n]+)"),
    _Later(
        r"(?<!\w)[\"']?(?:name|key)[\"']?\s*[:=]\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*[,;\s]\s*"
        r"[\"']?value[\"']?\s*[:=]\s*[\"']?(?P<value>[^\s\"',}\]]+)"
    ),
    _Later(r"\b(?:set|setx|setenv|SetEnv|ENV|ARG)\s+(?P<name>[A-Za-z][\w.-]*)\s+[\"']?(?P<value>[^\s\"']{6,})"),
    _Later(r"(?<![\w-])(?P<name>[A-Za-z]\w*_\w+)[ \t]+[\"']?(?P<value>(?=\S*\d)(?=\S*[A-Za-z])[^\s\"',;:=(){}]{8,})"),
)
_LOGINS = re.compile(r"\b(?:users?|basic_?auth|accounts?|logins?)[\"']?\s*[:=]", re.IGNORECASE)
_LOGIN = re.compile(
    r"(?<![\w:/.-])[\w.@-]+:(?P<value>(?=[^\s,\"':]*\d)(?=[^\s,\"':]*[A-Za-z])[^\s,\"':/]{8,})(?![\w:/])"
)
# A whole line that gives a name a value: the value is the rest of it.
_LINE = re.compile(
    r"^(?P<start>\s*(?:-\s+|export\s+|set\s+)?[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*[:=]\s*)(?P<value>\S.*)$"
)
_OPENER = re.compile(r"^\s*(?:-\s+)?[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*:\s*(?:#.*)?$")
_ITEM = re.compile(r"^(?P<start>\s*(?:-\s+)?(?:[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*:\s+)?)(?P<value>[^\s#].*)$")
_MANY = ("credentials", "passwords", "secrets", "tokens")
_CALL = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+)+[(\[].*[)\]]\s*(#.*)?$")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$")
_NUMBER_FIRST = re.compile(r"\d{1,6},\s*[\"']")
_MARKS = re.compile(r"^(?:[&!]\S+\s+)+")
_BLOCK = re.compile(r"^[|>][+-]?\d?\s*(#.*)?$")


@lru_cache(maxsize=10_000)
def _words(name: str) -> tuple[str, ...]:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word.rstrip("0123456789") or word for word in re.split(r"[^A-Za-z0-9]+", parts.lower()) if word)


@lru_cache(maxsize=10_000)
def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name holds a credential."""
    words = list(_words(name))
    while len(words) > 1 and (words[-1] in _SUFFIXES or words[-1].isdigit()):
        words.pop()
    if not words or words[0] in _ASKS or words[-1] in _ABOUT:
        return False
    if words[-1] in _WORDS or (len(words) > 1 and words[-1] in ("key", "keys") and words[-2] in _KEYS_OF):
        return True
    joined = "".join(words)
    if any(word in joined for word in ("snmpcommunity", "otpseed", "rootpw", "bindpw", "pincode")):
        return True
    return any(word in joined for word in ("password", "passwd", "privatekey", "secretkey", "apikey", "accesskey")) or (
        len(words) > 1 and any(word in ("secret", "token", "passphrase") for word in words[:-1]) and words[-1] != "key"
    )


def _is_auth_name(name: str) -> bool:
    words = _words(name)
    return bool(words) and words[-1] in _AUTH


def is_secret_value(value: Any) -> bool:
    """Whether a text looks as if it is or holds a credential."""
    return isinstance(value, str) and any(pattern.search(value) for pattern in (_PRIVATE_KEY, *_LOOKS))


def is_reference(value: Any) -> bool:
    """Whether a value only says where a credential comes from, or is no credential at all."""
    return not isinstance(value, str) or "{{" in value or "$(" in value or "${" in value or bool(_PLAIN.match(value))


def _is_hidden(name: str, value: str) -> bool:
    value = value.strip().strip("\"'")
    if value.isdigit() and len(value) > 2 and (_words(name) or [""])[-1] in _EVEN_NUMBERS:
        return is_secret_name(name)
    if is_reference(value):
        return False
    return is_secret_name(name) or (_is_auth_name(name) and not _ORDINARY_AUTH.match(value))


def mask_text(text: str) -> str:
    """A text with the credentials in it hidden."""
    return _mask_short(text) if len(text) < LONGEST else _mask_text(text)


@lru_cache(maxsize=10_000)
def _mask_short(text: str) -> str:
    return _mask_text(text)


def _mask_text(text: str) -> str:
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(HIDDEN, text)
    masked = {}
    found = []
    for line in _mask_lines(text.split("\n")):
        if line not in masked:
            masked[line] = _mask_line(line)
        found.append(masked[line])
    return "\n".join(found)


def _mask_line(line: str) -> str:
    small = line.lower()
    if not any(hint in small for hint in _HINTS) and small.count(":") < 4:
        return line
    if len(line) > LONGEST:
        return "".join(map(_mask_part, _PART.findall(line)))
    return _mask_part(line)


def _mask_part(line: str) -> str:
    for pattern in _LOOKS:
        line = pattern.sub(HIDDEN, line)
    for pattern in _PLACES:
        line = pattern.sub(_hide_value, line)
    for pattern in _NAMED:
        line = pattern.sub(_hide_named, line)
    if _LOGINS.search(line):
        line = _LOGIN.sub(_hide_value, line)
    return _hide_assigned(line)


def _hide_assigned(line: str) -> str:
    return _OPTION.sub(_hide_named, _ASSIGNED.sub(_hide_named_or_inner, line))


def _hide_named_or_inner(match: re.Match[str]) -> str:
    """As ``_hide_named``; the value itself may give a name a value: ``args: "--password=VALUE"``."""
    line, value = _hide_named(match), match["value"]
    if line != match[0] or HIDDEN in value or not re.search(r"[=:]|\s-", value):
        return line
    quote = value[0] if value[0] in "\"'" else ""
    inner = value[1:-1] if quote else value
    start = match.start("value") - match.start()
    return f"{line[:start]}{quote}{_hide_assigned(inner)}{quote}"


def _mask_lines(lines: list[str]) -> list[str]:
    """Hides lines that give a credential's name a value, and the lines of a block that do."""
    found = []
    block = _Block("", 0, is_text=True)
    quote = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if quote:
            found.append(HIDDEN if quote not in line else f"{HIDDEN}{line.partition(quote)[2]}")
            quote = "" if quote in line else quote
            continue
        if block.name and line.strip():
            if indent > block.indent or (
                not block.is_text and indent == block.indent and line.lstrip().startswith("- ")
            ):
                found.append(block.masked(line, indent))
                continue
            block = _Block("", 0, is_text=True)
        match = _LINE.match(line)
        opener = _OPENER.match(line)
        if match and is_secret_name(match["name"]):
            value = _MARKS.sub("", match["value"])
            if _is_code(value):
                pass
            elif _BLOCK.match(value):
                block = _Block(match["name"], indent, is_text=True)
            elif value and not _is_inner(value) and not _NUMBER_FIRST.match(value) and _is_hidden(match["name"], value):
                ending = "," if value.endswith(",") else ""
                line = f"{match['start']}{HIDDEN}{ending}"
                quote = value[0] if value[0] in "\"'" and value.count(value[0]) == 1 else ""
        elif opener and is_secret_name(opener["name"]):
            block = _Block(opener["name"], indent, is_text=False)
        found.append(line)
    return found


def _is_code(value: str) -> bool:
    """Whether a value is a call that takes the credential from elsewhere; only a variable or a prompt is in quotes."""
    quoted = re.findall(r"[\"']([^\"']*)[\"']", value)
    return _CALL.match(value) is not None and all(text.endswith(" ") or _VARIABLE.match(text) for text in quoted)


def _is_inner(value: str) -> bool:
    """Whether a value is a mapping or a reference, of which the names inside say what is a credential."""
    return value.startswith("*") or (value.startswith("{") and (":" in value or value == "{"))


@dataclass(frozen=True)
class _Block:
    """Lines below a credential's name: a text, or values."""

    name: str
    indent: int
    is_text: bool

    def masked(self, line: str, indent: int) -> str:
        if self.is_text:
            return line[:indent] + HIDDEN
        match = _ITEM.match(line)
        if match is None or is_reference(match["value"].strip("\"'")):
            return line
        word = _words(self.name)[-1]
        is_named = match["name"] is not None
        if is_named and (word not in _MANY or not {*_words(match["name"])[-1:]}.isdisjoint(_ABOUT)):
            return line
        needs_digit = is_named or word in ("secret", "secrets", "credential", "credentials")
        if needs_digit and not re.search(r"\d", match["value"]):
            return line
        return f"{match['start']}{HIDDEN}"


def _hide_value(match: re.Match[str]) -> str:
    if is_reference(match["value"]) or HIDDEN in match["value"]:
        return match[0]
    return _without_value(match)


def _without_value(match: re.Match[str]) -> str:
    start, end = (place - match.start() for place in match.span("value"))
    return f"{match[0][:start]}{HIDDEN}{match[0][end:]}"


def _hide_named(match: re.Match[str]) -> str:
    if HIDDEN in match["value"] or not _is_hidden(match["name"], match["value"]):
        return match[0]
    if _is_code(match.string[match.start("value") :]):
        return match[0]
    return _without_value(match)


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


def names_secret(node: dict[Any, Any]) -> bool:
    """Whether a mapping is the entry of a list that gives a credential's name a value."""
    return any(is_secret_name(str(node.get(part, ""))) for part in ("name", "key", "header"))


def _is_secret_entry(node: dict[Any, Any], key: str, value: Any) -> bool:
    if key == "value":
        return names_secret(node) and not is_reference(value)
    if key == "key":
        return isinstance(value, str) and not _BESIDE_A_REFERENCE & node.keys() and len(node) > 1
    if isinstance(value, dict):
        return _words(key)[-1:] in (("credentials",), ("passwords",), ("tokens",))
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
        shown = [
            mask(value, path, secret=secret or _asks_for_secret(last))
            for last, value in zip(before, node, strict=False)
        ]
        return _mask_command(node, shown) if all(isinstance(item, str) for item in node) else shown
    if secret and node not in (None, ""):
        return HIDDEN
    if isinstance(node, str):
        if path and _is_hidden(path[-1], node):
            return HIDDEN
        if path and path[-1].lower().endswith(("htpasswd", "shadow")):
            return re.sub(r"(?m)^([^:\s]+:)[^:\s]+", rf"\1{HIDDEN}", node)
        return mask_text(node)
    if isinstance(node, int) and path and _is_hidden(path[-1], str(node)):
        return HIDDEN
    return node


def _mask_command(words: list[str], shown: list[Any]) -> list[Any]:
    """The arguments of a command, those hidden that are credentials after the words before them."""
    found = []
    for number, item in enumerate(shown):
        if HIDDEN not in item and 0 < number < 40 and " " not in item:
            start = mask_text(" ".join(words[:number])) + " "
            whole = mask_text(" ".join(words[: number + 1]))
            item = whole[len(start) :] if whole.startswith(start) else HIDDEN if whole.endswith(HIDDEN) else item
        found.append(item)
    return found


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
