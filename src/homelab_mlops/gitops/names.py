"""What a name or an address may hold; a refusal names the part that is wrong.

Each function returns the text it was given, or raises ValueError with a sentence that follows "cannot be used".
"""

from __future__ import annotations

import ipaddress
import re
import string

import yaml

from homelab_mlops.manifests import yaml_reader

LONGEST_LABEL, LONGEST_NAME, LONGEST_KEY = 63, 253, 253
_SMALL = string.ascii_lowercase + string.digits
# What a browser shows below the repository of an owner.
_PAGE = re.compile(r"[^/]+/[^/]+.*?(/(?:-/)?(?:tree|blob|src/branch|src/commit|commit|pull|merge_requests)/.+)")
_SPECIAL = {" ": "a space", "\t": "a tab", "\n": "a line end", "_": "an underscore", "*": "an asterisk"}


def dns_label(text: str) -> str:
    """A name without dots, such as a namespace's."""
    if not text:
        raise ValueError("it is empty")
    _only(text, _SMALL + "-", "small letters, digits and hyphens")
    if "-" in (text[0], text[-1]):
        raise ValueError(f"it {'begins' if text[0] == '-' else 'ends'} with a hyphen")
    if len(text) > LONGEST_LABEL:
        raise ValueError(f"it has {len(text)} characters, and {LONGEST_LABEL} is the most")
    return text


def dns_name(text: str) -> str:
    """Labels with dots between them, such as the name of a StorageClass."""
    if not text:
        raise ValueError("it is empty")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"it has {len(text)} characters, and {LONGEST_NAME} is the most")
    for label in text.split("."):
        try:
            dns_label(label)
        except ValueError as error:
            if not label:
                raise ValueError("there is nothing before, after or between its dots") from None
            raise ValueError(str(error) if label == text else f"its part {label!r}: {error}") from None
    return scalar(text)


def domain(text: str) -> str:
    """A domain below which the hosts of services can lie."""
    if "://" in text:
        raise ValueError(f"{text.partition('://')[0]}:// belongs to an address; a domain is the host's name alone")
    if _is_ip(text):
        raise ValueError(
            "it is an IP address, below which no names exist, and the services answer at names such as mlflow.DOMAIN; "
            "use a domain that your DNS server points there"
        )
    if "/" in text:
        raise ValueError(f"{text[text.index('/') :]!r} is a path; a domain is the host's name alone")
    if "@" in text:
        raise ValueError("'@' belongs to a mail address")
    if match := re.search(r":(\d*)$", text):
        raise ValueError(f"':{match[1]}' is a port; a domain is the host's name alone")
    if text.startswith("*."):
        raise ValueError("leave out '*.': the hosts of the services are written before it")
    if text.endswith(".") and text.strip("."):
        raise ValueError("leave out the dot at its end")
    dns_name(text)
    if "." not in text:
        raise ValueError(f"it is one word; a domain has a dot, such as {text}.home.arpa")
    if text.rpartition(".")[2].isdigit():
        raise ValueError(f"its last part, {text.rpartition('.')[2]!r}, is a number, so it reads as an IP address")
    if len(text) > LONGEST_NAME - LONGEST_LABEL:
        raise ValueError(f"it has {len(text)} characters, which leaves no room for the hosts before it")
    return text


TLS_OWN, TLS_SECRET, TLS_OFF, TLS_ISSUER = "own", "secret", "off", "cert-manager"


def tls(text: str) -> str:
    """Where the certificate of the pages comes from."""
    mode, _, issuer = text.partition(" ")
    if mode == TLS_ISSUER:
        if not issuer:
            raise ValueError("name the ClusterIssuer behind it, such as `cert-manager letsencrypt`")
        dns_name(issuer)
    elif text not in (TLS_OWN, TLS_SECRET, TLS_OFF):
        raise ValueError(f"it is {TLS_OWN}, {TLS_SECRET}, `{TLS_ISSUER} ISSUER` or {TLS_OFF}")
    return text


