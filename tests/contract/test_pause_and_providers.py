"""Pausing by the stock client; providers, estimates and the preset `teachers` with a real gateway beside the API."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.contracts.jobs import JobStatus
from shared.db.engine import writing
from shared.jobs.tables import jobs
from tests.contract.conftest import BASE, KEY, TOKEN, RunningApi, rows, running_api
from tests.fakes.gateway import running_gateway
from tests.fakes.start import start_teacher

PROVIDERS = """
[providers.large]
base_url = "http://127.0.0.1:1/v1"
model = "large-2"
api_key_env = "LARGE_KEY"
price_input = 10
price_output = 20
"""


def upload(http: httpx.Client) -> str:
    stored = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"})
    return stored.json()["id"]


def body(http: httpx.Client, **distillation: Any) -> dict[str, Any]:
    return {"model": BASE, "training_file": upload(http), "distillation": {"domain": "sums"} | distillation}


def claim(api: RunningApi, job_id: str) -> Any:
    """As an orchestrator takes it, which takes the oldest first: for that moment it is older than what tests have left."""
    mine, engine = jobs.c.id == job_id, api.stores.jobs.engine
    with writing(engine) as connection:
        created_at = connection.execute(select(jobs.c.created_at).where(mine)).scalar_one()
        connection.execute(update(jobs).where(mine).values(created_at=0.0))
    row = api.stores.jobs.claim("test", 600)
    with writing(engine) as connection:
        connection.execute(update(jobs).where(mine).values(created_at=created_at))
    assert row is not None
    assert row.id == job_id, f"{job_id} is not free"
    return api.stores.jobs.get(job_id)


# pausing


def test_the_stock_client_pauses_and_resumes(api: RunningApi, http: httpx.Client, client: openai.OpenAI):
    job = http.post("/v1/distillation/jobs", json=body(http, pause_after="pilot")).json()
    jobs = client.fine_tuning.jobs
    assert jobs.pause(job["id"]).status == "paused"
    assert jobs.pause(job["id"]).status == "paused"
    assert jobs.resume(job["id"]).status == "queued"
    row = claim(api, job["id"])
    api.stores.jobs.note(row, progress={"percent": 10, "eta_seconds": 100})
    assert jobs.pause(job["id"]).status == "running", "a word that OpenAI's types have"
    shown = http.get(f"/v1/distillation/jobs/{job['id']}").json()
    assert (shown["status"], shown["distillation"]["status"]) == ("pausing", "pausing")
    assert jobs.retrieve(job["id"]).model_dump()["distillation"]["status"] == "pausing"
    with pytest.raises(openai.ConflictError) as refused:
        jobs.resume(job["id"])
    assert refused.value.code == "job_pausing"
    assert refused.value.response.headers["x-should-retry"] == "false"
    api.stores.jobs.rest(row, "waits after pilot", after="pilot")
    shown = http.get(f"/v1/distillation/jobs/{job['id']}").json()
    assert (shown["status"], shown["estimated_finish"]) == ("paused", None)
    assert shown["distillation"]["status_reason"] == "waits after pilot"
    assert shown["distillation"]["progress"]["eta_seconds"] is None
    listed = http.get("/v1/distillation/jobs", params={"status": "paused", "limit": 100}).json()["data"]
    assert job["id"] in [item["id"] for item in listed]
    assert jobs.cancel(job["id"]).status == "cancelled"
    running = http.post("/v1/distillation/jobs", json=body(http)).json()["id"]
    row = claim(api, running)
    cancelled = jobs.cancel(running)
    assert (cancelled.status, cancelled.model_dump()["distillation"]["status"]) == ("cancelled", "cancelling")
    api.stores.jobs.end(row, JobStatus.CANCELLED)
    for move in (jobs.pause, jobs.resume):
        with pytest.raises(openai.ConflictError) as refused:
            move(job["id"])
        assert refused.value.code == "job_finished"
    assert http.post("/v1/distillation/jobs/ftjob-none/pause").status_code == 404


@pytest.mark.parametrize(
    "spec",
    [
        {"pause_after": "iterate", "phases": ["distill"]},
        {"pause_after": "pilot", "phases": ["evolve"]},
        {"pause_after": "pilot", "distill": {"answers": "references"}},
        {"pause_after": "evaluate"},
    ],
)
def test_a_stage_that_the_job_has_not_is_refused(http: httpx.Client, spec: dict[str, Any]):
    answer = http.post("/v1/distillation/jobs", json=body(http, **spec))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("distillation")
    assert "pause_after" in answer.text


def test_the_command_line_pauses_watches_and_resumes(api: RunningApi, http: httpx.Client, monkeypatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    job = http.post("/v1/distillation/jobs", json=body(http)).json()["id"]
    runner = CliRunner()
    assert runner.invoke(cli, ["jobs", "pause", job]).stdout.strip() == "paused"
    watched = runner.invoke(cli, ["jobs", "watch", job])
    assert watched.exit_code == 3
    assert f"meteor jobs resume {job}" in watched.stdout
    assert "by request" in watched.stdout
    assert runner.invoke(cli, ["jobs", "resume", job]).stdout.strip() == "queued"
    http.post(f"/v1/distillation/jobs/{job}/cancel")


@pytest.mark.parametrize("state", ["running", "pausing", "paused", "cancelling", "succeeded"])
def test_an_experiment_is_cancelled_whatever_its_variants_do(api: RunningApi, http: httpx.Client, state: str):
    made = http.post("/v1/experiments", json={"job": body(http), "variants": [{"name": "a"}, {"name": "b"}]}).json()
    first = claim(api, made["variants"][0]["job_id"])
    deeds = {
        "running": lambda: None,
        "pausing": lambda: api.stores.jobs.pause(first),
        "paused": lambda: api.stores.jobs.rest(first),
        "cancelling": lambda: api.stores.jobs.cancel(first),
        "succeeded": lambda: api.stores.jobs.end(first, JobStatus.SUCCEEDED),
    }
    deeds[state]()
    answer = http.post(f"/v1/experiments/{made['id']}/cancel")
    assert answer.status_code == 200
    ended = {"paused": "cancelled", "succeeded": "succeeded"}.get(state, "cancelling")
    assert [variant["status"] for variant in answer.json()["variants"]] == [ended, "cancelled"]
    if ended == "cancelling":
        api.stores.jobs.end(first, JobStatus.CANCELLED)


# without a gateway


def test_without_a_gateway_a_job_is_taken_and_says_what_was_not_checked(http: httpx.Client):
    job = http.post("/v1/distillation/jobs", json=body(http, teacher={"provider": "nobody"}))
    assert job.status_code == 201
    events = http.get(f"/v1/distillation/jobs/{job.json()['id']}/events").json()["data"]
    assert any(event["level"] == "warn" and "gateway did not answer" in event["message"] for event in events)
    for path, request in (
        ("/v1/distillation/jobs/estimate", body(http)),
        ("/v1/experiments", {"job": body(http), "preset": "teachers"}),
    ):
        answer = http.post(path, json=request)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_unavailable")
        assert answer.headers["retry-after"]
    http.post(f"/v1/distillation/jobs/{job.json()['id']}/cancel")


# with one


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API beside a gateway that knows default, judge (both from the environment) and large (from the file)."""
    folder = tmp_path_factory.mktemp("provided")
    (folder / "providers.toml").write_text(PROVIDERS)
    more = {"METEOR_PROVIDERS_FILE": str(folder / "providers.toml"), "LARGE_KEY": "sk-large"}
    with contextlib.ExitStack() as stack:
        teacher = stack.enter_context(start_teacher())
        gateway = stack.enter_context(running_gateway(teacher, folder, METEOR_INTERNAL_TOKEN=TOKEN, **more))
        api = stack.enter_context(running_api(folder / "api", METEOR_API_GATEWAY_URL=gateway.url))
        headers = {"authorization": f"Bearer {KEY}"}
        yield stack.enter_context(httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False))
        short = {entry["messages"][-1]["content"].partition("(")[0] for entry in teacher.log()}
        assert all(asked.startswith(("Reply with the one word", "<question>")) for asked in short), (
            "an estimate asked the teacher"
        )
        listed = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).json()["data"]
        assert [(row["id"], row["price_input"], row["price_output"]) for row in listed] == [
            ("default", 1, 2),
            ("judge", 0, 0),
            ("large", 10, 20),
        ]
        states = httpx.get(f"{gateway.url}/readyz").json()["providers"]
        assert states["large"]["code"] == "teacher_unreachable"
        assert "METEOR_PROVIDERS_FILE" in states["large"]["message"]


