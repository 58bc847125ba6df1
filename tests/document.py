"""Writes the tables of docs/ that are made from the code: `make docs`."""

from __future__ import annotations

from tests.unit.doctor import document as codes
from tests.unit.review import document as rules
from tests.unit.security import document as logins

if __name__ == "__main__":
    for document in (codes, rules, logins):
        document.DOCUMENT.write_text(document.with_tables(document.DOCUMENT.read_text()))
