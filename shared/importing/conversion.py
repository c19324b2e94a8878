"""The text of one document of any kind that is read. What a stranger's parser would see is parsed in a process with limits."""

import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from shared.importing import extract
from shared.importing.archive import BROKEN, ZIP, BadArchive, Limited
from shared.importing.extract import BAD, BadDocument

TEXTS = (".md", ".markdown", ".txt", ".rst", ".text", ".adoc", ".org")
HTMLS = (".html", ".htm", ".xhtml")
ENDINGS = (*TEXTS, *HTMLS, ".pdf", ".docx")
OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
UNPACKED_BYTES = 100 * 2**20  # of a DOCX, which is a zip
PDF_WITHIN = 1024  # bytes, in which a PDF's mark may stand
WORD = "word/document.xml"
WALL_S = 120.0  # for one document
LOOK_S = 0.2
ROOT = str(Path(__file__).parents[2])
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment: no key reaches the process


def kind_of(name: str, content: bytes) -> str | None:
    """pdf, docx, html or text, by the content; a name decides between HTML and text. None: no document by its name.

    Raises BadDocument for what is none that is read, whatever its name says.
    """
    ending = Path(name).suffix.lower()
    if b"%PDF-" in content[:PDF_WITHIN]:
        return "pdf"
    if content.startswith(OFFICE):
        raise BadDocument("old or encrypted Office file; save it as DOCX without a password")
    if content.startswith(ZIP + b"\x03\x04"):
        if WORD in _members(content):
            return "docx"
        raise BadDocument("archive or Office file that is not DOCX; export it as PDF or text")
    begin = content[:PDF_WITHIN].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if begin.startswith((b"<!doctype html", b"<html")) or (ending in HTMLS and begin.startswith(b"<")):
        return "html"
    if ending in (".pdf", ".docx"):
        raise BadDocument(f"no {ending[1:].upper()}, whatever its name says")
    return "text" if ending in (*TEXTS, *HTMLS) or not ending else None


def _members(content: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.namelist()
    except BROKEN as error:
        raise BadDocument("damaged ZIP or DOCX") from error


def _check_size(content: bytes) -> None:
    """Raises BadDocument for a bomb."""
    left = UNPACKED_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with (
                    archive.open(member) as packed,
                    io.BufferedReader(Limited(packed, member.compress_size, left)) as file,
                ):
                    while chunk := file.read(1 << 20):
                        left -= len(chunk)
    except BadArchive as error:
        raise BadDocument(f"DOCX that cannot be unpacked: {error.message}") from error
    except BROKEN as error:
        raise BadDocument("encrypted or damaged DOCX") from error


def unlooked() -> None:
    """Nobody stops the conversion."""


def text_of(kind: str, content: bytes, look: Callable[[], None] = unlooked) -> str:
    """The document's text as Markdown. look: called while it is waited for; an exception from it ends the process.

    Raises BadDocument.
    """
    if kind == "text":
        return extract.plain_text(content)
    if kind == "docx":
        _check_size(content)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as made:
        given.write(content)
        given.seek(0)
        code = _run(kind, given.fileno(), made.fileno(), look)
        made.seek(0)
        result = made.read(extract.TEXT_BYTES + 1).decode(errors="replace")
    if code == BAD:
        raise BadDocument(result[:500])
    if code != 0 or len(result) > extract.TEXT_BYTES:
        raise BadDocument(f"{kind.upper()} that takes too much time or memory to be read; divide it")
    return result


def _run(kind: str, given: int, made: int, look: Callable[[], None]) -> int:
    """The exit code; below zero for a process that was ended by its limits or by WALL_S."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.importing.extract", kind],
        stdin=given,
        stdout=made,
        stderr=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": os.pathsep.join([ROOT, *filter(None, sys.path)])},
        start_new_session=True,
    )
    until = time.monotonic() + WALL_S
    try:
        while time.monotonic() < until:
            try:
                return process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                look()
        return -1
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
