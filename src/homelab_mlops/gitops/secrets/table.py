"""The credentials of a cluster: declared in one table, generated once, sealed for each consumer.

The sealed files are the only record: the private key reads every value back. So a second run repairs an interrupted
one, and changes nothing else.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import secrets
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import bcrypt
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops import names
from homelab_mlops.gitops.secrets.encrypt import seal, strict_label, try_unseal, unseal
from homelab_mlops.gitops.secrets.sealing_key import SealingKey
from homelab_mlops.gitops.secrets.unseal import label_of
from homelab_mlops.gitops.settings import CLUSTER
from homelab_mlops.gitops.yaml_loader import dump
from homelab_mlops.location import SECRETS
from homelab_mlops.manifests import yaml_reader
from homelab_mlops.manifests.strict_yaml import read_model

TABLE = SECRETS
# Argo CD's own install lies beside the settings, not in overlays/.
ARGO_CD_SEALED = Path("clusters") / CLUSTER / "argo-cd" / "sealed"
KUSTOMIZATION = Path("kustomization.yaml")
CHECKSUM = "homelab-mlops/checksum"
BEFORE_WORKLOADS = "-10"
# A Secret that is patched has to be there, and to allow it, before its SealedSecret.
AFTER_ALL = "10"
# Should the Secret not be there after all, the one that the controller makes is no more its own.
_PATCHES = {
    "sealedsecrets.bitnami.com/patch": "true",
    "sealedsecrets.bitnami.com/skip-set-owner-references": "true",
}
WRITTEN = "# Written by `homelab init` and `homelab seal`."
REFERENCE = re.compile(r"\$\{([a-z0-9/_-]+)\.([A-Za-z0-9_.-]+)\}")
# The fields of a password that is `hashed`, as Argo CD reads it.
HASH, HASHED_AT = "bcrypt", "changed"
HASHED_BYTES = 72
# The form of a hash, which no password has.
_NO_HASH = "$2a$10$" + "." * 53
_LETTERS_AND_DIGITS = string.ascii_letters + string.digits

Values = dict[tuple[str, str], str]
"""The value of each field of each credential, by (credential, field); a byte that is no UTF-8 is a lone surrogate."""


def as_text(value: bytes) -> str:
    """The bytes of a value as ``Values`` hold them."""
    return value.decode("utf-8", "surrogateescape")


def as_bytes(value: str) -> bytes:
    """The bytes of a value of ``Values``."""
    return value.encode("utf-8", "surrogateescape")


def _credential_name(text: str) -> str:
    """The name of a credential; that of a Secret of one's own is NAMESPACE/NAME, with each dot as an underscore."""
    for part in text.split("/", 1):
        check = names.dns_name if "_" in part else names.dns_label
        check(part.replace("_", "."))
    return text


def credential_of(secret: str) -> str:
    """The credential of a Secret of one's own. In a reference a dot ends the credential's name."""
    return secret.replace(".", "_")


def _secret_name(text: str) -> str:
    """The name of a Secret, which is also a label's value and the name of its file."""
    if len(text) > names.LONGEST_LABEL:
        raise ValueError(f"it has {len(text)} characters, and {names.LONGEST_LABEL} is the most, as in a label")
    check = names.dns_name if "." in text else names.dns_label
    if check(text) == KUSTOMIZATION.stem:
        raise ValueError(f"{KUSTOMIZATION} in its folder is another file")
    return text


def secret_name(text: str) -> str:
    """The name, if a Secret of this repository can have it.

    Raises:
        RepositoryError: it cannot.
    """
    try:
        return _secret_name(text)
    except ValueError as error:
        raise RepositoryError(f"{text!r} cannot be the name of a Secret: {error}", fix=_near(text)) from error


