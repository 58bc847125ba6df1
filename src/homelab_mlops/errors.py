"""The errors that a person meets. Each says what is wrong, where, and what to do next."""

from __future__ import annotations

import os
import re

# A password that nobody has escaped may hold a slash.
_LOGIN = re.compile(r"(?<=://)(?:[^\s/@]+|[^\s/@:]+:[^\s@]*)@")


def without_login(text: str) -> str:
    """The text with ``USER:PASSWORD@`` or ``TOKEN@`` left out of each address in it."""
    return _LOGIN.sub("", text)


class HomelabError(Exception):
    """Something that the person at the keyboard can mend.

    ``what`` is one sentence; ``where`` is a file with line, an address or an object; ``fix`` is the next thing to do.
    The message leaves out a login in an address.
    ``transient`` says that the same command may succeed in a minute; a workflow tries again on its exit code, 75.
    ``code`` is the doctor's name for it, where it has one.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "", transient: bool = False, code: str = "") -> None:
        what = without_login(what)
        super().__init__(what)
        self.what = what
        self.where = without_login(where)
        self.fix = fix
        self.transient = transient
        self.code = code

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return os.EX_TEMPFAIL if self.transient else 1

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"where: {self.where}")
        if self.fix:
            lines.append(f"fix: {self.fix}")
        return "\n".join(lines)


class SpecError(HomelabError):
    """A model.yaml or another declared file is not valid."""


class ParameterError(HomelabError):
    """A training parameter is unknown or has a value that cannot be used."""


class DataError(HomelabError):
    """A table cannot be read, or does not satisfy its schema."""


class StorageError(HomelabError):
    """A file, a folder or an object store cannot be read or written."""


class TrackingError(HomelabError):
    """The tracking server, its credentials or its artifact store do not work."""


class EvaluationError(HomelabError):
    """A fair comparison of models is not possible."""


class ReplayError(HomelabError):
    """A recorded run cannot be trained again in the same way, or gives another model."""


class RepositoryError(HomelabError):
    """The git repository or its manifests are not valid."""


class ClusterError(HomelabError):
    """The cluster cannot be reached, or did not reach the awaited state."""


class BackupError(HomelabError):
    """A backup cannot be taken, proven or restored; the code says which fault it is."""


class DoctorError(HomelabError):
    """The doctor cannot look at anything: this is no finding, and no warning that a script may allow."""

    @property
    def exit_code(self) -> int:
        """The exit code of a broken platform, where another try does not help."""
        return os.EX_TEMPFAIL if self.transient else 2


class ToolError(HomelabError):
    """A program that is called (git, kustomize, Go, ...) is missing or failed."""