@pytest.mark.parametrize("role", ["teacher", "judge"])
def test_an_unknown_provider_is_refused_with_the_names_that_are_known(provided: httpx.Client, role: str):
    answer = provided.post("/v1/distillation/jobs", json=body(provided, **{role: {"provider": "gpt"}}))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("provider_not_found", f"distillation.{role}.provider")
    assert "default, judge, large" in error["message"]
    known = provided.post("/v1/distillation/jobs", json=body(provided, **{role: {"provider": "large"}}))
    assert known.status_code == 201
    events = provided.get(f"/v1/distillation/jobs/{known.json()['id']}/events").json()["data"]
    warned = [event["message"] for event in events if event["level"] == "warn"]
    assert all("'large' did not answer" in message for message in warned), "nobody listens there, and the job is taken"
    assert len(warned) == 1


def test_an_estimate_is_priced_and_makes_no_job(provided: httpx.Client):
    before = provided.get("/v1/distillation/jobs?limit=100").json()["data"]
    response = provided.post("/v1/distillation/jobs/estimate", json=body(provided, phases=["distill"], guidance="none"))
    assert response.status_code == 200, response.text
    cheap = response.json()
    assert (cheap["object"], cheap["basis"], cheap["prices"]) == (
        "distillation.estimate",
        "price list",
        {"default": [1, 2, 0.5]},
    )
    assert list(cheap["phases"]) == ["pilot", "distill"]
    assert cheap["phases"]["pilot"]["calls"] == {"low": 16, "high": 16}
    total = cheap["total"]
    assert total["usd"]["high"] == pytest.approx(
        (total["input_tokens"]["high"] + 2 * total["output_tokens"]["high"]) / 1e6
    )
    dear = provided.post(
        "/v1/distillation/jobs/estimate",
        json=body(provided, phases=["distill"], guidance="none", teacher={"provider": "large"}),
    ).json()
    assert dear["total"]["usd"]["high"] == pytest.approx(10 * total["usd"]["high"])
    refused = provided.post("/v1/distillation/jobs/estimate", json=body(provided, adapter={"rank": 200}))
    assert refused.json()["error"]["code"] == "rank_too_large"
    assert provided.get("/v1/distillation/jobs?limit=100").json()["data"] == before


