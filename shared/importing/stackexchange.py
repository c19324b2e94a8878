"""A Stack Exchange dump: questions with their accepted answers out of Posts.xml, in constant memory.

Posts are in any order, so the file is read twice: first for the selected questions, which go into a temporary SQLite file, then for
their accepted answers. The texts are CC BY-SA: every row names links, authors and licence in `source`.
"""

import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from shared.contracts.errors import UserError
from shared.contracts.imports import StackExchangeOptions
from shared.importing.archive import ZIP, member_named, opened_zip, refuse_packed, unpacked
from shared.importing.html_text import html_to_text
from shared.importing.rows import Progress, Row, unwatched

# The paper's fields by tag, narrower ones first: a question on deep learning for images counts as computer vision.
PAPER = {
    "nlp": "natural language processing",
    "computer-vision": "computer vision",
    "deep-learning": "deep learning",
    "machine-learning": "machine learning",
}
QUESTION, ANSWER = "1", "2"
TAGS = re.compile(r"[^<>|]+")
NUMBER = re.compile(r"-?[0-9]{1,18}")
CHUNK = 1 << 16
LONGEST_POST = 4 * 2**20  # bytes of XML; the longest texts of a site have 30,000 characters
MOST_NAMES = 100  # distinct attributes; a dump has 25
LONGEST_MEMBER = 2**40
SITE = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:(?:stackexchange|stackoverflow|superuser|serverfault|askubuntu|stackapps)\.com|mathoverflow\.net)"
)
LICENCES = {
    "2018-05-02": "CC BY-SA 4.0",
    "2011-04-08": "CC BY-SA 3.0",
    "2008-01-01": "CC BY-SA 2.5",
}  # from that day on
Post = dict[str, str]


class NotADump(UserError):
    code = "invalid_dump"

    def __init__(self, message: str):
        super().__init__(f"{message}; Posts.xml of a Stack Exchange dump is expected", param="file")


def site_of(name: str) -> str | None:
    """The site that a file or folder of a dump is named after, such as stats.stackexchange.com.7z."""
    match = SITE.search(name.lower())
    return match.group() if match else None


class _Posts:
    """Handlers of expat's parser. They build no tree and refuse document types, so that no entity can be expanded."""

    def __init__(self) -> None:
        self.rows: list[Post] = []
        self.parser = expat.ParserCreate("utf-8", intern=None)
        self.parser.StartElementHandler = self._start
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._names: set[str] = set()

    def _start(self, name: str, attributes: Post) -> None:
        if name not in ("posts", "row"):
            raise NotADump(f"an element {name[:50]!r} stands in the file")
        self._names.update(attributes)
        if len(self._names) > MOST_NAMES:
            raise NotADump("rows have too many different attributes")
        if name == "row":
            self.rows.append(attributes)

    def _doctype(self, *_: object) -> None:
        raise NotADump("the file declares a document type, which could define entities")


def posts(file: BinaryIO, on_bytes: Callable[[int], None] = lambda _: None) -> Iterator[Post]:
    """The attributes of every <row>, in the order of the file. Raises NotADump."""
    handlers = _Posts()
    parser, fed = handlers.parser, 0
    try:
        while chunk := file.read(CHUNK):
            parser.Parse(chunk, False)
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > LONGEST_POST:
                raise NotADump(f"a row is longer than {LONGEST_POST} bytes")
            yield from handlers.rows
            handlers.rows.clear()
            on_bytes(fed)
        parser.Parse(b"", True)
        yield from handlers.rows
    except expat.ExpatError as error:
        raise NotADump(f"not well-formed XML: {error}") from error


@contextmanager
def _opened(path: Path) -> Generator[tuple[BinaryIO, int]]:
    """The XML as a stream, out of a zip if the file is one, and its length. Raises BadArchive."""
    with path.open("rb") as file:
        head = file.read(6)
    refuse_packed(head)
    if head.startswith(ZIP):
        with opened_zip(path) as archive:
            member = member_named(archive, "Posts.xml")
            with unpacked(archive, member, LONGEST_MEMBER) as file:
                yield file, member.file_size
    else:
        with path.open("rb") as file:
            yield file, path.stat().st_size


def read_posts(
    path: Path, options: StackExchangeOptions, left_out: Counter[str], on_progress: Progress = unwatched
) -> Iterator[Row]:
    """Rows by falling score. left_out: counts of skipped questions by reason, complete once the rows are exhausted.

    Raises UserError if the file is no dump, or nobody says of which site. on_progress: bytes of both passes.
    """
    if options.site is None:
        raise UserError(
            "the links and authors of the posts need the site: name it as `site`, such as stats.stackexchange.com",
            param="source.site",
            code="missing_required_parameter",
        )
    categories = _categories(options)
    with tempfile.TemporaryDirectory(prefix="meteor-posts-") as folder:
        kept = sqlite3.connect(Path(folder) / "posts.sqlite3", isolation_level=None)
        try:
            kept.executescript(SCHEMA)
            with _opened(path) as (file, size):
                _keep_questions(
                    kept, posts(file, lambda fed: on_progress(fed, 2 * size)), categories, options, left_out
                )
            with _opened(path) as (file, size):
                _keep_answers(kept, posts(file, lambda fed: on_progress(size + fed, 2 * size)), options, left_out)
            yield from _joined(kept, options, left_out)
        finally:
            kept.close()


SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
CREATE TABLE question (id INTEGER PRIMARY KEY, accepted INTEGER, score INTEGER, category TEXT, title TEXT, body TEXT,
                       author TEXT, licence TEXT);
CREATE UNIQUE INDEX accepted ON question (accepted);
CREATE TABLE answer (id INTEGER PRIMARY KEY, body TEXT, author TEXT, licence TEXT);
"""


def _categories(options: StackExchangeOptions) -> dict[str, str] | None:
    """Category by tag, in order of precedence. None: every question, without a category."""
    given = {tag: tag for tag in options.tags}
    if options.preset == "paper":
        return PAPER | given
    return given or None


def _keep_questions(
    kept: sqlite3.Connection,
    dump: Iterator[Post],
    categories: dict[str, str] | None,
    options: StackExchangeOptions,
    left_out: Counter[str],
) -> None:
    for post in dump:
        if post.get("PostTypeId") != QUESTION:
            continue
        number, accepted = _number(post, "Id"), _number(post, "AcceptedAnswerId")
        tags = set(TAGS.findall(post.get("Tags", "")))
        category = next((name for tag, name in (categories or {}).items() if tag in tags), None)
        score = _number(post, "Score") or 0
        if categories is not None and category is None:
            left_out["other tags"] += 1
        elif number is None or accepted is None:
            left_out["no accepted answer"] += 1
        elif score < options.min_score:
            left_out["low score"] += 1
        else:
            values = (number, accepted, score, category, post.get("Title"), post.get("Body"), *_author(post, options))
            done = kept.execute("INSERT OR IGNORE INTO question VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            left_out["stands there twice"] += 1 - done.rowcount


def _keep_answers(
    kept: sqlite3.Connection, dump: Iterator[Post], options: StackExchangeOptions, left_out: Counter[str]
) -> None:
    for post in dump:
        number = _number(post, "Id")
        if post.get("PostTypeId") != ANSWER or number is None:
            continue
        if kept.execute("SELECT 1 FROM question WHERE accepted = ?", (number,)).fetchone() is None:
            continue
        if (_number(post, "Score") or 0) < options.min_answer_score:
            left_out["low score of the answer"] += 1
            kept.execute("DELETE FROM question WHERE accepted = ?", (number,))
        else:
            values = (number, post.get("Body"), *_author(post, options))
            kept.execute("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", values)


def _joined(kept: sqlite3.Connection, options: StackExchangeOptions, left_out: Counter[str]) -> Iterator[Row]:
    without = "SELECT count(*) FROM question WHERE accepted NOT IN (SELECT id FROM answer)"
    left_out["answer not in the file"] += kept.execute(without).fetchone()[0]
    rows = kept.execute(
        "SELECT q.id, q.title, q.body, q.category, q.author, q.licence, a.id, a.body, a.author, a.licence FROM question q"
        " JOIN answer a ON a.id = q.accepted ORDER BY q.score DESC, q.id"
    )
    taken = 0
    for number, title, body, category, author, licence, answer, text, answerer, answer_licence in rows:
        if taken == options.limit:
            left_out["over the limit"] += 1 + sum(1 for _ in rows)
            return
        question, reference = html_to_text(body or ""), html_to_text(text or "")
        if not question or not reference:
            left_out["no text"] += 1
            continue
        taken += 1
        links = f"https://{options.site}/questions/{number} by {author}; answer https://{options.site}/a/{answer} by {answerer}"
        licences = ", ".join(dict.fromkeys((licence, answer_licence)))
        yield {
            "id": f"{options.site}/{number}",
            "title": title or None,
            "question": question,
            "reference": reference,
            "category": category,
            "source": f"{links}; {licences}",
        }


def _number(post: Post, name: str) -> int | None:
    value = post.get(name, "")
    return int(value) if NUMBER.fullmatch(value) else None


def _author(post: Post, options: StackExchangeOptions) -> tuple[str, str]:
    """The author to name, and the post's licence."""
    user, name = _number(post, "OwnerUserId"), post.get("OwnerDisplayName", "")[:100]
    author = f"https://{options.site}/users/{user}" if user is not None else name or "a former user"
    return author, post.get("ContentLicense", "")[:50] or _licence(post.get("CreationDate", ""))


def _licence(day: str) -> str:
    """The licence of what was posted on that day, where the dump does not name it."""
    return next((name for begin, name in LICENCES.items() if day[:10] >= begin), "CC BY-SA")
