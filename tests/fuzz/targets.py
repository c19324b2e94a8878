"""What is fuzzed: bytes of a stranger in, and either a result or the documented error out. Anything else is a finding."""

import asyncio
import atexit
import hashlib
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request

from services.api.features.files.service import clean_filename
from services.api.features.files.upload import received_upload
from shared.contracts.data import LineError, Question, Reading, bounded_lines, parse_line, parse_lines, split_of
from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions
from shared.contracts.imports import StackExchangeOptions
from shared.contracts.steps import canonical
from shared.importing.dataset import DataFile
from shared.importing.rows import checked_rows
from shared.importing.stackexchange import read_posts

LIMIT = 50_000  # longest upload
MOST_PIECES = 64  # that a body arrives in
# in memory where there is a place for that; removed at the end
FOLDER = Path(tempfile.mkdtemp(prefix="meteor-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
tempfile.tempdir = str(FOLDER)  # SQLite's files too
LOOP = asyncio.new_event_loop()


def expect(holds: bool, about: object) -> None:
    if not holds:
        raise AssertionError(repr(about))


def jsonl(data: bytes) -> None:
    """A dataset: every line is a row or an error that names it; a row can be written and read again."""
    reading = Reading()
    for item in parse_lines(bounded_lines(io.BytesIO(data)), reading):
        if isinstance(item, LineError):
            expect(item.line >= 1 and bool(item.code and item.message), item)
            item.model_dump_json().encode()
            continue
        again = parse_line(1, canonical(item.model_dump(mode="json", exclude_none=True)))
        assert isinstance(again, Question)
        assert again == item
        assert split_of(item, 0.15, 0.2) == split_of(again, 0.15, 0.2)
    canonical(dict(reading.ignored))


def posts(data: bytes) -> None:
    """Posts.xml or an archive: rows that an upload takes, or a UserError."""
    path = FOLDER / "Posts.xml"
    path.write_bytes(data)
    left_out: Counter[str] = Counter()
    options = StackExchangeOptions(site="x.org", min_score=-1000, min_answer_score=-1000)
    try:
        for row in checked_rows(read_posts(path, options, left_out), left_out):
            expect(bool(row["question"] and row["source"]), row)
            assert isinstance(parse_line(1, canonical(row)), Question)
    except UserError as error:
        expect((error.status, error.param) == (400, "file"), error)


def multipart(data: bytes) -> None:
    """An upload: the first line is the content type, the next byte the length of the pieces, the rest the body."""
    kind, _, rest = data.partition(b"\n")
    body = rest[1:]
    step = max(rest[0] if rest else 1, len(body) // MOST_PIECES, 1)
    pieces = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)

    async def receive() -> dict:
        return next(waiting)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"",
        "headers": [(b"content-type", kind)],
    }

    async def upload() -> None:
        try:
            async with received_upload(Request(scope, receive), FOLDER, LIMIT) as got:
                content = got.path.read_bytes()
                assert (got.size, got.sha256) == (len(content), hashlib.sha256(content).hexdigest())
                assert len(content) <= LIMIT
                name = clean_filename(got.filename)
                expect("/" not in name and name.isprintable() and 1 <= len(name) <= 255, name)
                (name + got.purpose).encode()
        except UserError as error:
            expect(error.status in (400, 413), error)

    LOOP.run_until_complete(upload())
    assert not list(FOLDER.glob(".upload-*"))


MAPPINGS = (  # the first byte of the input chooses one
    {},
    {"question": "a.*.b", "reference": "c+d"},
    {"question": "column_1", "reference": "column_2"},
    {"messages": "talk", "reference": ""},
)


def data(content: bytes) -> None:
    """A data file of any format: every row can be written and read again, every error names its place; or a UserError."""
    path = FOLDER / "data"
    path.write_bytes(content[1:])
    mapping = MAPPINGS[content[0] % 16] if content and content[0] % 16 < len(MAPPINGS) else {}
    try:
        file = DataFile.open(path, ReadOptions.model_validate({"mapping": mapping}))
        for item in file.rows(Reading()):
            item.model_dump_json().encode()
            if isinstance(item, LineError):
                expect(item.line >= 1 and bool(item.code and item.message), item)
            else:
                expect(bool(item.question.strip()) and bool(item.id), item)
    except UserError as error:
        expect(error.status == 400 and error.param == "file", error)


TARGETS: dict[str, Callable[[bytes], None]] = {"jsonl": jsonl, "posts": posts, "multipart": multipart, "data": data}
