"""PostgreSQL through its own client: dumps, and what a dump says of itself."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from homelab_mlops.backup.faults import Fault, fault
from homelab_mlops.errors import ToolError

SECONDS = 3600.0
# Between the columns of an answer; no name has it.
SEPARATOR = "\x1f"
# What the last backup has is found again in a dump only where nothing is compressed; restic compresses it afterwards.
_PLAIN_DUMP = ("--format=custom", "--compress=0", "--lock-wait-timeout=60s")
# A name that is quoted nowhere wrongly, and that PostgreSQL does not cut when a restore lengthens it.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,49}")
_AWAY = r"connection refused|could not translate|no route to host|timeout expired|starting up|shutting down|terminated"


@dataclass(frozen=True)
class Postgres:
    """A database of a server. The password travels in the environment, which the process list does not show."""

    host: str
    port: str
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = ""

    @property
    def where(self) -> str:
        return f"database {self.database} at {self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        settings = {
            "PGHOST": self.host,
            "PGPORT": self.port,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": self.sslmode,
            "PGCONNECT_TIMEOUT": "10",
            "LC_ALL": "C",
        }
        return {"PATH": os.environ.get("PATH", ""), **{name: value for name, value in settings.items() if value}}

    def named(self, database: str) -> Postgres:
        """Another database of the same server."""
        return replace(self, database=database)


def postgres_of(uri: str) -> Postgres:
    """The database of an address ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.

    Raises:
        BackupError: it is none.
    """
    address = urlsplit(uri)
    options = dict(parse_qsl(address.query))
    database = unquote(address.path.lstrip("/"))
    host = options.get("host") or address.hostname or ""
    if address.scheme.partition("+")[0] not in ("postgresql", "postgres") or not host or not _NAME.fullmatch(database):
        raise fault(
            Fault.NOT_SET_UP,
            "the address of a database is not postgresql://USER:PASSWORD@HOST:5432/DATABASE",
            where="environment",
            fix="set MLFLOW_BACKEND_STORE_URI and MLFLOW_AUTH_DATABASE_URI; a name has letters, digits, _ and -",
        )
    return Postgres(
        host,
        str(address.port or options.get("port") or 5432),
        unquote(address.username or ""),
        unquote(address.password or ""),
        database,
        options.get("sslmode", ""),
    )


def databases_of(environ: Mapping[str, str]) -> list[Postgres]:
    """MLflow's two databases: that of the tracking server first, then that of its logins.

    Raises:
        BackupError: an address is missing, or none.
    """
    found = [postgres_of(environ.get(name, "")) for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_AUTH_DATABASE_URI")]
    if found[0].database == found[1].database:
        raise fault(
            Fault.NOT_SET_UP,
            f"both databases are {found[0].database}",
            where="environment",
            fix="MLflow's logins have a database of their own: set MLFLOW_AUTH_DATABASE_URI",
        )
    return found


def dump(database: Postgres, file: Path) -> None:
    """Writes a database into a file, once it is whole.

    Raises:
        BackupError: the server does not answer, refuses, or the dump is not whole.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    call("pg_dump", [*_PLAIN_DUMP, f"--file={partial}"], database)
    hold_whole(partial)
    partial.replace(file)


def hold_whole(file: Path) -> None:
    """Checks that PostgreSQL reads a dump to its end.

    Raises:
        BackupError: it does not.
    """
    _restored_text(file, "--file=/dev/null")


def schema_of(file: Path) -> str:
    """The version of MLflow's tables in a dump; empty where the dump has no such table."""
    text = _restored_text(file, "--data-only", "--table=alembic_version", "--file=-")
    found = re.search(r"^COPY \S*alembic_version .*\n(\S+)$", text, re.MULTILINE)
    return found[1] if found and found[1] != "\\." else ""


def _restored_text(file: Path, *options: str) -> str:
    finished = run("pg_restore", [*options, str(file)], {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"})
    if finished.returncode:
        raise fault(
            Fault.DUMP,
            f"the dump is not whole: {last_line(finished.stderr)}",
            where=file.name,
            fix="the database may have been stopped meanwhile; take another backup, or an older one",
        )
    return finished.stdout


def call(program: str, arguments: list[str], database: Postgres) -> str:
    """What a program of PostgreSQL's client prints.

    Raises:
        BackupError: the server does not answer, or refuses.
    """
    finished = run(program, arguments, database.environment)
    if finished.returncode:
        error = fault(
            Fault.DATABASE,
            f"{program} fails: {last_line(finished.stderr)}",
            where=database.where,
            fix="check that PostgreSQL runs, the password, and that the client is not older than the server",
        )
        error.transient = re.search(_AWAY, finished.stderr, re.IGNORECASE) is not None
        raise error
    return finished.stdout


def execute(server: Postgres, *statements: str) -> str:
    """What statements answer, a row a line; several take effect together, or not at all.

    Raises:
        BackupError: the server does not answer, or refuses.
    """
    options = ["-X", "-q", "-t", "-A", "-F", SEPARATOR, "-v", "ON_ERROR_STOP=1"]
    options += ["--single-transaction"] if len(statements) > 1 else []
    commands = [word for statement in statements for word in ("-c", statement)]
    return call("psql", [*options, *commands], server).strip()


def restored(file: Path, server: Postgres, name: str) -> None:
    """Makes the database ``name`` from a dump, in place of any of that name.

    Raises:
        BackupError: the server does not answer, or refuses.
    """
    execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    execute(server, f'CREATE DATABASE "{name}" TEMPLATE template0')
    options = ["--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}", str(file)]
    call("pg_restore", options, server.named(name))


def run(program: str, arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a program of PostgreSQL's client.

    Raises:
        ToolError: it is not here.
        BackupError: it does not come to an end.
    """
    found = shutil.which(program)
    if not found:
        raise ToolError(
            f"{program} is not here", where="PATH", fix="run this in the image `backup`, or install postgresql-client"
        )
    try:
        return subprocess.run(  # noqa: S603
            [found, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise fault(Fault.DATABASE, f"{program} did not end within {SECONDS:.0f} s", where="PostgreSQL") from error


def last_line(text: str) -> str:
    """The line of an error that says most: the first one of PostgreSQL's own."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line or "FATAL:" in line), lines[-1] if lines else "")[:300]


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, which need not fit into the memory."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
