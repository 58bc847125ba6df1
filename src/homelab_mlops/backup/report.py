"""What a drill has proven: ``drill.json`` for scripts, ``drill.html`` for people."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from homelab_mlops.backup.snapshots import Snapshot
from homelab_mlops.errors import HomelabError
from homelab_mlops.gitops.files import write_file
from homelab_mlops.model.promotion import Named
from homelab_mlops.pages import template

JSON, PAGE = "drill.json", "drill.html"
# A drill is made each week; one that is older than this proves nothing any more.
VALID_DAYS = 8


class Check(NamedTuple):
    """One thing that a backup has to be."""

    name: str
    passed: bool
    text: str
    fix: str = ""


@dataclass
class Report:
    """A drill: what it looked at, and the error that ended it."""

    at: datetime.datetime
    snapshot: Snapshot | None = None
    checks: list[Check] = field(default_factory=list)
    champions: dict[str, Named] = field(default_factory=dict)
    error: HomelabError | None = None
    seconds: float = 0.0

    @property
    def proven(self) -> bool:
        return self.error is None and self.snapshot is not None

    def of(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def passed(self, name: str, text: str) -> None:
        self.checks.append(Check(name, True, text))

    def fail(self, error: HomelabError) -> None:
        self.error = error
        where = f" ({error.where})" if error.where else ""
        self.checks.append(Check(error.code or "drill", False, f"{error.what}{where}", error.fix))

    def described(self) -> dict[str, Any]:
        """For a script."""
        return {
            "proven": self.proven,
            "at": self.at.isoformat(timespec="seconds"),
            "valid_until": (self.at + datetime.timedelta(days=VALID_DAYS)).isoformat(timespec="seconds"),
            "snapshot": self.snapshot.id if self.snapshot else None,
            "sequence": self.snapshot.sequence if self.snapshot else None,
            "taken": self.snapshot.time.isoformat(timespec="seconds") if self.snapshot else None,
            "checks": [check._asdict() for check in self.checks],
            "champions": {name: named._asdict() for name, named in sorted(self.champions.items())},
            "error": self.error.code if self.error else None,
            "seconds": self.seconds,
        }

    def write(self, folder: Path) -> None:
        """Writes both files into ``folder``; each appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        content = self.described()
        page = template("homelab_mlops.backup", "drill.html.j2").render(**content)
        written = {JSON: json.dumps(content, indent=2) + "\n", PAGE: page}
        for name, text in written.items():
            write_file(folder / name, text.encode())
