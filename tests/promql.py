"""Which series and labels an expression of PromQL reads. Enough for the rules and boards of deploy/."""

import re
from typing import NamedTuple

WORDS = frozenset(
    [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "and",
        "or",
        "unless",
        "bool",
        "offset",
        "inf",
        "nan",
    ]
)
SPACE_VARIABLES = re.compile(r"\$__\w+|\[[^\]]*\]")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()\s*(\{[^}]*\})?")
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str

    @property
    def values(self) -> list[str]:
        """What it compares with, one by one."""
        return self.value.split("|") if "~" in self.operator else [self.value]


class Reads(NamedTuple):
    """series: name -> matchers of each selector. grouped: labels that anything is grouped or joined by."""

    series: dict[str, list[Matcher]]
    grouped: set[str]


def reads(expression: str) -> Reads:
    text = re.sub(r"#.*", "", expression)
    grouped = {label.strip() for labels in GROUPING.findall(text) for label in labels.split(",")} - {""}
    text = GROUPING.sub(" ", text)
    text = SPACE_VARIABLES.sub(" ", text)
    series: dict[str, list[Matcher]] = {}
    for name, matchers in SELECTOR.findall(text):
        if name.lower() in WORDS:
            continue
        series.setdefault(name, []).extend(Matcher(*one) for one in MATCHER.findall(matchers))
    return Reads(series, grouped)
