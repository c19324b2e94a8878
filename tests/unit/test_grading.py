"""What the graders that verify read in an answer. tests/integration/grader_cases.py has all kinds on hostile and slow ones."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from shared.contracts.grader_kinds import SqlResultGrader, VerifyingGrader, VerifyingKind
from shared.grading import sql
from shared.grading.attempt import Attempt, Graded
from shared.grading.bounded import BoundedGrader
from shared.grading.verify import grader

SPEC: TypeAdapter[VerifyingGrader] = TypeAdapter(VerifyingKind)


def score(spec: dict[str, Any], answer: str, reference: str, **files: Path) -> float:
    return grader(SPEC.validate_python(spec), files)(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("The answer is 1,234.50 km.", "1234.5", True),
        ("1.234.567", "1234567", True),
        ("1 000\u202f000", "1000000", True),
        ("12 % of them", "12", True),
        ("12 miles", "12 mi", True),
        ("12 miles", "12 km", False),
        ("10 apples", "10 pears", True),  # a word that is no unit says what is counted
        ("$5", "5 dollars", True),
        ("-3e2", "-300", True),
        ("x = \u22125", "-5", True),
        ("3/4", "0.75", True),
        ("3.", "3", True),
        ("first 12, and then 13", "13", True),  # the last number is the result
        ("first 12, and then 13", "12", False),
        ("1,5", "1.5", True),
        ("none", "3", False),
        ("", "3", False),
        ("9" * 100_000, "9", False),
        ("1e999999999", "1", False),
        ("1/0", "1", False),
    ],
)
def test_numbers(answer: str, reference: str, right: bool):
    assert score({"type": "number"}, answer, reference) == right


def test_numbers_within_a_tolerance_and_with_a_decimal_comma():
    assert score({"type": "number", "absolute": 0.5}, "12.4", "12") == 1
    assert score({"type": "number", "absolute": 0.5}, "12.6", "12") == 0
    assert score({"type": "number", "relative": 0.1}, "-108", "-100") == 1
    assert score({"type": "number", "decimal": ","}, "1.234", "1234") == 1
    assert score({"type": "number"}, "1.234", "1234") == 0
    assert score({"type": "number", "unit": False}, "12 miles", "12 km") == 1


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1.0}', True),
        ('Here it is:\n```json\n{"a": 1}\n```', '{"a": 1}', True),
        ('{"a": 2} no: {"a": 1}', '{"a": 1}', True),  # the last one is the result
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
        ("[1, 2]", "[2, 1]", False),
        ('{"a": 1', '{"a": 1}', False),  # cut off
        ('{"a": ', "{}", False),
        ("[" * 100_000, "[]", False),
        ('{"a": 1e999}', '{"a": 1}', False),
        ("{" * 100_000, "{}", False),
    ],
)
def test_json(answer: str, reference: str, right: bool):
    assert score({"type": "json_equal"}, answer, reference) == right


def test_json_without_order_without_some_fields_and_against_a_schema():
    loose = {"type": "json_equal", "ordered": False, "ignore": ["id"]}
    assert score(loose, '[{"a": 1, "id": 7}, 2]', '[2, {"a": 1}]') == 1
    assert score(loose, "[1, 1, 2]", "[1, 2, 2]") == 0
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert score({"type": "json_schema", "schema": schema}, '{"a": 1}', "") == 1
    assert score({"type": "json_schema", "schema": schema}, '{"a": "1"}', "") == 0
    assert score({"type": "json_schema"}, "3", '{"type": "string"}') == 0
    for wrong in ({"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/passwd"}):
        with pytest.raises(ValueError, match="no JSON schema"):
            score({"type": "json_schema", "schema": wrong}, "{}", "")
    with pytest.raises(ValueError, match="the reference is no JSON"):
        score({"type": "json_equal"}, "{}", "nothing")


@pytest.mark.parametrize(
    ("syntax", "answer", "reference", "right"),
    [
        ("python", "a+", "aa*", True),
        ("python", "`[ab]c`", "/ac|bc/", True),
        ("python", r"\d", "[0-9]", True),
        ("python", "(?i)a", "[aA]", True),
        ("python", "a*", "a+", False),
        ("python", r"(a)\1", "aa", False),  # describes no regular language
        ("python", "(?=a)b", "b", False),
        ("python", "[", "a", False),
        ("python", "(" * 5000, "a", False),
        ("deep_regex", ". * <M0> . *", ". * ( <M0> ) . *", True),
        ("deep_regex", "( a | b ) *", "( ( a ) * ( b ) * ) *", True),
        ("deep_regex", "~ ( ~ [ <VOW> ] )", "[ <VOW> ] & [ <LET> ]", True),
        ("deep_regex", "( [ <NUM> ] ) { 2 , }", "[ <NUM> ] [ <NUM> ] +", True),
        ("deep_regex", "( [ <NUM> ] ) { 2 , }", "[ <NUM> ] +", False),
        ("deep_regex", "( . * ) { 3 , }", ". *", True),
        ("deep_regex", ". * [ <CAP> ]", ". * [ <LOW> ]", False),
        ("deep_regex", "( a", "a", False),
        ("deep_regex", "a ) b", "a", False),
        ("deep_regex", "( " * 5000 + "a", "a", False),
    ],
)
def test_regular_expressions(syntax: str, answer: str, reference: str, right: bool):
    assert score({"type": "regex_equal", "syntax": syntax}, answer, reference) == right


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE item (name TEXT, price REAL, stock INT);"
            "INSERT INTO item VALUES ('pen', 1.5, 3), ('ink', 4.0, 0), ('pad', 2.25, 8), ('cap', 1.5, NULL);"
        )
    connection.close()
    return path


PRICES = "SELECT name FROM item WHERE price < 2"


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("select name from item where price <= 1.5", PRICES, True),
        ("```sql\nSELECT name AS title FROM item WHERE price < 2 ORDER BY name;\n```", PRICES, True),
        ("The query is: SELECT name FROM item WHERE price < 2; It lists them.", PRICES, True),
        ("WITH x AS (SELECT * FROM item) SELECT name FROM x WHERE price < 2", PRICES, True),
        ("SELECT name FROM item ORDER BY price, name", "SELECT name FROM item ORDER BY price, name", True),
        ("SELECT name FROM item ORDER BY price DESC", "SELECT name FROM item ORDER BY price, name", False),
        ("SELECT 3 * 1.0", "SELECT 3", True),
        ("SELECT sum(price) FROM item", "SELECT 9.25", True),
        ("SELECT '3'", "SELECT 3", False),
        ("SELECT name FROM item", PRICES, False),
        (PRICES + " UNION ALL " + PRICES, PRICES, False),  # rows count as often as they come
        ("SELECT nothing FROM item", PRICES, False),
        ("", PRICES, False),
        ("no query", PRICES, False),
        ("DROP TABLE item", PRICES, False),
        ("SELECT name FROM item WHERE price < 2; DROP TABLE item", PRICES, True),  # only the first statement is read
        ("SELECT zeroblob(999999999)", PRICES, False),
        ("SELECT load_extension('x')", PRICES, False),
        ("SELECT * FROM pragma_database_list", PRICES, False),
        ("SELECT 'it''s; fine' FROM item WHERE 0", "SELECT 1 WHERE 0", True),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT 1", False),
    ],
)
def test_sql(shop: Path, answer: str, reference: str, right: bool):
    before = shop.read_bytes()
    assert score({"type": "sql_result", "database": "file-1"}, answer, reference, **{"file-1": shop}) == right
    assert shop.read_bytes() == before


def test_sql_that_is_slow_or_large_is_stopped_and_a_reference_that_fails_is_told(shop: Path):
    spec = SqlResultGrader(type="sql_result", database="file-1", timeout_s=0.2, max_rows=100)
    endless = "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a) SELECT count(*) FROM a"
    began = time.monotonic()
    with pytest.raises(sql.QueryStopped, match=r"took more than 0\.2 s"):
        sql.run(spec, shop, endless)
    assert time.monotonic() - began < 30
    with pytest.raises(sql.QueryFailed, match="more than 100 rows"):
        sql.run(spec.model_copy(update={"timeout_s": 30}), shop, "SELECT 1 FROM item a, item b, item c, item d")
    with pytest.raises(sql.QueryFailed, match="no such table"):
        sql.score(spec, shop, "SELECT 1", "SELECT 1 FROM absent")


def test_equal_results_have_equal_keys_for_agreement(shop: Path):
    spec = SqlResultGrader(type="sql_result", database="file-1")
    one, other, third = (
        sql.equality_key(sql.run(spec, shop, query))
        for query in ("SELECT name FROM item", "SELECT name FROM item ORDER BY price", "SELECT price FROM item")
    )
    assert one == other != third


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "text").write_text("no database at all" * 100)
    with pytest.raises(ValueError, match="no SQLite database"):
        sql.checked_database(tmp_path / "text")
    with pytest.raises(ValueError, match="no SQLite database"):
        sql.checked_database(tmp_path / "absent")


@pytest.fixture(scope="module")
def bounded() -> Iterator[BoundedGrader]:
    with BoundedGrader(SPEC.validate_python({"type": "regex_equal"}), seconds=1.0, memory=600 * 2**20) as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "reference", "graded"),
    [
        ("a+", "aa*", Graded(1.0)),
        ("((a{1,900}){1,900}){1,900}", "a", Graded(0.0, "slow", "grading this answer took more than 1 s")),
        ("b", "b", Graded(1.0)),  # by a new process
        ("x", "[", Graded(0.0, "reference")),
        ("b", "a", Graded(0.0)),
    ],
)
def test_what_takes_too_long_is_stopped_and_the_next_answer_is_graded(
    bounded: BoundedGrader, answer: str, reference: str, graded: Graded
):
    assert bounded.score(Attempt.of(answer, reference)) == graded