def _near(text: str) -> str:
    parts = (re.sub(r"[^a-z0-9]+", "-", part).strip("-") for part in text.lower().split("."))
    near = ".".join(filter(None, parts))[: names.LONGEST_LABEL].strip("-.")
    return f"such as {near!r}" if near not in ("", text, KUSTOMIZATION.stem) else "choose another name"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Credential(_Strict):
    """A generated credential, or with ``given`` one that a person brings. The Secrets that name it share it."""

    kind: Literal["password", "s3-user", "given"]
    username: str | None = Field(None, description="fixed name that belongs to a password")
    login: str | None = Field(None, description="where a person types it; such a credential is shown once by `init`")
    fields: list[str] = Field([], description="given: the fields that a person brings")
    hashed: bool = Field(False, description="its bcrypt hash, and when that was made, are fields too")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "given") != bool(self.fields):
            raise ValueError("`fields` belongs to the kind `given`, and to no other")
        if (self.username is not None or self.hashed) and self.kind != "password":
            raise ValueError("`username` and `hashed` belong to the kind `password`")
        return self

    @property
    def names(self) -> list[str]:
        """The names of its fields."""
        match self.kind:
            case "password":
                return [*self.constants, "password", *self.derived]
            case "s3-user":
                return ["accessKey", "secretKey", "previousAccessKey", "previousSecretKey"]
            case "given":
                return self.fields

    @property
    def constants(self) -> dict[str, str]:
        """The fields that the table fixes."""
        return {} if self.username is None else {"username": self.username}

    @property
    def derived(self) -> list[str]:
        """The fields that follow from the password."""
        return [HASH, HASHED_AT] if self.hashed else []

    def generate(self) -> dict[str, str]:
        """New values of the other fields; a secret one has at least 190 bits of entropy."""
        match self.kind:
            case "password":
                return {"password": _random(_LETTERS_AND_DIGITS, 32)}
            case "s3-user":
                return {
                    "accessKey": _random(string.ascii_uppercase + string.digits, 20),
                    "secretKey": _random(_LETTERS_AND_DIGITS, 40),
                    "previousAccessKey": "",
                    "previousSecretKey": "",
                }
            case "given":
                return dict.fromkeys(self.fields, "")


class SecretSpec(_Strict):
    """One Secret of one consumer."""

    name: Annotated[str, AfterValidator(_secret_name)]
    namespace: Annotated[str, AfterValidator(names.dns_label)]
    purpose: str
    keys: Annotated[dict[str, str], Field(min_length=1)]
    labels: dict[str, str] = {}
    type: str = "Opaque"
    patches: bool = Field(False, description="the Secret is someone else's, whose other keys and labels stay")

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> Path:
        """Where the SealedSecret lies in the repository."""
        folder = Path("overlays") / CLUSTER / self.namespace / "sealed"
        return (ARGO_CD_SEALED if self.namespace == "argo-cd" else folder) / f"{self.name}.yaml"

    @property
    def own(self) -> str:
        """The one credential whose fields, under their own names, are the Secret's keys; else nothing."""
        found = {(match[1], match[2] == key) for key, text in self.keys.items() if (match := REFERENCE.fullmatch(text))}
        if len(found) != 1 or len(self.references()) != len(self.keys):
            return ""
        credential, same = found.pop()
        return credential if same else ""

    def references(self) -> set[tuple[str, str]]:
        """The fields of credentials that its keys name."""
        return {(match[1], match[2]) for text in self.keys.values() for match in REFERENCE.finditer(text)}

    def data(self, values: Values) -> dict[str, str]:
        """The content of the Secret."""
        return {key: _filled(text, key, values) for key, text in self.keys.items()}

    def recover(self, data: dict[str, str]) -> Values:
        """The fields of credentials that the content ``data`` of the Secret holds."""
        values: Values = {}
        for key, text in self.keys.items():
            references = list(REFERENCE.finditer(text))
            pattern = "".join(
                re.escape(part) if index % 3 == 0 else "(.*)" if index % 3 == 1 else ""
                for index, part in enumerate(REFERENCE.split(text))
            )
            found = re.fullmatch(pattern, data.get(key, ""), flags=re.DOTALL) if key in data else None
            if found is not None:
                for reference, value in zip(references, found.groups(), strict=True):
                    values.setdefault((reference[1], reference[2]), _read_back(value, text, key))
        return values


