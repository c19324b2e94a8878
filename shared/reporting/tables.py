"""A table of texts, as every form of a report draws it."""

from typing import NamedTuple


class TextTable(NamedTuple):
    head: list[str]
    rows: list[list[str]]
