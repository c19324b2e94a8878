"""Evals and their runs through the stock client."""

import json
from typing import Any

import httpx
import openai
import pytest

from shared.contracts.jobs import JobStatus
from tests.contract.conftest import BASE, RunningApi
from tests.contract.test_openai_jobs import extra

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}}
EXACT: Any = {
    "type": "string_check", "name": "exact", "operation": "eq", "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
SOURCE: Any = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
ITEMS = [{"item": {"question": "1 + 1?", "answer": "2"}}]


def asking(**changes: Any) -> Any:
    content = {"type": "file_content", "content": ITEMS}
    template = {"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]}
    return {"type": "completions", "model": BASE, "source": content, "input_messages": template} | changes


def test_the_life_of_an_eval_and_its_run(client: openai.OpenAI, api: RunningApi):
    made = client.evals.create(name="sums", data_source_config=SOURCE, testing_criteria=[EXACT], metadata={"of": "me"})
    assert (made.object, made.name, made.metadata) == ("eval", "sums", {"of": "me"})
    assert made.data_source_config.type == "custom"
    shown: Any = made.data_source_config.schema_
    assert shown["properties"]["item"] == SCHEMA
    (criterion,) = made.testing_criteria
    assert (criterion.type, criterion.name) == ("string_check", "exact")
    assert (
        client.evals.retrieve(made.id).to_dict()
        == client.evals.update(made.id, name="sums").to_dict()
        == made.to_dict()
    )
    assert client.evals.update(made.id, name="more sums").name == "more sums"
    assert made.id in [one.id for one in client.evals.list(order="desc", order_by="updated_at", limit=1)]

    file = client.files.create(file=("items.jsonl", json.dumps(ITEMS[0]).encode()), purpose="evals")
    assert file.purpose == "evals"
    by_id = asking(source={"type": "file_id", "id": file.id}, sampling_params={"max_completion_tokens": 9, "seed": 3})
    run = client.evals.runs.create(made.id, data_source=by_id, name="base", metadata={"n": "1"})
    assert (run.object, run.eval_id, run.status, run.model, run.metadata) == (
        "eval.run",
        made.id,
        "queued",
        BASE,
        {"n": "1"},
    )
    assert run.report_url.endswith(f"/runs/{run.id}/output_items")
    assert run.result_counts.total == 0
    assert client.evals.runs.retrieve(run.id, eval_id=made.id).to_dict() == run.to_dict()
    assert [one.id for one in client.evals.runs.list(made.id, status="queued")] == [run.id]
    assert list(client.evals.runs.list(made.id, status="completed")) == []
    assert list(client.evals.runs.output_items.list(run.id, eval_id=made.id)) == []
    with pytest.raises(openai.ConflictError, match="cancel it first"):
        client.evals.delete(made.id)
    assert client.evals.runs.cancel(run.id, eval_id=made.id).status == "canceled"
    row = api.stores.jobs.get(run.id)
    assert row is not None
    assert row.status == JobStatus.CANCELLED
    assert client.evals.runs.delete(run.id, eval_id=made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(run.id, eval_id=made.id)
    deleted = client.evals.delete(made.id)
    assert (deleted.deleted, deleted.eval_id) == (True, made.id)


@pytest.mark.parametrize(
    ("changes", "says", "param"),
    [
        ({"data_source_config": {"type": "logs"}}, "requests are not logged here", "data_source_config"),
        ({"data_source_config": {"type": "stored_completions"}}, "make a dataset of them", "data_source_config"),
        ({"testing_criteria": []}, "at least 1", "testing_criteria"),
        ({"testing_criteria": [EXACT, EXACT]}, "two criteria are called 'exact'", "testing_criteria"),
        ({"testing_criteria": [EXACT | {"reference": "{{itm.x}}"}]}, "a template has", "testing_criteria.0"),
        (
            {"testing_criteria": [{"type": "text_similarity", "name": "n", "evaluation_metric": "bleu"}]},
            "pass_threshold: text_similarity needs one",
            "testing_criteria.0",
        ),
        (
            {"testing_criteria": [{"type": "python", "name": "p", "source": "def grade(s, i): return 1"}]},
            "METEOR_SANDBOX",
            "testing_criteria.0",
        ),
        (
            {"testing_criteria": [{"type": "guess", "name": "p"}]},
            "type must be one of string_check",
            "testing_criteria.0",
        ),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"type": "nonsense"}}},
            "no JSON schema",
            "data_source_config.item_schema",
        ),
    ],
)
def test_evals_that_are_refused(client: openai.OpenAI, changes: dict[str, Any], says: str, param: str):
    body: dict[str, Any] = {"data_source_config": SOURCE, "testing_criteria": [EXACT]} | changes
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        client.evals.create(**body)
    assert (refused.value.param or "").startswith(param)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (asking(source={"type": "stored_completions"}), "a run reads no stored chats"),
        (asking(type="responses"), "responses are not stored here"),
        (asking(sampling_params={"reasoning_effort": "high"}), "reasoning_effort: not offered"),
        (asking(sampling_params={"tools": [{"type": "function"}]}), "tools: not offered"),
        (asking(sampling_params={"response_format": {"type": "json_object"}}), "json_equal"),
        (
            asking(input_messages={"type": "template", "template": [{"role": "user", "content": {"type": "input_image", "image_url": "x"}}]}),
            "read text only",
        ),
        (asking(source={"type": "file_content", "content": []}), "at least 1"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": ITEMS}}, "row 1 has no sample"),
    ],
)  # fmt: skip
def test_runs_that_are_refused(client: openai.OpenAI, source: Any, says: str):
    made = client.evals.create(data_source_config=SOURCE, testing_criteria=[EXACT])
    with pytest.raises(openai.BadRequestError, match=says):
        client.evals.runs.create(made.id, data_source=source)


def test_a_run_ends_at_its_budget_and_does_not_pause(client: openai.OpenAI, http: httpx.Client):
    made = client.evals.create(data_source_config=SOURCE, testing_criteria=[EXACT])
    run = client.evals.runs.create(made.id, data_source=asking(), extra_body={"budget": {"max_usd": 1}})
    assert extra(run)["budget"]["on_exceed"] == "fail"
    client.evals.runs.cancel(run.id, eval_id=made.id)
    with pytest.raises(openai.BadRequestError, match="a run does not pause"):
        client.evals.runs.create(made.id, data_source=asking(), extra_body={"budget": {"on_exceed": "pause"}})
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.evals.list(extra_query={"purpose": "x"})
