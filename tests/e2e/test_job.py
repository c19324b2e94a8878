"""One job through all services and phases, and what a user does with the result."""

import csv
import io

import pytest
from openai import OpenAI

from shared.db.engine import reading
from shared.ledger.store import open_ledger
from shared.ledger.tables import calls
from tests.e2e.conftest import System

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]
QUESTION = "whole: which number comes after 3?"


@pytest.fixture(scope="module")
def finished(system: System) -> dict:
    system.teacher.heal()
    job = system.post(system.upload("whole"), "numbers")
    return system.wait(job["id"], 300)


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


def test_the_lineage_of_an_example_leads_from_the_question_to_the_served_model(finished, system: System):
    steps = system.steps(finished["id"])
    example = system.example_of(next(s["id"] for s in steps if s["kind"] == "judge.review"))
    found = system.client.get(f"/v1/distillation/jobs/{finished['id']}/examples/{example}/lineage").json()
    kinds = [link["kind"] for link in found["chain"]]
    assert kinds[:2] == ["weak.reason", "judge.review"]
    assert "train.sft" in kinds
    assert all(link["given"]["id"] == example for link in found["chain"])
    assert found["example"]["reference"] == "the number is seven"
    learned = next(link for link in found["chain"] if link["kind"] == "train.sft")
    assert learned["given"]["completion"]
    assert learned["adapter"] in found["adapters"]
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


def test_the_losses_of_its_trainings_are_a_file(finished, system: System):
    client = OpenAI(base_url=f"{system.runner.urls['api']}/v1", api_key="none")
    (file,) = finished["result_files"]
    assert client.files.retrieve(file).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(client.files.content(file).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    assert {row["training"].partition("/")[0] for row in rows} == {"distill", "iterate", "evolve"}
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_the_same_job_posted_again_repeats_no_call_and_no_training(finished, system: System):
    asked_before = len(system.teacher.log())
    job = system.wait(system.post(finished["training_file"], "numbers-again")["id"], 60)
    assert job["status"] == "succeeded", job
    assert len(system.teacher.log()) == asked_before
    assert {step["state"] for step in system.steps(job["id"])} == {"succeeded"}
    first, second = system.report(finished["id"]), system.report(job["id"])
    assert first["table"] == second["table"]


def test_events_tell_the_story(finished, system: System):
    messages = system.messages(finished["id"])
    assert messages[0] == "job created and queued"
    for words in ("phase distill begins", "phase iterate begins", "phase evolve begins", "numbers@1 is promoted"):
        assert any(words in message for message in messages), words
