"""A zip of Markdown or text documents as passages, balanced over the documents."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from shared.contracts.errors import UserError
from shared.contracts.imports import DocumentsOptions, Passage
from shared.importing.archive import opened_zip, refuse_packed, unpacked
from shared.importing.rows import Progress, unwatched

ENDINGS = (".md", ".markdown", ".txt", ".rst")
DOCUMENT_BYTES = 10 * 2**20
ALL_BYTES = 200 * 2**20
LONGEST, SHORTEST = 1500, 200  # characters of a passage
SPARE = 1.5  # passages per needed one, since some questions are dropped
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")


def documents(path: Path, left_out: Counter[str], on_progress: Progress = unwatched) -> Iterator[tuple[str, str]]:
    """(name, text) in order of names. on_progress: files. Raises UserError if the file is no zip, damaged or too large."""
    with path.open("rb") as file:
        refuse_packed(file.read(6))
    read = 0
    with opened_zip(path) as archive:
        members = sorted(archive.infolist(), key=lambda info: info.filename)
        for number, member in enumerate(members):
            on_progress(number, len(members))
            name = "".join(c for c in member.filename if c.isprintable())[-150:]
            if member.is_dir() or not name.lower().endswith(ENDINGS):
                left_out["not Markdown or text"] += not member.is_dir()
                continue
            content = unpacked(archive, member, DOCUMENT_BYTES).read()
            read += len(content)
            if read > ALL_BYTES:
                raise UserError(f"the documents are longer than {ALL_BYTES} bytes; split them", param="file")
            try:
                yield name, content.decode("utf-8-sig").replace("\x00", "")
            except UnicodeDecodeError:
                left_out["not UTF-8"] += 1


def passages_of(name: str, text: str) -> list[Passage]:
    """Whole paragraphs up to LONGEST characters with their heading; shorter ones than SHORTEST are joined with the next."""
    parts: list[str] = []
    heading, held = "", ""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = paragraph.strip()
        match = HEADING.match(paragraph.partition("\n")[0])
        if (match and len(held) >= SHORTEST) or len(held) + len(paragraph) > LONGEST:
            parts += [held] if len(held) >= SHORTEST else []
            held = "" if match or not heading else f"{heading}\n\n"
        heading = match.group(1) if match else heading
        held += paragraph[:LONGEST] + "\n\n"
    parts += [held] if len(held.strip()) >= SHORTEST else []
    return [Passage(id=f"{name}#{n}", document=name, text=part.strip()) for n, part in enumerate(parts, start=1)]


def choose(
    path: Path, options: DocumentsOptions, left_out: Counter[str], on_progress: Progress = unwatched
) -> list[Passage]:
    """Distinct passages for the requested number of questions, taken in turn from each document, in an order by the seed."""
    known: set[str] = set()
    by_document: list[list[Passage]] = []
    for name, text in documents(path, left_out, on_progress):
        fresh = []
        for passage in passages_of(name, text):
            words = " ".join(passage.text.casefold().split())
            if words in known:
                left_out["passage stands there twice"] += 1
                continue
            known.add(words)
            fresh.append(passage)
        by_document.append(sorted(fresh, key=lambda one: _draw(options.seed, one.text)))
    wanted = max(1, round(SPARE * options.questions / options.per_passage))
    turns = [one for turn in zip_longest(*by_document) for one in turn if one is not None]
    if not turns:
        raise UserError(
            f"no passage of at least {SHORTEST} characters; Markdown or text files in UTF-8 are expected", param="file"
        )
    left_out["passages not needed"] += max(0, len(turns) - wanted)
    return turns[:wanted]


def _draw(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
