"""A document's text as passages of a bounded length, in order and without a gap: every word stands in one passage.

Markdown's blocks (headings, paragraphs, tables, fenced code) stay whole where they are short enough. What is longer is cut at the
ends of lines (code, tables) or sentences (prose), then at spaces, then anywhere. Time grows with the length only.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.contracts.imports import Passage

LONGEST, SHORTEST = 1500, 200  # characters of a passage; one is longer by a shorter rest that would stand alone
LONGEST_HEADING = 300  # characters of what a passage stands under
HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
LINE_END = re.compile(r"\n")
SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]")
SPACE = re.compile(r"\s")


@dataclass
class Block:
    """text: its lines. level: of a heading, 1 to 6. by_line: it is cut at the ends of lines. header: of a table, for its later parts."""

    text: str
    level: int = 0
    by_line: bool = False
    header: str = ""


def blocks_of(text: str) -> Iterator[Block]:
    """Blocks in order. Together they have all lines of the text but the blank ones between blocks."""
    held: list[str] = []
    fence = ""
    for line in text.splitlines():
        if fence:
            held.append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield Block("\n".join(held), by_line=True)
                held, fence = [], ""
            continue
        opened, heading = FENCE.match(line), HEADING.match(line)
        if held and (opened or heading or not line.strip()):
            yield _paragraph(held)
            held = []
        if opened:
            fence, held = opened.group(1), [line]
        elif heading:
            yield Block(line, level=len(heading.group(1)))
        elif line.strip():
            held.append(line)
    if held:
        yield Block("\n".join(held), by_line=True) if fence else _paragraph(held)


def _paragraph(lines: list[str]) -> Block:
    text = "\n".join(lines)
    if len(lines) > 1 and "|" in lines[0] and TABLE_RULE.match(lines[1]):
        return Block(text, by_line=True, header="\n".join(lines[:2]))
    return Block(text)


def pieces(block: Block) -> Iterator[str]:
    """The block's text in parts of LONGEST characters at most."""
    ends = (LINE_END, SPACE) if block.by_line else (SENTENCE_END, LINE_END, SPACE)
    text, at = block.text, 0
    while len(text) - at > LONGEST:
        cut = next((end_at for end in ends if (end_at := _last(end, text, at))), at + LONGEST)
        yield text[at:cut]
        at = cut
    yield text[at:]


def _last(end: re.Pattern[str], text: str, at: int) -> int:
    """Behind the last place where a part of LONGEST characters may end, in its second half; 0 when there is none."""
    return max((match.end() for match in end.finditer(text, at + LONGEST // 2, at + LONGEST)), default=0)


@dataclass
class _Cutter:
    """Joins blocks to passages. titles: by level, those that are in force."""

    made: list[tuple[str, list[str]]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    length: int = 0
    under: str = ""
    titles: dict[int, str] = field(default_factory=dict)

    def add(self, part: str, under: str) -> None:
        if self.length >= SHORTEST and self.length + len(part) > LONGEST:
            self.end()
        if not self.held:
            self.under = under
        self.held.append(part)
        self.length += len(part)

    def heading(self, block: Block) -> None:
        if self.length >= SHORTEST:
            self.end()
        self.titles = {level: title for level, title in self.titles.items() if level < block.level}
        self.add(block.text, self.path())
        match = HEADING.match(block.text)
        self.titles[block.level] = match.group(2) if match else ""

    def path(self) -> str:
        return " > ".join(title for _, title in sorted(self.titles.items()) if title)[-LONGEST_HEADING:]

    def end(self) -> None:
        """What is held becomes a passage. What is too short for one is joined with the passage before it."""
        if self.length < SHORTEST and self.made:
            self.made[-1][1].extend(self.held)
        elif self.held:
            self.made.append((self.under, self.held))
        self.held, self.length = [], 0


def passages_of(name: str, text: str) -> list[Passage]:
    """Passages with the headings that they stand under. A document that is shorter than SHORTEST is one short passage."""
    cutter = _Cutter()
    for block in blocks_of(text.replace("\x00", "")):
        if block.level and len(block.text) <= LONGEST:
            cutter.heading(block)
            continue
        path = cutter.path()
        for number, part in enumerate(pieces(block)):
            header = "\n".join(filter(None, (path, block.header[:LONGEST_HEADING]))) if number else path
            if part.strip():
                cutter.add(part.lstrip("\n").rstrip(), header)
    cutter.end()
    return [
        Passage(id=f"{name}#{number}", document=name, text="\n\n".join(parts), heading=under)
        for number, (under, parts) in enumerate(cutter.made, start=1)
    ]
