"""A fault that a check found, and that the doctor reports."""

from __future__ import annotations

from collections.abc import Callable

from homelab_mlops.doctor.faults import FAULTS, Severity
from homelab_mlops.errors import ClusterError, HomelabError, RepositoryError, StorageError, TrackingError


class Finding(HomelabError):  # noqa: N818 - what is found; an error only where it is raised
    """A fault that a check found. The check yields it, or raises it where it cannot look any further."""

    def __init__(
        self,
        code: str,
        where: str,
        what: str = "",
        fix: str = "",
        *,
        about: str = "",
        severity: Severity | None = None,
    ) -> None:
        """``about`` is the object at fault; two checks that find the same of it give one finding."""
        self.about = about or where
        self.fault = FAULTS[code]
        self.severity: Severity = severity or self.fault.severity
        transient = self.fault.transient
        super().__init__(
            what or self.fault.title, where=where, fix=fix or self.fault.fix, transient=transient, code=code
        )

    def as_error(self) -> HomelabError:
        """The same, as the error of a command that cannot go on."""
        kinds: dict[str, Callable[..., HomelabError]] = {
            "tracking": TrackingError,
            "store": StorageError,
            "cluster": ClusterError,
            "gitops": RepositoryError,
        }
        kind = kinds[self.fault.group]
        return kind(self.what, where=self.where, fix=self.fix, transient=self.transient, code=self.code)