class SecretTable(_Strict):
    """``clusters/homelab/secrets.yaml``: which Secret exists where, with which keys, and which share a credential."""

    credentials: dict[Annotated[str, AfterValidator(_credential_name)], Credential]
    secrets: list[SecretSpec]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = set()
        for spec in self.secrets:
            for credential, field in sorted(spec.references()):
                if credential not in self.credentials:
                    raise ValueError(f"the Secret {spec.id} names the credential {credential!r}, which is not declared")
                if field not in self.credentials[credential].names:
                    raise ValueError(
                        f"the Secret {spec.id} names {credential}.{field}; "
                        f"its fields are {', '.join(self.credentials[credential].names)}"
                    )
                named.add(credential)
        if unused := sorted(set(self.credentials) - named):
            raise ValueError(f"no Secret names the credential {unused[0]!r}")
        ids = [spec.id for spec in self.secrets]
        if repeated := sorted({spec_id for spec_id in ids if ids.count(spec_id) > 1}):
            raise ValueError(f"the Secret {repeated[0]} is declared twice")
        return self


class Sealed(NamedTuple):
    """What lies in the repository for one Secret.

    Attributes:
        encrypted: the sealed values that the certificate's own private key opens for this Secret.
        data: the values of these, and of those that another private key of this machine opens.
        closed: the sealed values that no private key of this machine opens.
    """

    encrypted: dict[str, str]
    data: dict[str, str]
    closed: dict[str, str]


def load_table(root: Path) -> SecretTable:
    """The table of the repository in ``root``."""
    return read_model(root / TABLE, SecretTable, RepositoryError)


def read_sealed(root: Path, table: SecretTable, key: SealingKey) -> dict[str, Sealed]:
    """The content of each sealed Secret, unsealed with the private key, by ``namespace/name``.

    Raises:
        RepositoryError: a file is not a SealedSecret, or the private key that opens a value is not here.
    """
    sealed = open_sealed(root, table, key)
    for spec in table.secrets:
        for name, text in sealed[spec.id].closed.items() if spec.id in sealed else ():
            if name not in spec.keys:
                continue
            try:
                unseal(text, namespace=spec.namespace, name=spec.name, private=key.privates()[0])
            except RepositoryError as error:
                raise RepositoryError(error.what, where=f"{spec.path}: {name}", fix=error.fix) from error
    return sealed


def open_sealed(root: Path, table: SecretTable, key: SealingKey) -> dict[str, Sealed]:
    """What is sealed already, by ``namespace/name``: opened as far as private keys of this machine open it.

    Raises:
        RepositoryError: a file is not a SealedSecret, or the certificate's private key is not here.
    """
    documents = [(spec, _document(root, spec)) for spec in table.secrets if (root / spec.path).is_file()]
    if not any(encrypted for _, (_, encrypted) in documents):
        return {spec.id: Sealed({}, {}, {}) for spec, _ in documents}
    privates = key.privates()
    return {spec.id: _opened(spec, label, encrypted, privates) for spec, (label, encrypted) in documents}


def everything_is_sealed(root: Path, table: SecretTable) -> bool:
    """Whether each declared key of each Secret is sealed, whatever its value."""
    return all(
        (root / spec.path).is_file() and set(_document(root, spec)[1]) >= set(spec.keys) for spec in table.secrets
    )


def recover_values(table: SecretTable, sealed: dict[str, Sealed]) -> Values:
    """The values that are sealed already. Where Secrets disagree, the first one in the table counts."""
    values: Values = {}
    for spec in table.secrets:
        if spec.id in sealed:
            values = {**spec.recover(sealed[spec.id].data), **values}
    return values


