"""Which answers are the same to a grader, without a reference."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from shared.contracts.grader_kinds import GivenGrader, Grader, VerifyingGrader
from shared.grading.agreement import Agreement, Voter
from shared.grading.bounded import BoundedEquality

GIVEN: TypeAdapter[Grader | VerifyingGrader] = TypeAdapter(GivenGrader)


def agreement(spec: Any, *texts: str, **files: Path) -> Agreement:
    with Voter(GIVEN.validate_python(spec), files) as voter:
        return voter.agreement(texts)


def members(voted: Agreement) -> list[tuple[int, ...]]:
    return [group.members for group in voted.groups]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE item (id INTEGER, name TEXT, price REAL)")
        database.executemany("INSERT INTO item VALUES (?, ?, ?)", [(1, "pen", 2.0), (2, "ink", 3.5), (3, "map", 2.0)])
    database.close()
    return path


SQL = {"type": "sql_result", "database": "shop", "timeout_s": 1}
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_queries_with_equal_results_are_one_answer_and_those_that_do_not_run_are_none(shop: Path):
    voted = agreement(
        SQL,
        "SELECT nome FROM item",
        "SELECT name FROM item WHERE price < 3",
        "SELECT count(*) FROM item",
        "```sql\nSELECT name FROM item WHERE price = 2.0 ORDER BY name;\n```",
        "I do not know",
        "DROP TABLE item",
        "SELECT name FROM item WHERE id IN (1, 3)",
        "SELECT name FROM item WHERE price < 3",
        ENDLESS,
        shop=shop,
    )
    assert members(voted) == [(1, 7, 3, 6), (2,)]
    assert [group.share for group in voted.groups] == [4 / 9, 1 / 9]
    assert voted.unread == (0, 4, 5, 8)
    assert voted.margin == pytest.approx(3 / 9)


def test_each_distinct_query_runs_once(shop: Path, monkeypatch: pytest.MonkeyPatch):
    ran: list[str] = []
    run = BoundedEquality.read
    monkeypatch.setattr(BoundedEquality, "read", lambda reader, text: ran.append(text) or run(reader, text))
    voted = agreement(SQL, *["SELECT count(*) FROM item"] * 200, "SELECT 3", shop=shop)
    assert members(voted)[0][-1] == 200
    assert voted.groups[0].share == 1
    assert ran == ["SELECT count(*) FROM item", "SELECT 3"]


@pytest.mark.parametrize(
    ("spec", "texts", "groups"),
    [
        ("number", ["It is 12 km.", "12.0", "13", "12 miles", "none", "x = 12"], [(0, 1, 5), (2,), (3,)]),
        ({"type": "number", "absolute": 1}, ["3", "2", "2", "1", "4"], [(1, 2, 0, 3), (4,)]),
        ("json_equal", ['{"a": 1, "b": 2}', 'so {"b": 2, "a": 1.0}', '{"a": 1}', "nothing"], [(0, 1), (2,)]),
        (
            {"type": "json_schema", "schema": {"type": "object"}},
            ["[1]", '{"a": 1}', '{"a": 1.0}', '{"a": 2}'],
            [(1, 2), (3,)],
        ),
        ("regex_equal", ["a+", "(", "aa*", "`a+`", r"(a)\1", "a*"], [(0, 2, 3), (5,)]),
        ({"type": "regex_equal", "syntax": "deep_regex"}, ["( a | b ) *", "( b | a ) *", "( a"], [(0, 1)]),
        ("code_tests", ["x = 1  # one", "```python\nx  =  1\n```", "x = 2", "x ="], [(0, 1), (2,)]),
        ("string_check", ["`ls -l`", "ls  -l.", "ls -a", ""], [(0, 1), (2,)]),
        ("chrf", ["yes", "Yes", "yes."], [(0, 2), (1,)]),
        ("contains", ["yes", "Yes", "no"], [(0, 1), (2,)]),
        ("first_token", ["ls -l", "sudo ls -a", "cat x"], [(0, 1), (2,)]),
        (
            {
                "type": "multi",
                "graders": {"value": {"type": "number"}, "words": "chrf"},
                "calculate_output": "0.9 * value + 0.1 * words",
            },
            ["it is 3", "3.0", "4", "none"],
            [(0, 1), (2,)],
        ),
    ],
)
def test_answers_are_grouped_by_the_graders_own_equality(spec: Any, texts: list[str], groups: list[tuple[int, ...]]):
    assert members(agreement(spec, *texts)) == groups


def test_nothing_agrees_where_nothing_can_be_read():
    assert agreement("number", "none", "") == Agreement((), (0, 1))
    assert agreement("number", "none").margin == 0
    assert agreement("number") == Agreement((), ())


def test_an_answer_that_kills_its_process_is_unread_and_the_others_are_grouped(shop: Path):
    deep = "[" * 50_000 + "]" * 50_000
    assert members(agreement("json_equal", "[1]", deep, "[1.0]")) == [(0, 2)]
    bomb = "+".join(["1"] * 90_000)
    assert members(agreement("code_tests", "x = 1", bomb, "x=1")) == [(0, 2)]
