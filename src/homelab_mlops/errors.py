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
    A login in an address is left out.
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
        """What the command ends with."""
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
    """A model cannot be compared honestly."""


class ReplayError(HomelabError):
    """A recorded run cannot be trained again as it was, or did not give the same model."""


class RepositoryError(HomelabError):
    """The git repository or its manifests are not as they have to be."""


class ClusterError(HomelabError):
    """The cluster cannot be reached, or is not in the state that was waited for."""


class DoctorError(HomelabError):
    """The doctor cannot look: no finding, and no warning that a script may allow."""

    @property
    def exit_code(self) -> int:
        """That of what is broken, where trying again does not help."""
        return os.EX_TEMPFAIL if self.transient else 2


class ToolError(HomelabError):
    """A program that is called (git, kustomize, Go, ...) is missing or failed."""
