"""Where the backups go: one address and its credential, from the environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.errors import without_login

REMOTE = ("sftp:", "s3:", "rest:")
# What restic takes from this process; the store's own keys are not among it, since a target `s3:` has others.
_INHERITED = ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMAXPROCS", "GOGC")


@dataclass(frozen=True)
class Target:
    """A restic repository.

    Attributes:
        address: `sftp:USER@HOST:/PATH`, `s3:https://HOST/BUCKET`, `rest:https://HOST/NAME`, or a folder.
        password: what restic encrypts with.
        keys: the access key and the secret key of a target `s3:`.
        login: user and password of a target `rest:`.
        ssh_key: the file with the private key of a target `sftp:`.
        known_hosts: the file with the host keys that a target `sftp:` may have.
        append_only: whether the target refuses to delete, so that old backups are removed by another hand.
    """

    address: str
    password: str = field(repr=False)
    keys: tuple[str, str] = field(default=("", ""), repr=False)
    login: tuple[str, str] = field(default=("", ""), repr=False)
    ssh_key: str = ""
    known_hosts: str = ""
    append_only: bool = False

    @property
    def where(self) -> str:
        """The address without a login, for a message."""
        return without_login(self.address)

    @property
    def folder(self) -> Path | None:
        """The folder of a target on this machine: a volume, NFS or USB."""
        return None if self.address.startswith(REMOTE) else Path(self.address)

    @property
    def options(self) -> list[str]:
        """Options of every call of restic."""
        if not self.address.startswith("sftp:"):
            return []
        ssh = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=20"]
        ssh += ["-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=4"]
        if self.known_hosts:
            ssh += ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
        if self.ssh_key:
            ssh += ["-o", "IdentitiesOnly=yes", "-i", self.ssh_key]
        return ["-o", f"sftp.args={shlex.join(ssh)}"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of restic."""
        secrets = {
            "RESTIC_REPOSITORY": self.address,
            "RESTIC_PASSWORD": self.password,
            "AWS_ACCESS_KEY_ID": self.keys[0],
            "AWS_SECRET_ACCESS_KEY": self.keys[1],
            "RESTIC_REST_USERNAME": self.login[0],
            "RESTIC_REST_PASSWORD": self.login[1],
        }
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return inherited | {name: value for name, value in secrets.items() if value}


def target_of(environ: Mapping[str, str]) -> Target:
    """The target that the variables ``BACKUP_...`` name.

    Raises:
        BackupError: there is none, it has no password, or its address is none that restic knows.
    """
    address = environ.get("BACKUP_TARGET", "").strip()
    if not address:
        raise fault(
            Fault.NOT_SET_UP,
            "no backup is set up: nothing names a target",
            where="environment",
            fix="set BACKUP_TARGET to sftp:USER@HOST:/PATH, s3:https://HOST/BUCKET, rest:https://HOST/NAME or a folder",
        )
    if not address.startswith((*REMOTE, "/")):
        raise fault(
            Fault.NOT_SET_UP,
            "the target of the backups is none of sftp:, s3:, rest: and an absolute folder",
            where=f"BACKUP_TARGET={address}",
            fix="write it as sftp:USER@HOST:/PATH, s3:https://HOST/BUCKET, rest:https://HOST/NAME or /FOLDER",
        )
    if not environ.get("BACKUP_PASSWORD"):
        raise fault(
            Fault.NOT_SET_UP, "the password of the backups is not set", where="environment", fix="set BACKUP_PASSWORD"
        )
    return Target(
        address,
        environ["BACKUP_PASSWORD"],
        (environ.get("BACKUP_ACCESS_KEY", ""), environ.get("BACKUP_SECRET_KEY", "")),
        (environ.get("BACKUP_USERNAME", ""), environ.get("BACKUP_LOGIN_PASSWORD", "")),
        environ.get("BACKUP_SSH_KEY_FILE", ""),
        environ.get("BACKUP_KNOWN_HOSTS_FILE", ""),
        _is_yes(environ.get("BACKUP_APPEND_ONLY", "")),
    )


def _is_yes(text: str) -> bool:
    if text.lower() in ("", "false"):
        return False
    if text.lower() == "true":
        return True
    raise fault(
        Fault.NOT_SET_UP, f"BACKUP_APPEND_ONLY is {text!r}", where="environment", fix="set it to true or to false"
    )
