"""How a job names its graders."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.distillation import Distillation
from shared.contracts.errors import UserError
from shared.contracts.formula import checked, value
from shared.contracts.grader_kinds import UNGRADABLE, Grader, NumberGrader, name_of
from shared.contracts.steps import JudgeParams, Sampling, content_hash
from shared.grading.attempt import Graded
from shared.grading.graders import Graders
from shared.sandbox.confine import missing

SQL = {"type": "sql_result", "database": "file-1"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("chrf", "chrf"),
        ("number", "number"),
        ({"type": "number", "relative": 0.01}, "number"),
        (SQL, "sql_result"),
        ({"type": "json_schema", "schema": {"type": "object"}}, "json_schema"),
    ],
)
def test_by_name_or_as_an_object(given: Any, name: str):
    spec = Distillation.model_validate({"domain": "d", "primary_metric": given, "judge": {"grader": given}})
    assert name_of(spec.primary_metric) == name
    assert Distillation.model_validate_json(spec.model_dump_json(by_alias=True)) == spec
    assert len(spec.verifying) == (0 if isinstance(spec.primary_metric, Grader) else 2)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("sql_result", "needs settings"),
        ({"type": "number", "tolerance": 1}, "tolerance"),
        ({"type": "number", "relative": -1}, "greater than or equal to 0"),
        ({"type": "lua", "source": "..."}, "type must be"),
        ("unheard", "chrf"),
        ({"type": "sql_result"}, "database"),
        ({"type": "string_check", "name": {}}, "name"),
    ],
)
def test_what_is_refused_is_named(given: Any, says: str):
    with pytest.raises(ValidationError, match=says):
        Distillation.model_validate({"domain": "d", "primary_metric": given})


def test_a_kind_has_one_setting_in_a_job():
    with pytest.raises(ValidationError, match="number stands there twice"):
        Distillation.model_validate(
            {"domain": "d", "primary_metric": "number", "judge": {"grader": {"type": "number", "absolute": 1}}}
        )


def test_steps_without_such_graders_keep_their_hash():
    params = JudgeParams(judge="default", domain="d", sampling=Sampling())
    assert set(params.model_dump(mode="json")) == {"judge", "domain", "sampling", "grader", "pass_mark"}
    verified = params.model_copy(update={"verify": [NumberGrader(type="number")]})
    assert content_hash(verified.model_dump(mode="json")) != content_hash(params.model_dump(mode="json"))


MULTI = {
    "type": "multi",
    "graders": {"form": {"type": "json_schema", "schema": {"type": "object"}}, "right": "json_equal", "like": "chrf"},
    "calculate_output": "0.5 * right + 0.5 * min(form, like)",
}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (MULTI | {"calculate_output": "other + 1"}, "'other' is no grader"),
        (MULTI | {"calculate_output": "__import__('os')"}, "a formula has numbers"),
        (MULTI | {"calculate_output": "right.real"}, "a formula has numbers"),
        (MULTI | {"calculate_output": "abs(right, form)"}, "does not take 2 arguments"),
        (MULTI | {"calculate_output": "1 +"}, "no formula"),
        (MULTI | {"calculate_output": "(" * 300 + "1" + ")" * 300}, r"no formula|levels"),
        (MULTI | {"graders": {"inner": MULTI}}, "none of its kind"),
        (MULTI | {"graders": {}}, "at least 1 item"),
    ],
)
def test_formulas_that_are_none(given: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        Distillation.model_validate({"domain": "d", "primary_metric": given})


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("a", 0.5), ("1 - a", 0.5), ("a / 0", 0.0), ("-a", 0.0), ("a * 9", 1.0), ("2 ^ -1", 0.5), ("10 ^ 999", 0.0), ("sqrt(a - 1)", 0.0)],
)  # fmt: skip
def test_formulas_are_computed_within_the_scale(formula: str, expected: float):
    assert value(checked(formula, ["a"]), {"a": 0.5}) == expected


def test_a_formula_of_graders():
    spec = Distillation.model_validate({"domain": "d", "primary_metric": MULTI})
    with Graders(spec.verifying) as graders:
        assert graders.score("multi", '{"a": 1}', '{"a": 1}').score == 1.0
        assert 0 < graders.score("multi", '{"a": 2}', '{"a": 1}').score < 0.5
        assert graders.score("multi", "{}", "no JSON").why == UNGRADABLE


@pytest.mark.skipif(bool(missing()), reason=f"this machine lacks {missing()}")
def test_code_is_run_where_the_operator_allows_it():
    source = "def grade(sample, item):\n    return len(sample['output_text']) / (len(item['reference']) or None)"
    given = [{"type": "python", "source": source}, "code_tests"]
    spec = Distillation.model_validate({"domain": "d", "evaluation": {"graders": given}})
    with pytest.raises(UserError, match="METEOR_SANDBOX"):
        Graders(spec.verifying)
    with Graders(spec.verifying, sandbox=True) as graders:
        assert graders.score("python", "ab", "abcd") == Graded(0.5)
        assert graders.score("python", "abcdefgh", "abcd") == Graded(1.0)  # the nearer end
        failed = graders.score("python", "ab", "")
        assert (failed.score, failed.why) == (0.0, "error")
        assert "TypeError" in failed.words
        tests = "assert double(2) == 4\nassert double('a') == 'aa'"
        assert graders.score("code_tests", "```python\ndef double(x):\n    return 2 * x\n```", tests) == Graded(1.0)
        assert graders.score("code_tests", "def double(x): return x + x + 1", tests) == Graded(0.0)
        assert graders.score("code_tests", "import os; os.fork()", tests) == Graded(0.0)
        assert graders.score("code_tests", "raise SystemExit(0)", tests) == Graded(0.0)
        assert graders.score("code_tests", "", "assert (").why == UNGRADABLE
        lengths = list(range(1, 40))
        with ThreadPoolExecutor(8) as pool:  # rows are graded from several threads
            graded = pool.map(lambda n: graders.score("python", "a" * n, "b" * 40).score, lengths)
        assert list(graded) == [n / 40 for n in lengths]
