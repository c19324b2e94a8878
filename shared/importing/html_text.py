"""HTML of a post as plain text with light markup: fenced code, lists, quotes, links. HTML of a document also with headings and tables.

libxml2 parses, since it accepts broken input and builds no tree here; its depth is bounded.
"""

import re
from typing import Any

import lxml.etree

BLOCKS = frozenset(
    [
        "p",
        "div",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "blockquote",
        "ul",
        "ol",
        "li",
        "pre",
        "hr",
        "table",
        "tr",
        "dl",
        "dt",
        "dd",
    ]
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
SILENT = frozenset(("script", "style", "head", "title"))
SPACES = re.compile(r"[ \t\r\n\f\v]+")
TICKS = re.compile(r"`+")
DEEPEST = 5  # maximum indent of quotes and lists


class _Text:
    """Target of lxml's parser. blocks: finished paragraphs. The open one is a list of pieces.

    markdown: headings begin with #, and a row of a table is one line.
    """

    def __init__(self, markdown: bool = False) -> None:
        self.blocks: list[str] = []
        self._markdown = markdown
        self._row = 0  # open rows of tables, one in another
        self._cells = 0  # of the open row
        self._rows: list[str] = []  # finished rows of the table
        self._open: list[str] = []
        self._first = ""  # list marker of the next block
        self._quotes = 0
        self._silent = 0
        self._pre = 0
        self._lists: list[int] = []  # of the enclosing lists: the next number, 0 for bullets
        self._links: list[tuple[str, int]] = []  # href, and the number of pieces before it

    def start(self, tag: str, attributes: Any) -> None:
        if tag in SILENT:
            self._silent += 1
        if tag in BLOCKS:
            self._boundary()
        if tag == "blockquote":
            self._quotes += 1
        elif tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else 0)
        elif tag == "li":
            self._item()
        elif tag == "pre":
            self._pre += 1
        elif tag == "code" and not self._pre:
            self._open.append("`")
        elif tag == "br":
            self._open.append("\n")
        elif tag in ("td", "th"):
            self._open.append(" | " if self._row and self._cells else " ")
            self._cells += 1
        elif self._markdown and tag == "tr":
            self._row += 1
            self._cells = 0
        elif self._markdown and tag in HEADINGS and not self._row:
            self._first = "#" * int(tag[1]) + " "
        elif tag == "a":
            self._links.append((attributes.get("href") or "", len(self._open)))
        elif tag == "img" and attributes.get("alt"):
            self._open.append(f"[image: {attributes['alt']}]")

    def _item(self) -> None:
        number = self._lists[-1] if self._lists else 0
        self._first = "  " * min(len(self._lists) - 1, DEEPEST) + (f"{number}. " if number else "- ")
        if number:
            self._lists[-1] += 1

    def end(self, tag: str) -> None:
        if tag in SILENT:
            self._silent -= 1
        if tag == "pre":
            self._fence()
            self._pre -= 1
        elif self._markdown and tag == "tr":
            self._end_row()
        elif tag in BLOCKS:
            self._boundary()
        if tag == "table":
            self._end_table()
        elif tag == "blockquote":
            self._quotes -= 1
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "code" and not self._pre:
            self._open.append("`")
        elif tag == "a" and self._links:
            href, before = self._links.pop()
            if href.startswith(("http://", "https://")) and href not in "".join(self._open[before:]):
                self._open.append(f" ({href})")

    def data(self, text: str) -> None:
        if not self._silent:
            self._open.append(text if self._pre else SPACES.sub(" ", text))

    def comment(self, text: str) -> None:
        """Comments are dropped."""

    def _fence(self) -> None:
        if self._row:  # in a cell: a part of its line
            return
        code = "".join(self._open).strip("\r\n")
        self._open.clear()
        if code.strip():
            ticks = "`" * max(3, 1 + max((len(run) for run in TICKS.findall(code)), default=0))
            self._close(f"{ticks}\n{code}\n{ticks}")

    def _boundary(self) -> None:
        """Begin or end of a block. In a row of a table it is a space."""
        if self._row:
            self._open.append(" ")
        else:
            self.flush()

    def _end_row(self) -> None:
        self._row = max(0, self._row - 1)
        if not self._row:
            row = SPACES.sub(" ", "".join(self._open)).strip()
            self._open.clear()
            self._rows += [row] if row.strip("| ") else []

    def _end_table(self) -> None:
        if self._rows and not self._row:
            head, *rest = self._rows
            self._rows = []
            rule = [" | ".join(["---"] * (head.count(" | ") + 1))] if rest and " | " in head else []
            self._close("\n".join([head, *rule, *rest]))

    def flush(self) -> None:
        lines = (line.strip() for line in "".join(self._open).split("\n"))
        self._open.clear()
        if text := "\n".join(line for line in lines if line):
            self._end_table()  # its rows stand before the text
            self._close(text)

    def _close(self, text: str) -> None:
        quote = "> " * min(self._quotes, DEEPEST)
        text = self._first + text
        self.blocks.append("\n".join(quote + line for line in text.split("\n")) if quote else text)
        self._first = ""

    def close(self) -> str:
        self._row = 0
        self._end_table()
        self.flush()
        return "\n\n".join(self.blocks)


def html_to_text(html: str) -> str:
    """Plain text of a fragment of HTML, empty if it cannot be parsed."""
    return _parsed(html, _Text())


def html_to_markdown(html: str) -> str:
    """Text of a document with headings and tables, empty if it cannot be parsed."""
    return _parsed(html, _Text(markdown=True))


def _parsed(html: str, target: _Text) -> str:
    if not html.strip():
        return ""
    parser = lxml.etree.HTMLParser(target=target, encoding="utf-8", no_network=True, recover=True)
    try:
        parser.feed(html.encode())
        return parser.close()
    except lxml.etree.XMLSyntaxError:  # for example nothing but a comment
        return target.close()
