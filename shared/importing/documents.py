"""Documents, one or a zip of many, as passages balanced over the documents."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from shared.contracts.errors import UserError
from shared.contracts.imports import Passage
from shared.importing.archive import ZIP, opened_zip, refuse_packed, unpacked
from shared.importing.conversion import ENDINGS, WORD, kind_of, text_of
from shared.importing.extract import BadDocument
from shared.importing.packed import NOISE
from shared.importing.passages import SHORTEST, passages_of
from shared.importing.rows import Progress, unwatched

DOCUMENT_BYTES = 30 * 2**20
ALL_BYTES = 500 * 2**20
ALL_S = 3600.0  # for the conversion of all documents of one file
SPARE = 1.5  # passages per needed one, since some questions are dropped


class NoPassage(UserError):
    code = "no_passage"

    def __init__(self, message: str):
        super().__init__(message, param="file")


def documents(
    path: Path, left_out: Counter[str], on_progress: Progress = unwatched, name: str = ""
) -> Iterator[tuple[str, str]]:
    """(name, text) in order of names. name: of the file itself, where it is a document and no zip. left_out: documents by what
    is the matter with them. on_progress: files. Raises UserError if the file is damaged, too large, or the one bad document.
    """
    if not _is_zip_of_documents(path):
        yield _single(path, name, on_progress)
        return
    read, until = 0, time.monotonic() + ALL_S
    with opened_zip(path) as archive:
        members = sorted(archive.infolist(), key=lambda info: info.filename)
        for number, member in enumerate(members):
            on_progress(number, len(members))
            shown = "".join(c for c in member.filename if c.isprintable())[-150:]
            if (
                not member.filename
                or member.filename.endswith("/")
                or shown.startswith(NOISE[0])
                or shown.endswith(NOISE[1:])
            ):
                continue
            content = unpacked(archive, member, DOCUMENT_BYTES).read()
            read += len(content)
            if read > ALL_BYTES:
                raise UserError(f"the documents are longer than {ALL_BYTES} bytes; divide them", param="file")
            if time.monotonic() > until:
                raise UserError(f"the documents take more than {ALL_S:.0f} s to convert; divide them", param="file")
            try:
                kind = kind_of(shown, content)
                if kind is None:
                    left_out[f"files that are not {', '.join(ENDINGS)}"] += 1
                    continue
                text = text_of(kind, content, lambda number=number: on_progress(number, len(members)))
            except BadDocument as error:
                left_out[f"document: {error}"] += 1
                continue
            yield shown, text


def _is_zip_of_documents(path: Path) -> bool:
    """A DOCX is a zip too, and one document. Raises BadArchive for other archives."""
    with path.open("rb") as file:
        head = file.read(6)
    refuse_packed(head)
    if not head.startswith(ZIP + b"\x03\x04"):
        return False
    with opened_zip(path) as archive:
        return WORD not in archive.namelist()


def _single(path: Path, name: str, on_progress: Progress) -> tuple[str, str]:
    if path.stat().st_size > DOCUMENT_BYTES:
        raise UserError(f"the document is longer than {DOCUMENT_BYTES} bytes; divide it", param="file")
    content = path.read_bytes()
    try:
        kind = kind_of(name, content)
        if kind is None:
            raise BadDocument(f"not {', '.join(ENDINGS)}")
        return name or "document", text_of(kind, content, lambda: on_progress(0, 1))
    except BadDocument as error:
        raise NoPassage(f"the document cannot be read: {error}") from error


def choose(
    path: Path, wanted: int, seed: int, left_out: Counter[str], on_progress: Progress = unwatched, name: str = ""
) -> list[Passage]:
    """Distinct passages, as many as are wanted, taken in turn from each document, in an order by the seed."""
    known: set[str] = set()
    by_document: list[list[Passage]] = []
    for document, text in documents(path, left_out, on_progress, name):
        fresh = []
        for passage in passages_of(document, text):
            if len(passage.text) < SHORTEST:
                left_out[f"documents shorter than {SHORTEST} characters"] += 1
                continue
            words = " ".join(passage.text.casefold().split())
            if words in known:
                left_out["passage stands there twice"] += 1
                continue
            known.add(words)
            fresh.append(passage)
        by_document.append(sorted(fresh, key=lambda one: _draw(seed, one.text)))
    wanted = max(1, wanted)
    turns = [one for turn in zip_longest(*by_document) for one in turn if one is not None]
    if not turns:
        counts = "; ".join(f"{reason} {count}" for reason, count in sorted((+left_out).items()))
        raise NoPassage(f"no passage of at least {SHORTEST} characters" + (f"; left out: {counts}" if counts else ""))
    left_out["passages not needed"] += max(0, len(turns) - wanted)
    return turns[:wanted]


def _draw(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
