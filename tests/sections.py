"""The parts of a page that are made from the code, each between two comments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """What stands between ``<!-- begin of NAME -->`` and ``<!-- end of NAME -->``."""

    name: str

    @property
    def marks(self) -> tuple[str, str]:
        return f"<!-- begin of {self.name} -->", f"<!-- end of {self.name} -->"

    def read(self, page: str) -> str:
        """The section as the page has it."""
        begin, end = self.marks
        return page.partition(begin)[2].partition(end)[0].strip()

    def written(self, page: str, content: str) -> str:
        """The page with the section made anew."""
        begin, end = self.marks
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        return f"{before}{begin}\n\n{content}\n\n{end}{after}"
