"""Graders are checked and tried, with the stock client: client.fine_tuning.alpha.graders."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest

from shared.sandbox.confine import missing
from tests.contract.conftest import KEY, RunningApi, running_api

LABEL = {"input": "{{sample.output_text}}", "reference": "{{item.label}}"}
SIZE = "def grade(sample, item):\n    return len(sample['output_text']) / item['size']"


@pytest.fixture(scope="module")
def graders(tmp_path_factory: pytest.TempPathFactory, _valkey_server: str) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("graders")
    with (
        running_api(data, REDIS_URL=_valkey_server, METEOR_SANDBOX="true") as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield client.fine_tuning.alpha.graders


def test_a_grader_is_checked_and_comes_back_as_it_was_given(graders: Any):
    check = {"type": "string_check", "name": "label", "operation": "eq", **LABEL}
    assert graders.validate(grader=check).grader.to_dict() == check
    several = {
        "type": "multi",
        "name": "both",
        "graders": {"label": check, "close": {"type": "text_similarity", "evaluation_metric": "bleu", **LABEL}},
        "calculate_output": "0.5 * label + 0.5 * close",
    }
    assert graders.validate(grader=several).grader.to_dict() == several


@pytest.mark.parametrize(
    ("grader", "param", "says"),
    [
        (
            {"type": "string_check", "operation": "eq", **LABEL, "input": "{{answer}}"},
            "grader.input",
            "a template has",
        ),
        (
            {"type": "text_similarity", "evaluation_metric": "cosine", **LABEL},
            "grader.evaluation_metric",
            "needs a model",
        ),
        ({"type": "multi", "graders": {"a": "chrf"}, "calculate_output": "a +"}, "grader", "no formula"),
        ({"type": "multi", "graders": {"a": "chrf"}, "calculate_output": "b"}, "grader", "'b' is no grader"),
        ({"type": "lua"}, "grader", "type must be string_check"),
        ({"type": "sql_result", "database": "file-none"}, "grader.database", "file-none"),
        ({"type": "json_schema", "schema": {"type": "nonsense"}}, "grader.schema", "no JSON schema"),
        ({"type": "python", "source": "def grade(:"}, "grader.source", "cannot be compiled"),
        ({"type": "endpoint", "url": "https://2(\U0006e85f"}, "grader.url", "cannot be read"),
        ({"type": "string_check", "name": {}}, "grader.name", "string"),
    ],
)
def test_what_is_wrong_is_said(graders: Any, grader: dict[str, Any], param: str, says: str):
    with pytest.raises(openai.BadRequestError) as error:
        graders.validate(grader=grader)
    body = cast(dict[str, Any], error.value.body)
    assert body["param"] == param
    assert says in body["message"]


@pytest.mark.parametrize(
    ("grader", "sample", "item", "reward"),
    [
        ({"type": "string_check", "operation": "eq", **LABEL}, "yes", {"label": "yes"}, 1),
        ({"type": "string_check", "operation": "ne", **LABEL}, "yes", {"label": "yes"}, 0),
        ({"type": "string_check", "operation": "like", **LABEL}, "oh yes", {"label": "Yes"}, 0),
        ({"type": "string_check", "operation": "ilike", **LABEL}, "oh yes", {"label": "Yes"}, 1),
        ({"type": "string_check", "operation": "eq", **LABEL}, "{{item.label}}", {"label": "yes"}, 0),  # is not filled in
        ({"type": "string_check", "operation": "eq", **LABEL, "input": "{{sample.output_json.a[1]}}"}, '{"a": [1, 2]}',
         {"label": 2}, 1),
        ({"type": "text_similarity", "evaluation_metric": "fuzzy_match", **LABEL}, "abcd", {"label": "abcx"}, 0.75),
        ({"type": "text_similarity", "evaluation_metric": "rouge_1", **LABEL}, "a b c", {"label": "c b d"}, 2 / 3),
        ({"type": "text_similarity", "evaluation_metric": "rouge_2", **LABEL}, "a b c", {"label": "b c d"}, 0.5),
        ({"type": "text_similarity", "evaluation_metric": "gleu", **LABEL}, "a b c", {"label": "a b c"}, 1),
        ({"type": "text_similarity", "evaluation_metric": "bleu", **LABEL}, "a b c", {"label": "x y z"}, 0),
        ({"type": "text_similarity", "evaluation_metric": "bleu", **LABEL}, "", {"label": ""}, 0),
        ("chrf", "ls -a", {"reference": "ls -a"}, 1),
        ({"type": "number"}, "It is 1,200.", {"reference": 1200}, 1),
        ({"type": "json_equal"}, '{"a": 1}', {"reference": {"a": 1}}, 1),
        ({"type": "json_schema", "schema": {"type": "object"}}, "[]", {}, 0),
        ({"type": "regex_equal"}, "aa*", {"reference": "a+"}, 1),
    ],
)  # fmt: skip
def test_an_answer_is_graded(graders: Any, grader: Any, sample: str, item: dict[str, Any], reward: float):
    ran = graders.run(grader=grader, model_sample=sample, item=item)
    assert ran.reward == pytest.approx(reward)
    assert ran.metadata.type == (grader if isinstance(grader, str) else grader["type"])
    assert ran.metadata.execution_time >= 0
    assert not [name for name, value in ran.metadata.errors.to_dict().items() if value]


def test_a_query_is_run_on_an_uploaded_database(graders: Any, tmp_path: Path):
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE item (name TEXT)")
        connection.execute("INSERT INTO item VALUES ('pen')")
    connection.close()
    file = graders._client.files.create(file=("shop.sqlite", path.read_bytes()), purpose="user_data")
    grader = {"type": "sql_result", "database": file.id}
    ran = graders.run(grader=grader, model_sample="SELECT 'pen'", item={"reference": "SELECT name FROM item"})
    assert ran.reward == 1


@pytest.mark.skipif(bool(missing()), reason="this kernel cannot confine code")
def test_code_and_formulas(graders: Any):
    python = {"type": "python", "name": "size", "source": SIZE}
    assert graders.run(grader=python, model_sample="abc", item={"size": 4}).reward == 0.75
    several = {
        "type": "multi",
        "name": "both",
        "graders": {"size": python, "same": {"type": "string_check", "operation": "eq", **LABEL}},
        "calculate_output": "min(size, same)",
    }
    ran = graders.run(grader=several, model_sample="abc", item={"size": 4, "label": "abc"})
    assert (ran.reward, ran.sub_rewards, ran.metadata.scores) == (0.75, *[{"size": 0.75, "same": 1.0}] * 2)
    alone = several | {"graders": python, "calculate_output": "size / 3"}  # as OpenAI's types have it
    assert graders.run(grader=alone, model_sample="abc", item={"size": 4}).reward == 0.25
    failed = graders.run(grader=python, model_sample="abc", item={})
    assert failed.reward == 0
    assert failed.metadata.errors.python_grader_runtime_error
    assert "size" in failed.metadata.errors.python_grader_runtime_error_details
    slow = {"type": "python", "source": "def grade(sample, item):\n    while True: pass", "timeout_s": 0.5}
    assert "0.5 s" in graders.run(grader=slow, model_sample="", item={}).metadata.details


@pytest.mark.parametrize(
    ("grader", "item"),
    [
        ({"type": "string_check", "operation": "eq", **LABEL}, {}),
        ({"type": "number"}, {}),
        ({"type": "json_equal"}, {"reference": "{"}),
    ],
)
def test_an_item_that_cannot_be_graded_against(graders: Any, grader: dict[str, Any], item: dict[str, Any]):
    ran = graders.run(grader=grader, model_sample="1", item=item)
    assert ran.reward == 0
    assert ran.metadata.errors.invalid_variable_error


def test_code_needs_the_operator(api: RunningApi):
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0)
    with client, pytest.raises(openai.BadRequestError, match="METEOR_SANDBOX"):
        client.fine_tuning.alpha.graders.run(
            grader={"type": "python", "name": "size", "source": SIZE}, model_sample="a", item={"size": 1}
        )
