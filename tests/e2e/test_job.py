"""One job through all services and phases, and what a user does with the result."""

import csv
import io
import json
from typing import Any

import pytest
from openai import OpenAI

from shared.artifacts.store import Artifacts
from shared.db.engine import reading
from shared.jobs.schema import open_stores
from shared.ledger.store import open_ledger
from shared.ledger.tables import calls
from tests.e2e.conftest import System

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2000)]
QUESTION = "whole: which number comes after 3?"


@pytest.fixture(scope="module")
def finished(system: System) -> dict:
    system.mend()
    job = system.post(system.upload("whole"), "numbers")
    return system.wait(job["id"])


def test_all_three_phases_run_and_the_tuned_model_beats_the_base(finished, system: System):
    assert finished["status"] == "succeeded", finished
    report = system.report(finished["id"])
    assert [row["name"] for row in report["table"]] == ["base", "few_shot", "distill", "iterate", "evolve"]
    assert [d["phase"] for d in report["decisions"]] == ["distill", "iterate", "evolve"]
    assert report["phases"]["distill"]["kept"] == 24
    (record,) = report["phases"]["iterate"]["rounds"]
    assert record["passed"] + record["corrected"] == 8
    assert record["dropped_corrections"] == {}
    assert report["promotion"]["state"] == "promoted"
    assert report["final"]["over"]["base"][1] > 0
    assert not [warning for warning in report["warnings"] if "adapter" in warning], report["warnings"]
    assert finished["fine_tuned_model"] == "numbers@1"
    assert finished["distillation"]["progress"]["percent"] == 100


def test_the_ledger_has_every_call_and_none_in_evolve(finished, system: System):
    usage = system.client.get(f"/v1/distillation/jobs/{finished['id']}/usage").json()
    report = system.report(finished["id"])
    assert "evolve" not in report["teacher"]
    paid, kept = report["teacher"]["pilot"], report["teacher"]["distill"]
    assert (paid["teacher_calls"], kept["teacher_calls"], kept["cached_calls"]) == (16, 8, 16)
    ledger = open_ledger(f"sqlite:///{system.data / 'ledger.sqlite3'}")
    with reading(ledger.engine) as connection:
        rows = connection.execute(
            calls.select().where(calls.c.job_id == finished["id"], calls.c.cached.is_(False))
        ).all()
    sent = {entry["request_id"] for entry in system.teacher.log()}
    assert {row.id for row in rows} <= sent
    assert all(row.state == "settled" for row in rows)
    assert usage


def test_every_step_that_asked_an_adapter_compared_it_with_the_trainers(finished, system: System):
    """Adapters of each training, in the engine as they were trained."""
    store = open_stores(f"sqlite:///{system.data / 'meteor.sqlite3'}").steps
    artifacts = Artifacts(system.data / "artifacts")
    results = [artifacts.get_json(step.result_ref) for step in store.of_job(finished["id"]) if step.result_ref]
    checks = [result["metrics"]["adapter_check"] for result in results if "adapter_check" in result["metrics"]]
    assert len({check["adapter"] for check in checks}) >= 2
    assert {check["state"] for check in checks} == {"agrees"}, checks
    assert max(check["trainer_change"] for check in checks) > 0.5


def test_the_lineage_of_an_example_leads_from_the_question_to_the_served_model(finished, system: System):
    steps = system.steps(finished["id"])
    example = system.example_of(next(s["id"] for s in steps if s["kind"] == "judge.review"))
    lineage = system.client.get(f"/v1/distillation/jobs/{finished['id']}/examples/{example}/lineage").json()
    kinds = [link["kind"] for link in lineage["chain"]]
    assert {*kinds[: kinds.index("judge.review")]} == {"weak.reason"}  # a try that was cut off is not judged
    assert "train.sft" in kinds
    assert all(link["given"]["id"] == example for link in lineage["chain"])
    assert lineage["example"]["reference"] == "the number is seven"
    learned = next(link for link in lineage["chain"] if link["kind"] == "train.sft")
    assert learned["given"]["completion"]
    assert learned["adapter"] in lineage["adapters"]
    missing = system.client.get(f"/v1/distillation/jobs/{finished['id']}/examples/nobody/lineage")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "example_not_found")


def test_the_stock_client_talks_to_the_tuned_model_and_it_differs_from_the_base(finished, system: System):
    client = OpenAI(base_url=f"{system.runner.urls['api']}/v1", api_key="none")

    def ask(model: str) -> str:
        reply = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=16, temperature=0
        )
        assert reply.model == model
        return reply.choices[0].message.content or ""

    tuned = ask("numbers")
    assert tuned == ask("numbers@1")
    assert tuned != ask("tiny")
    chunks = client.chat.completions.create(
        model="numbers", messages=[{"role": "user", "content": QUESTION}], max_tokens=16, temperature=0, stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip() == tuned
    assert {"tiny", "numbers", "numbers@1"} <= {model.id for model in client.models.list()}


def test_the_served_version_answers_as_it_was_evaluated_question_by_question(finished, system: System):
    """The stock client, no parameter set: the answers are those that the report's figures were made of."""
    client = OpenAI(base_url=f"{system.runner.urls['api']}/v1", api_key="none")
    name = system.report(finished["id"])["final"]["name"]
    made = system.rows_of(finished["id"], f"evaluate/test/{name}/answers/0", "evaluate/test/base/answers/0")
    for model, key in (("numbers", f"evaluate/test/{name}/answers/0"), ("tiny", "evaluate/test/base/answers/0")):
        rows = made[key]
        assert len(rows) >= 8
        served = {}
        for row in rows:
            asked: Any = {} if model == "numbers" else {"max_tokens": 16}  # a base has no longest answer of its own
            messages: Any = [{"role": "user", "content": row["question"]}]
            reply = client.chat.completions.create(model=model, messages=messages, **asked)
            served[row["id"]] = reply.choices[0].message.content
        assert served == {row["id"]: row["answer"] for row in rows}
    shown = (client.models.retrieve("numbers").model_extra or {})["generation"]
    assert (shown["temperature"], shown["max_tokens"]) == (0, 16)


CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"], "additionalProperties": False,
        "$defs": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}}}  # fmt: skip