def repository(text: str) -> str:
    """An address that Argo CD can clone."""
    if not text:
        raise ValueError("it is empty")
    if wrong := next((c for c in text if c.isspace() or not c.isprintable()), None):
        raise ValueError(f"it holds {_said(wrong)}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _scp(text)
    if scheme.lower() not in {"https", "http", "ssh"}:
        raise ValueError(f"Argo CD cannot read {scheme}://; give the https:// address")
    if scheme != scheme.lower():
        raise ValueError(f"{scheme}:// is written in small letters")
    authority, _, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    if at and (scheme != "ssh" or ":" in login):
        raise ValueError("it holds a login before '@'; `--private-repository` keeps the login in a sealed Secret")
    _host(host)
    _repository_path(path)
    return text


def _scp(text: str) -> str:
    """An address as ``git@host:path``."""
    login, at, rest = text.partition("@")
    host, colon, path = rest.partition(":")
    if not at or not colon or "/" in login or "/" in host:
        if text.startswith((".", "/", "~")):
            raise ValueError("it is a folder of this machine, which the cluster cannot read")
        raise ValueError(f"it does not begin with https://; is it https://{text.lstrip('/')}?")
    if not login or ":" in login:
        raise ValueError(f"{login!r} before '@' is no user name")
    _host(host)
    _repository_path(path)
    return text


def _host(text: str) -> None:
    """A host with or without a port; an IP address is one."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    name, colon, port = (bracketed[1], bracketed[2] is not None, bracketed[2] or "") if bracketed else _split_port(text)
    if not name:
        raise ValueError("it names no host")
    if colon and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} after the host is no port")
    if _is_ip(name):
        return
    try:
        dns_name(name.lower())
    except ValueError as error:
        raise ValueError(f"its host {name!r}: {error}") from None


def _split_port(text: str) -> tuple[str, bool, str]:
    name, colon, port = text.partition(":")
    return name, bool(colon), port


def _repository_path(text: str) -> None:
    if not text.strip("/"):
        raise ValueError("it names a host, and no repository on it")
    if mark := next((c for c in text if c in "?#"), None):
        raise ValueError(f"{text[text.index(mark) :]!r} is no part of a repository's address")
    if match := _PAGE.match(text):
        raise ValueError(f"{match[1]!r} is a page of the forge; leave it out")


def branch(text: str) -> str:
    """A branch that git and YAML take for one."""
    if not text:
        raise ValueError("it is empty")
    if text.startswith(("refs/heads/", "origin/")):
        raise ValueError(f"leave out {text[: text.index('/', 5 if text.startswith('refs') else 0) + 1]!r}")
    _only(text, string.ascii_letters + string.digits + "._/-", "letters, digits and . _ / -")
    if text[0] in "-./_" or text[-1] in "./" or text.endswith(".lock"):
        raise ValueError(f"it {'begins' if text[0] in '-./_' else 'ends'} as no branch can")
    if pair := next((pair for pair in ("..", "//", "/.") if pair in text), None):
        raise ValueError(f"git does not allow {pair!r} in it")
    return scalar(text)


def image_registry(text: str) -> str:
    """A registry and a folder in it, without the image."""
    if "://" in text:
        raise ValueError(f"leave out {text.partition('://')[0]}://: an image's name has no scheme")
    if not text:
        raise ValueError("it is empty")
    if text.endswith("/") or "//" in text or text.startswith("/"):
        raise ValueError("there is nothing before, after or between its slashes")
    host, *folders = text.split("/")
    name, colon, port = host.partition(":")
    if colon and not (port.isdecimal() and folders):
        raise ValueError(f"':{port}' is neither the port of a registry nor part of a folder; leave out a tag")
    dns_name(name)
    for folder in folders:
        _only(folder, _SMALL + "._-", "small letters, digits and . _ -")
        if folder[0] in "._-":
            raise ValueError(f"its part {folder!r} begins with {_said(folder[0])}")
    return scalar(text)


def labels(text: str, anything: str) -> str:
    """Labels as ``key=value,key=value``, or the word ``anything``."""
    if text == anything:
        return text
    if not text:
        raise ValueError(f"it is empty; {anything!r} stands for all pods")
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise ValueError(f"{pair!r} is not key=value")
        prefix, _, name = key.rpartition("/")
        if prefix:
            dns_name(prefix)
        for part in (name, value):
            _label_part(part, pair)
    return text


def _label_part(part: str, pair: str) -> None:
    allowed = string.ascii_letters + string.digits
    try:
        _only(part, allowed + "-._", "letters, digits and - . _")
    except ValueError as error:
        raise ValueError(f"in {pair!r}: {error}") from None
    if not part or part[0] not in allowed or part[-1] not in allowed:
        raise ValueError(f"in {pair!r}: {part!r} does not begin and end with a letter or digit")
    if len(part) > LONGEST_LABEL:
        raise ValueError(f"in {pair!r}: {part!r} has more than {LONGEST_LABEL} characters")


def secret_key(text: str) -> str:
    """A key of a Secret."""
    if not text:
        raise ValueError("it is empty")
    _only(text, string.ascii_letters + string.digits + "-._", "letters, digits and - . _")
    if text == "." or text.startswith(".."):
        raise ValueError("it begins with two dots, or is one")
    if len(text) > LONGEST_KEY:
        raise ValueError(f"it has {len(text)} characters, and {LONGEST_KEY} is the most")
    return text


def scalar(text: str) -> str:
    """A text that stays one when YAML reads it without quotes."""
    try:
        read = yaml_reader.load(text)
    except yaml.YAMLError:
        read = None
    if read != text:
        kind = {bool: "yes or no", int: "a number", float: "a number"}.get(type(read), "something else")
        raise ValueError(f"YAML reads it as {kind}; choose another name")
    return text


def _only(text: str, allowed: str, may_stand: str) -> None:
    if wrong := next((character for character in text if character not in allowed), None):
        raise ValueError(f"{_said(wrong)} cannot stand in it; {may_stand} can")


def _said(character: str) -> str:
    """A character as a person calls it."""
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character in string.ascii_uppercase:
        return f"the capital letter {character!r}"
    if not character.isprintable():
        return f"the control character {character!r}"
    return repr(character)


def _is_ip(text: str) -> bool:
    """Whether a text is an IP address, perhaps in brackets, with a port or a prefix length."""
    bare = re.sub(r"^\[|\](:\d+)?$", "", text)
    for form in (bare, re.sub(r":\d+$", "", bare) if bare.count(":") == 1 else bare, bare.partition("/")[0]):
        try:
            ipaddress.ip_address(form)
        except ValueError:
            continue
        return True
    return False
