"""The rows of the bookshop example: each reference runs, returns something, and leaves nothing open."""

import importlib.util
import json
import re
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from shared.contracts.data import Question, Split, parse_lines
from shared.contracts.distillation import Distillation
from shared.contracts.grader_kinds import SqlResultGrader
from shared.contracts.jobs import JobRequest
from shared.datasets.likeness import folded
from shared.datasets.splits import Splitter
from shared.grading import sql

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = ["bookshop.jsonl", "bookshop-trade.jsonl"]
GRADER = SqlResultGrader(type="sql_result", database="bookshop", max_rows=50)
SIZES = {
    "author": 24, "book": 60, "customer": 40, "staff": 20, "sale": 150, "item": 262, "review": 96, "event": 24,
}  # fmt: skip
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_ORDER = re.compile(r" ORDER BY ((?:[^()]|\([^()]*\))+?)(?: LIMIT (\d+))?$")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bookshop") / "bookshop.sqlite"
    spec = importlib.util.spec_from_file_location("bookshop", EXAMPLES / "bookshop.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.build(target)
    with pytest.raises(FileExistsError):
        script.build(target)
    return target


@pytest.fixture(scope="module")
def rows() -> list[Question]:
    lines = [line for name in FILES for line in (EXAMPLES / name).read_bytes().splitlines()]
    read = list(parse_lines(lines))
    assert all(isinstance(row, Question) for row in read)
    return [row for row in read if isinstance(row, Question)]


@pytest.fixture(scope="module")
def queries(rows: list[Question]) -> list[str]:
    return sorted({row.reference or "" for row in rows})


def shape(query: str) -> str:
    """The query without its constants; a pattern's wildcards stay."""
    query = _TEXT.sub(lambda text: "'" + re.sub(r"[^%]+", "x", text[1]) + "'", query)
    return re.sub(r"\b\d+(?:\.\d+)?\b", "0", query)


def test_the_database_is_made_from_its_script(database: Path):
    assert (EXAMPLES / "bookshop.sql").stat().st_size < 150_000
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        sizes = {table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert sizes == SIZES


def test_every_reference_runs_and_returns_something(database: Path, queries: list[str]):
    for query in queries:
        assert sql.query_of(query) == query
        result = sql.run(GRADER, database, query)  # raises QueryFailed, for more than 50 rows too
        assert result.rows, query
        assert (None,) not in result.rows, query


def test_the_order_that_a_reference_asks_for_has_no_ties(database: Path, queries: list[str]):
    ordered = [query for query in queries if "ORDER BY" in query]
    assert len(ordered) > 80
    with closing(sqlite3.connect(database)) as connection:
        for query in ordered:
            order = _ORDER.search(query)
            assert order, query
            keys = order[1].replace(" DESC", "")
            select = re.sub(r"^SELECT ", f"SELECT {keys}, ", query[: order.start()])
            result = connection.execute(f"{select} ORDER BY {order[1]}").fetchall()
            first = [row[: len(keys.split(", "))] for row in result[: int(order[2]) + 1 if order[2] else None]]
            assert len(set(first)) == len(first), query


def test_a_query_has_few_questions_and_its_shape_several(rows: list[Question]):
    shapes = Counter(shape(row.reference or "") for row in rows)
    assert len(shapes) > 400
    assert min(shapes.values()) >= 3
    assert max(Counter(row.reference for row in rows).values()) <= 8


def test_the_first_file_asks_for_books_and_authors_alone(rows: list[Question]):
    first = (EXAMPLES / FILES[0]).read_text().splitlines()
    others = re.compile(rf"\b({'|'.join(SIZES.keys() - {'book', 'author'})})\b")
    asks = [bool(others.search(_TEXT.sub("", row.reference or ""))) for row in rows]
    assert asks == [False] * len(first) + [True] * (len(rows) - len(first))


def test_the_questions_differ_and_do_not_begin_alike(rows: list[Question]):
    assert len({folded(row) for row in rows}) == len(rows)
    openings = Counter(tuple(re.findall(r"[\w']+", row.question.casefold())[:3]) for row in rows)
    assert openings.most_common(1)[0][1] < 0.02 * len(rows)


def test_the_splits_hold_whole_queries_of_every_category(rows: list[Question]):
    splitter = Splitter(0.15, 0.2)
    for row in rows:
        splitter.add(row)
    assigned = splitter.assign()
    assert assigned.left == {}
    assert assigned.counts["test"] >= 250
    sides: dict[str | None, set[Split]] = defaultdict(set)
    categories: Counter[tuple[str | None, Split]] = Counter()
    for row, split in zip(rows, assigned.splits, strict=True):
        sides[row.reference].add(split)
        categories[row.category, split] += 1
    assert all(len(side) == 1 for side in sides.values())
    for category in {row.category for row in rows}:
        assert all(categories[category, split] for split in Split), category


def test_the_job_of_the_example_is_valid():
    job = json.loads((EXAMPLES / "bookshop.job.json").read_text())
    Distillation.model_validate(job["distillation"])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.job.json")), ids=lambda path: path.stem)
def test_each_job_is_one_that_the_contract_takes(path: Path):
    JobRequest.model_validate(json.loads(path.read_text()) | {"training_file": "file-1"})