def complete_values(table: SecretTable, values: Values) -> tuple[Values, list[str]]:
    """``values`` with every missing credential generated, and the names of the generated ones."""
    generated = []
    complete = dict(values)
    for name, credential in table.credentials.items():
        complete.update({(name, field): value for field, value in credential.constants.items()})
        used = {field for spec in table.secrets for owner, field in spec.references() if owner == name}
        used -= set(credential.derived)
        missing = sorted(field for field in used if (name, field) not in complete)
        new = credential.generate() if missing else {}
        complete.update({(name, field): new[field] for field in missing})
        if any(new[field] for field in missing):
            generated.append(name)
    return _with_hashes(table, complete), generated


def seal_values(
    root: Path, table: SecretTable, values: Values, sealed: dict[str, Sealed], key: SealingKey
) -> dict[Path, str]:
    """The files to write, with their text, so that the Secrets hold ``values``. Files that are right are left out.

    A key that somebody has sealed into a file, and that the table does not know, stays in it.
    """
    public = key.public()
    values = _with_hashes(table, values)

    def sealed_secret(spec: SecretSpec) -> str:
        old = sealed.get(spec.id, Sealed({}, {}, {}))
        wanted = spec.data(values)
        extras = {name: value for name, value in old.data.items() if name not in wanted}
        encrypted = {}
        for name, value in {**wanted, **extras}.items():
            if name in old.encrypted and old.data.get(name) == value:
                encrypted[name] = old.encrypted[name]
            else:
                encrypted[name] = seal(as_bytes(value), namespace=spec.namespace, name=spec.name, public=public)
        unopened = {name: text for name, text in old.closed.items() if name not in wanted}
        return render_sealed_secret(spec, {**encrypted, **unopened})

    return changed_files(root, table, map(sealed_secret, table.secrets))


def _with_hashes(table: SecretTable, values: Values) -> Values:
    """The values, with a new hash of each password that the old one does not fit."""
    found = dict(values)
    for name in (name for name, credential in table.credentials.items() if credential.hashed):
        password = as_bytes(values[name, "password"])
        if len(password) > HASHED_BYTES:
            raise RepositoryError(
                f"the password has {len(password)} bytes, more than the {HASHED_BYTES} that bcrypt reads",
                where=name,
                fix="choose a shorter one",
            )
        if not bcrypt.checkpw(password, values.get((name, HASH), _NO_HASH).encode()):
            found[name, HASH] = bcrypt.hashpw(password, bcrypt.gensalt(rounds=10, prefix=b"2a")).decode()
            found[name, HASHED_AT] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


def skeletons(root: Path, table: SecretTable) -> dict[Path, str]:
    """The files, with their text, of a repository whose Secrets are declared but not sealed yet."""
    return changed_files(
        root, table, [render_sealed_secret(spec, dict.fromkeys(spec.keys, "")) for spec in table.secrets]
    )


def changed_files(root: Path, table: SecretTable, texts: Iterable[str]) -> dict[Path, str]:
    """The files in ``sealed/`` folders that must change, with their new text."""
    files = dict(zip((spec.path for spec in table.secrets), texts, strict=True))
    for folder in sorted({path.parent for path in files}):
        declared = {path.name for path in files if path.parent == folder}
        files[folder / KUSTOMIZATION] = _kustomization(sorted(declared | _brought(root / folder)))
    return {
        root / path: text
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    }


def _brought(folder: Path) -> set[str]:
    """What the kustomization of a folder names beside the files of the table: a person has put it there."""
    path = folder / KUSTOMIZATION
    try:
        resources = yaml_reader.load(path.read_text(encoding="utf-8")).get("resources") or []
    except (OSError, yaml.YAMLError, AttributeError):
        return set()
    return {
        str(name)
        for name in resources
        if "://" in str(name) or ((folder / str(name)).exists() and not _is_written_here(folder / str(name)))
    }


