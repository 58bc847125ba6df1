"""The declared buckets of the object store, and the access of its users: one strict YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from homelab_mlops.errors import SpecError
from homelab_mlops.manifests.strict_yaml import read_model

Access = Literal["read", "write", "read-write"]
BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
UserName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
READ = ["s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject"]
ADD = ["s3:PutObject"]
WRITE = [*ADD, "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
ACTIONS: dict[Access, list[str]] = {"read": READ, "write": ADD, "read-write": [*READ, *WRITE]}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bucket(_Strict):
    versioning: bool = False
    expire_days: Annotated[int, Field(ge=1)] | None = Field(None, description="objects are deleted after these days")
    expire_noncurrent_days: Annotated[int, Field(ge=1)] | None = Field(
        None, description="what was overwritten or deleted is kept for these days"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.expire_noncurrent_days is not None and not self.versioning:
            raise ValueError("expire_noncurrent_days needs versioning")
        return self


class Declaration(_Strict):
    """Buckets by name; users by consumer, each with its access by bucket."""

    buckets: dict[BucketName, Bucket]
    users: dict[UserName, dict[str, Access]]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for user, access in self.users.items():
            if unknown := sorted(set(access) - set(self.buckets)):
                raise ValueError(f"the user {user} names the bucket {unknown[0]!r}, which is not declared")
        return self

    def policy(self, user: str) -> dict[str, Any]:
        """The S3 policy of a user: its buckets and nothing else."""
        statements = [
            {
                "Effect": "Allow",
                "Action": ACTIONS[access],
                "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            }
            for bucket, access in sorted(self.users[user].items())
        ]
        return {"Version": "2012-10-17", "Statement": statements}


def load(path: Path) -> Declaration:
    """Reads and checks a declaration.

    Raises:
        SpecError: it is not YAML, or breaks a rule.
    """
    return read_model(path, Declaration, SpecError)
