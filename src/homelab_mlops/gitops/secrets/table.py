"""The credentials of a cluster: declared in one table, generated once, sealed for each consumer.

The sealed files are the only record: the private key reads every value back. So a second run repairs an interrupted
one, and changes nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.secrets.encrypt import seal, unseal
from homelab_mlops.gitops.secrets.sealing_key import SealingKey, read_certificate, read_private
from homelab_mlops.gitops.settings import CLUSTER
from homelab_mlops.location import SECRETS
from homelab_mlops.manifests.strict_yaml import read_model

TABLE = SECRETS
# Argo CD's own install lies beside the settings, not in overlays/.
ARGO_CD_SEALED = Path("clusters") / CLUSTER / "argo-cd" / "sealed"
CHECKSUM = "homelab-mlops/checksum"
BEFORE_WORKLOADS = "-10"
_WRITTEN = "# Written by `homelab init` and `homelab seal`."
REFERENCE = re.compile(r"\$\{([a-z0-9-]+)\.([A-Za-z0-9_.-]+)\}")
_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_LETTERS_AND_DIGITS = string.ascii_letters + string.digits

Values = dict[tuple[str, str], str]
"""The value of each field of each credential, by (credential, field)."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Credential(_Strict):
    """A generated credential, or with ``given`` one that a person brings. The Secrets that name it share it."""

    kind: Literal["password", "s3-user", "given"]
    username: str | None = Field(None, description="fixed name that belongs to a password")
    login: str | None = Field(None, description="where a person types it; such a credential is shown once by `init`")
    fields: list[str] = Field([], description="given: the fields that a person brings")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "given") != bool(self.fields):
            raise ValueError("`fields` belongs to the kind `given`, and to no other")
        if self.username is not None and self.kind != "password":
            raise ValueError("`username` belongs to the kind `password`")
        return self

    @property
    def names(self) -> list[str]:
        """The names of its fields."""
        match self.kind:
            case "password":
                return [*self.constants, "password"]
            case "s3-user":
                return ["accessKey", "secretKey", "previousAccessKey", "previousSecretKey"]
            case "given":
                return self.fields

    @property
    def constants(self) -> dict[str, str]:
        """The fields that the table fixes."""
        return {} if self.username is None else {"username": self.username}

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

    name: Annotated[str, Field(pattern=_NAME)]
    namespace: Annotated[str, Field(pattern=_NAME)]
    purpose: str
    keys: Annotated[dict[str, str], Field(min_length=1)]
    labels: dict[str, str] = {}
    type: str = "Opaque"

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> Path:
        """Where the SealedSecret lies in the repository."""
        folder = Path("overlays") / CLUSTER / self.namespace / "sealed"
        return (ARGO_CD_SEALED if self.namespace == "argo-cd" else folder) / f"{self.name}.yaml"

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
                    values.setdefault((reference[1], reference[2]), _read_back(value, key))
        return values


class SecretTable(_Strict):
    """``clusters/homelab/secrets.yaml``: which Secret exists where, with which keys, and which share a credential."""

    credentials: dict[Annotated[str, Field(pattern=_NAME)], Credential]
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
    """The file of one Secret in the repository."""

    encrypted: dict[str, str]
    data: dict[str, str]


def load_table(root: Path) -> SecretTable:
    """The table of the repository in ``root``."""
    return read_model(root / TABLE, SecretTable, RepositoryError)


def read_sealed(root: Path, table: SecretTable, key: SealingKey) -> dict[str, Sealed]:
    """The content of each sealed Secret, unsealed with the private key, by ``namespace/name``.

    Raises:
        RepositoryError: a file is not a SealedSecret, or the private key that opens it is not here.
    """
    encrypted = [(spec, _encrypted(root, spec)) for spec in table.secrets if (root / spec.path).is_file()]
    if not any(texts for _, texts in encrypted):
        return {spec.id: Sealed({}, {}) for spec, _ in encrypted}
    if key.private is None:
        raise RepositoryError("the private sealing key is not on this machine", fix="name it with --key-file")
    private = read_private(key.private)
    return {spec.id: Sealed(texts, _opened(spec, texts, private)) for spec, texts in encrypted}