def _is_written_here(path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(WRITTEN)


def render_sealed_secret(spec: SecretSpec, encrypted: dict[str, str]) -> str:
    """The SealedSecret of ``spec``: strict scope, one consumer."""
    checksum = hashlib.sha256(json.dumps(encrypted, sort_keys=True).encode()).hexdigest()[:16]
    labels = {
        "app.kubernetes.io/name": spec.name,
        "app.kubernetes.io/part-of": "homelab-mlops",
        "app.kubernetes.io/managed-by": "sealed-secrets",
    }
    document = {
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": labels,
            "annotations": {
                "argocd.argoproj.io/sync-wave": AFTER_ALL if spec.patches else BEFORE_WORKLOADS,
                CHECKSUM: checksum,
                "kubernetes.io/description": spec.purpose,
            },
        },
        "spec": {
            "encryptedData": encrypted,
            "template": {
                # The controller writes the type too, so that of a Secret which it patches is said.
                **({} if spec.type == "Opaque" and not spec.patches else {"type": spec.type}),
                "metadata": {
                    "name": spec.name,
                    "namespace": spec.namespace,
                    **({"annotations": _PATCHES} if spec.patches else {"labels": {**labels, **spec.labels}}),
                },
            },
        },
    }
    return f"{WRITTEN}\n" + dump(document, width=4096)


def _kustomization(names: list[str]) -> str:
    return "\n".join(
        [
            "# yaml-language-server: $schema=https://json.schemastore.org/kustomization.json",
            WRITTEN,
            "apiVersion: kustomize.config.k8s.io/v1beta1",
            "kind: Kustomization",
            "resources:",
            *(f"  - {name}" for name in names),
            "",
        ]
    )


def _document(root: Path, spec: SecretSpec) -> tuple[bytes, dict[str, str]]:
    """The label that the values of a Secret's file are bound to, and the values that are not empty."""
    try:
        document = yaml_reader.load((root / spec.path).read_text(encoding="utf-8"))
        values = document["spec"].get("encryptedData") or {}
        return label_of(document["metadata"]), {name: text for name, text in values.items() if text}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise RepositoryError(
            "not a SealedSecret",
            where=str(spec.path),
            fix="bring back the file from git, or delete it and run "
            "`homelab init`, which makes what it can generate and asks for the rest",
        ) from error


def _filled(text: str, key: str, values: Values) -> str:
    """``text`` with its credentials; in a text of several parts, whose ``key`` ends with json, the value is JSON."""

    def written(match: re.Match[str]) -> str:
        value = values[match[1], match[2]]
        return json.dumps(value)[1:-1] if _is_json(text, key) else value

    return REFERENCE.sub(written, text)


def _is_json(text: str, key: str) -> bool:
    """Whether the credentials in ``text`` are parts of JSON; what a person brings whole is not changed."""
    return key.endswith("json") and REFERENCE.fullmatch(text) is None


def _read_back(value: str, text: str, key: str) -> str:
    return str(json.loads(f'"{value}"')) if _is_json(text, key) else value


def _opened(spec: SecretSpec, label: bytes, encrypted: dict[str, str], privates: list[rsa.RSAPrivateKey]) -> Sealed:
    strict = strict_label(spec.namespace, spec.name)
    attempts = [(each, private) for private in privates for each in dict.fromkeys([strict, label])]
    sealed = Sealed({}, {}, {})
    for name, text in encrypted.items():
        found = next(
            ((attempt, value) for attempt in attempts if (value := try_unseal(str(text), *attempt)) is not None), None
        )
        if found is None:
            sealed.closed[name] = str(text)
            continue
        sealed.data[name] = as_text(found[1])
        if found[0] == (strict, privates[0]):
            sealed.encrypted[name] = str(text)
    return sealed


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