def test_the_command_line_shows_an_estimate(provided: httpx.Client, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("METEOR_API_URL", str(provided.base_url))
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    (tmp_path / "rows.jsonl").write_bytes(rows(60))
    (tmp_path / "job.json").write_text(json.dumps({"model": BASE, "distillation": {"domain": "sums"}}))
    shown = CliRunner().invoke(
        cli, ["jobs", "estimate", str(tmp_path / "job.json"), "--rows", str(tmp_path / "rows.jsonl")]
    )
    assert shown.exit_code == 0, shown.output
    for word in ("pilot", "distill", "iterate", "total", "USD", "price list"):
        assert word in shown.stdout


def test_preset_teachers_has_one_variant_per_provider_the_jobs_own_first(provided: httpx.Client):
    job = body(provided, teacher={"provider": "large", "max_tokens": 99}, judge={"provider": "default"})
    answer = provided.post("/v1/experiments", json={"job": job, "preset": "teachers"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert [variant["name"] for variant in made["variants"]] == ["large", "default", "judge"]
    jobs = [provided.get(f"/v1/distillation/jobs/{variant['job_id']}").json() for variant in made["variants"]]
    asked = [(j["distillation"]["teacher"]["provider"], j["distillation"]["judge"]["provider"]) for j in jobs]
    assert asked == [("large", "default"), ("default", "default"), ("judge", "default")]
    assert {j["distillation"]["teacher"]["max_tokens"] for j in jobs} == {99}
    assert [bool(j["distillation"]["evaluation"]["baselines"]) for j in jobs] == [True, False, False]
    provided.post(f"/v1/experiments/{made['id']}/cancel")