def everything_is_sealed(root: Path, table: SecretTable) -> bool:
    """Whether each declared key of each Secret is sealed, whatever its value."""
    return all((root / spec.path).is_file() and set(_encrypted(root, spec)) == set(spec.keys) for spec in table.secrets)


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
        missing = sorted(field for field in used if (name, field) not in complete)
        new = credential.generate() if missing else {}
        complete.update({(name, field): new[field] for field in missing})
        if any(new[field] for field in missing):
            generated.append(name)
    return complete, generated


def seal_values(
    root: Path, table: SecretTable, values: Values, sealed: dict[str, Sealed], key: SealingKey
) -> dict[Path, str]:
    """The files to write, with their text, so that the Secrets hold ``values``. Files that are right are left out."""

    public = read_certificate(key.certificate)

    def sealed_secret(spec: SecretSpec) -> str:
        old = sealed.get(spec.id, Sealed({}, {}))
        encrypted = {}
        for name, value in spec.data(values).items():
            if name in old.encrypted and old.data.get(name) == value:
                encrypted[name] = old.encrypted[name]
            else:
                encrypted[name] = seal(value.encode(), namespace=spec.namespace, name=spec.name, public=public)
        return render_sealed_secret(spec, encrypted)

    return changed_files(root, table, map(sealed_secret, table.secrets))


def skeletons(root: Path, table: SecretTable) -> dict[Path, str]:
    """The files, with their text, of a repository whose Secrets are declared but not sealed yet."""
    return changed_files(
        root, table, [render_sealed_secret(spec, dict.fromkeys(spec.keys, "")) for spec in table.secrets]
    )


def changed_files(root: Path, table: SecretTable, texts: Iterable[str]) -> dict[Path, str]:
    """The files in ``sealed/`` folders that must change, with their new text."""
    files = dict(zip((spec.path for spec in table.secrets), texts, strict=True))
    for folder in sorted({path.parent for path in files}):
        files[folder / "kustomization.yaml"] = _kustomization(sorted(p.name for p in files if p.parent == folder))
    return {
        root / path: text
        for path, text in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    }


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
                "argocd.argoproj.io/sync-wave": BEFORE_WORKLOADS,
                CHECKSUM: checksum,
                "kubernetes.io/description": spec.purpose,
            },
        },
        "spec": {
            "encryptedData": encrypted,
            "template": {
                **({} if spec.type == "Opaque" else {"type": spec.type}),
                "metadata": {
                    "name": spec.name,
                    "namespace": spec.namespace,
                    "labels": {**labels, **spec.labels},
                },
            },
        },
    }
    return f"{_WRITTEN}\n" + yaml.safe_dump(document, sort_keys=False, width=4096)


def _kustomization(names: list[str]) -> str:
    return "\n".join(
        [
            "# yaml-language-server: $schema=https://json.schemastore.org/kustomization.json",
            _WRITTEN,
            "apiVersion: kustomize.config.k8s.io/v1beta1",
            "kind: Kustomization",
            "resources:",
            *(f"  - {name}" for name in names),
            "",
        ]
    )


def _encrypted(root: Path, spec: SecretSpec) -> dict[str, str]:
    try:
        document = yaml.safe_load((root / spec.path).read_text(encoding="utf-8"))
        return {name: text for name, text in document["spec"]["encryptedData"].items() if text}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise RepositoryError(
            "not a SealedSecret", where=str(spec.path), fix="delete the file and run `homelab init`"
        ) from error


def _filled(text: str, key: str, values: Values) -> str:
    """``text`` with its credentials; the value of a ``key`` whose name ends with json is JSON."""

    def written(match: re.Match[str]) -> str:
        value = values[match[1], match[2]]
        return json.dumps(value)[1:-1] if key.endswith("json") else value

    return REFERENCE.sub(written, text)


def _read_back(text: str, key: str) -> str:
    return str(json.loads(f'"{text}"')) if key.endswith("json") else text


def _opened(spec: SecretSpec, encrypted: dict[str, str], private: rsa.RSAPrivateKey) -> dict[str, str]:
    data = {}
    for key, text in encrypted.items():
        try:
            data[key] = unseal(text, namespace=spec.namespace, name=spec.name, private=private).decode()
        except RepositoryError as error:
            raise RepositoryError(error.what, where=f"{spec.path}: {key}", fix=error.fix) from error
        except UnicodeDecodeError as error:
            raise RepositoryError("the value is not UTF-8 text", where=f"{spec.path}: {key}") from error
    return data


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
