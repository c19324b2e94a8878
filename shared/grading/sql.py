"""Grading SQL by what it returns: query and reference are run on one SQLite file, read-only and bounded."""

import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from shared.contracts.grader_kinds import SqlResultGrader
from shared.grading.attempt import Stopped

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_QUERIES = (re.compile(r"(?ims)^[ \t]*(?:select|with|values)\b.*"), re.compile(r"(?is)(?<![\w.])select\b.*"))
_WORD = re.compile(r"[A-Za-z_]+")
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
# load_extension runs code; the others give another result each time
_REFUSED = frozenset({"load_extension", "random", "randomblob", "fts3_tokenizer"})
_OPERATIONS = 10_000  # of SQLite's machine between two looks at the clock
_MOST_BYTES, _MOST_SQL = 1_000_000, 100_000  # of one value; of a query's text
_HEAP = 256 * 2**20
_INTERRUPTED = "interrupted"  # what SQLite says when the progress handler ended a query
DIGITS = 9  # significant digits in which numbers of results are compared


class QueryFailed(ValueError):
    """The query cannot be run, is refused, or is too slow or too large; the message says which."""


class QueryStopped(QueryFailed):
    """Its limit of time or memory ended it. why: as in Stopped."""

    def __init__(self, words: str, why: str):
        super().__init__(words)
        self.why = why


class Result(NamedTuple):
    """rows: as SQLite gives them. ordered: the query itself orders them."""

    rows: list[tuple[Any, ...]]
    ordered: bool


def score(spec: SqlResultGrader, database: Path, answer: str, reference: str) -> float:
    """1 where the answer's query has the reference's result. Raises QueryFailed for a reference that does not run, Stopped for an
    answer that needs too much time or memory."""
    expected = run(spec, database, query_of(reference))
    try:
        given = run(spec, database, query_of(answer))
    except QueryStopped as stopped:
        raise Stopped(str(stopped), stopped.why) from None
    except QueryFailed:
        return 0.0
    return float(equal(given, expected))


def query_of(text: str) -> str:
    """The query in a text: inside its last fence, from the first line that begins with SELECT, WITH or VALUES (else from the
    first SELECT) to the end of that statement; "" where it has none."""
    fenced = _FENCED.findall(text)
    matches = (form.search(fenced[-1] if fenced else text) for form in _QUERIES)
    return next((_first_statement(query.group()) for query in matches if query), "")


def equal(given: Result, expected: Result) -> bool:
    """Equal rows, in the same order where the reference orders them. Names of columns do not count."""
    if len(given.rows) != len(expected.rows):
        return False
    one, other = ([tuple(map(_comparable, row)) for row in result.rows] for result in (given, expected))
    return one == other if expected.ordered else Counter(one) == Counter(other)


def equality_key(result: Result) -> tuple[Any, ...]:
    """What two queries share that have the same result: for counting agreement among answers without a reference."""
    rows = [tuple(map(_comparable, row)) for row in result.rows]
    return tuple(sorted(rows, key=repr))


def run(spec: SqlResultGrader, database: Path, query: str) -> Result:
    """Raises QueryFailed."""
    if not query:
        raise QueryFailed("it holds no query")
    with closing(_open(database, spec.timeout_s)) as connection:
        try:
            rows = connection.execute(query).fetchmany(spec.max_rows + 1)
        except MemoryError:
            raise QueryStopped(f"the query needs more than {_HEAP >> 20} MB", "crash") from None
        except (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError) as error:
            if str(error) == _INTERRUPTED:
                raise QueryStopped(f"the query took more than {spec.timeout_s:g} s", "slow") from None
            raise QueryFailed(str(error) or type(error).__name__) from None
    if len(rows) > spec.max_rows:
        raise QueryFailed(f"more than {spec.max_rows} rows")
    return Result(rows, _orders(query))


def checked_database(path: Path) -> None:
    """Raises ValueError where the file is no SQLite database that can be read."""
    try:
        with closing(_open(path, 5.0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise ValueError(f"it is no SQLite database: {error}") from None


def _open(database: Path, timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    for limit, most in (
        (sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SQL),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
        (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
    ):
        connection.setlimit(limit, most)
    connection.execute(f"PRAGMA hard_heap_limit={_HEAP}")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(partial(_is_late, time.monotonic() + timeout_s), _OPERATIONS)
    return connection


def _is_late(deadline: float) -> bool:
    return time.monotonic() > deadline


def _authorize(action: int, _first: str | None, second: str | None, _database: str | None, _by: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in _REFUSED else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _comparable(value: Any) -> Any:
    """A value as it is compared: 1 and 1.0 are equal, and so are numbers that differ behind the ninth digit."""
    if isinstance(value, int | float):
        number = float(value)
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else repr(number)
    return value


def _first_statement(sql: str) -> str:
    for place, _depth in _code(sql):
        if sql[place] == ";":
            return sql[:place].strip()
    return sql.strip()


def _orders(sql: str) -> bool:
    """Whether the outermost query has ORDER BY."""
    flat = "".join(sql[place] for place, depth in _code(sql) if depth == 0)
    words = [word.upper() for word in _WORD.findall(flat)]
    return any(pair == ("ORDER", "BY") for pair in pairwise(words))


def _code(sql: str) -> Iterator[tuple[int, int]]:
    """Places and depth of parentheses of all that is neither quoted nor a comment."""
    depth, place = 0, 0
    while place < len(sql):
        sign, two = sql[place], sql[place : place + 2]
        if end := {"'": "'", '"': '"', "`": "`", "[": "]", "--": "\n", "/*": "*/"}.get(
            two if two in ("--", "/*") else sign
        ):
            start = place + len(two if two in ("--", "/*") else sign)
            closed = sql.find(end, start)
            place = len(sql) if closed < 0 else closed + len(end)
            continue
        depth += (sign == "(") - (sign == ")")
        if sign not in "()":
            yield place, depth
        place += 1