TOOLS: Any = [
    {"type": "function", "function": {"name": "clock"}},
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY}},
]
DOOR: list[tuple[str, dict[str, Any]]] = [
    ("longer than the context", {"max_tokens": 100_000}),
    ("two greedy answers", {"n": 2}),
    ("harmless", {"store": False, "metadata": {"a": "b"}, "service_tier": "auto", "verbosity": "low", "reasoning_effort": "low"}),
    ("tools", {"tools": TOOLS}),
    ("a required call", {"tools": TOOLS, "tool_choice": "required"}),
    ("a named call", {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ("one tool", {"tools": TOOLS[1:], "tool_choice": "required"}),
    ("nulls", {"stop": None, "tools": None, "seed": None, "logit_bias": None, "response_format": None, "n": None}),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [pytest.param(fields, id=name) for name, fields in DOOR])
def test_the_real_engine_takes_what_the_door_lets_in(finished, system: System, fields: dict[str, Any], stream: bool):
    assert finished
    short = {} if "max_tokens" in fields else {"max_tokens": 40}
    body = {"model": "numbers", "messages": [{"role": "user", "content": QUESTION}], "stream": stream} | short | fields
    answer = system.client.post("/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    if "tool_choice" in fields and not stream:
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] in ("clock", "weather")
        if call["function"]["name"] == "weather":
            assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")
    if "tool_choice" in fields and stream:
        assert '"tool_calls"' in answer.text
    if "max_tokens" in fields:
        assert answer.headers["x-meteor-clamped"] == "max_tokens"


def test_what_the_real_engine_refuses_is_told_in_our_words(finished, system: System):
    assert finished
    long = {"model": "numbers", "messages": [{"role": "user", "content": "word " * 3000}]}
    error = system.client.post("/v1/chat/completions", json=long, timeout=120).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages"), error
    assert "METEOR_ENGINE_MAX_MODEL_LEN" in error["message"]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "no such type"}}}
    odd = {"model": "numbers", "messages": [{"role": "user", "content": "hi"}], "response_format": form}
    error = system.client.post("/v1/chat/completions", json=odd, timeout=120).json()["error"]
    assert error["param"] == "response_format", error


def test_a_job_goes_on_from_the_version(finished, system: System):
    assert finished
    job = system.post(
        system.upload("further", 40), "further", model="numbers@1", phases=["distill"], adapter={"max_length": 256},
        distill={"questions": 8, "answers": "references", "epochs": 1},
    )  # fmt: skip
    job = system.wait(job["id"])
    assert job["status"] == "succeeded", job
    assert (job["model"], job["distillation"]["adapter"]["rank"]) == ("numbers@1", 8)
    assert any("goes on from numbers@1" in message for message in system.messages(job["id"]))
    if job["fine_tuned_model"]:
        shown = system.client.get(f"/v1/models/{job['fine_tuned_model']}").json()
        assert (shown["parent"], shown["continues"]) == ("tiny", "numbers@1")


def test_the_losses_of_its_trainings_are_a_file(finished, system: System):
    client = OpenAI(base_url=f"{system.runner.urls['api']}/v1", api_key="none")
    (file,) = finished["result_files"]
    assert client.files.retrieve(file).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(client.files.content(file).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    pairs = sum(turn["pairs"] for turn in system.report(finished["id"])["phases"]["evolve"]["turns"])
    trained = {"distill", "iterate", "evolve"} if pairs else {"distill", "iterate"}
    assert {row["training"].partition("/")[0] for row in rows} == trained
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_the_same_job_posted_again_repeats_no_call_and_no_training(finished, system: System):
    job = system.wait(system.post(finished["training_file"], "numbers-again")["id"])
    assert job["status"] == "succeeded", job
    usage = job["distillation"]["usage"]
    assert (usage["teacher_calls"], usage["input_tokens"]) == (0, 0)
    assert {step["state"] for step in system.steps(job["id"])} == {"succeeded"}
    first, second = system.report(finished["id"]), system.report(job["id"])
    assert first["table"] == second["table"]


def test_events_tell_the_story(finished, system: System):
    messages = system.messages(finished["id"])
    assert messages[0] == "job created and queued"
    for words in ("phase distill begins", "phase iterate begins", "phase evolve begins", "numbers@1 is promoted"):
        assert any(words in message for message in messages), words
