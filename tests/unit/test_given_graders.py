"""How a job names its graders."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.distillation import Distillation, Grader, name_of
from shared.contracts.grader_kinds import NumberGrader
from shared.contracts.steps import JudgeParams, Sampling, content_hash

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
        ({"type": "python", "source": "..."}, "type must be"),
        ("unheard", "chrf"),
        ({"type": "sql_result"}, "database"),
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
