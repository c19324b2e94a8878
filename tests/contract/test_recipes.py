"""Recipes through the public routes: they make their jobs by themselves, and one job a run whatever is killed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.contracts.recipes import RecipeRequest
from shared.jobs.schema import open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import BASE, KEY, RunningApi, api_environment, rows, running_api
from tests.fakes.ports import free_port, wait_until

JOB = {"model": BASE, "suffix": "sums", "distillation": {"domain": "sums"}}
RECIPES = "/v1/recipes"
KILLED = """
import os, signal, sys
from services.api.context import open_context
from services.api.features.recipes.runner import RecipeRunner
from services.api.settings import ApiSettings
from shared.jobs.job_store import JobStore
from shared.jobs.recipe_store import RecipeStore
from shared.platform.settings import PlatformSettings

def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "before the job is made":
    JobStore.create = die
else:
    RecipeStore.end = die
RecipeRunner(open_context(ApiSettings(), PlatformSettings()), lease_s=1.0).step()
"""


@pytest.fixture
def file(http: httpx.Client) -> str:
    form: dict[str, Any] = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
    return http.post("/v1/files", **form).json()["id"]


@pytest.fixture(autouse=True)
def none_is_left(http: httpx.Client) -> Iterator[None]:
    yield
    for one in http.get(RECIPES, params={"limit": 100}).json()["data"]:
        for job in jobs_of(http, one["id"]):
            http.post(f"/v1/distillation/jobs/{job['id']}/cancel")
        assert http.delete(f"{RECIPES}/{one['id']}").status_code == 200


def recipe(file: str, **changes: Any) -> dict[str, Any]:
    return {"name": "weekly", "job": JOB, "source": {"type": "file", "file": file}, "trigger": {"rows": 50}} | changes


def create(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(RECIPES, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{RECIPES}/{answer.json()['id']}"
    return answer.json()


def jobs_of(http: httpx.Client, recipe_id: str) -> list[dict[str, Any]]:
    return http.get("/v1/distillation/jobs", params={"metadata[recipe]": recipe_id}).json()["data"]


def types_of(http: httpx.Client, recipe_id: str) -> list[str]:
    events = http.get(f"{RECIPES}/{recipe_id}/events").json()["data"]
    return [event["type"] for event in reversed(events)]


def test_new_rows_make_the_next_job(http: httpx.Client, file: str):
    made = create(http, recipe(file, budget={"max_usd": 3}))
    wait_until(lambda: jobs_of(http, made["id"]), 30, "the first job")
    (job,) = jobs_of(http, made["id"])
    assert (job["training_file"], job["metadata"]) == (file, {"recipe": made["id"], "recipe_run": "1"})
    assert job["distillation"]["budget"]["max_usd"] == 3
    wait_until(lambda: types_of(http, made["id"]) == ["created", "made"], 10, "the event")
    shown = http.get(f"{RECIPES}/{made['id']}").json()
    assert (shown["runs"], shown["new_rows"], shown["waits_for"], shown["next_run_at"]) == (1, 0, job["id"], None)
    assert (shown["last_run"]["status"], shown["last_run"]["job_id"], shown["last_run"]["rows"]) == (
        "made",
        job["id"],
        60,
    )
    http.post(f"/v1/distillation/jobs/{job['id']}/cancel")
    more = [{"question": f"What is {n} less 1?", "reference": str(n - 1)} for n in range(50)]
    version = http.post(f"/v1/files/{file}/versions", json={"append": more})
    assert version.status_code in (200, 201), version.text
    wait_until(lambda: len(jobs_of(http, made["id"])) == 2, 30, "the second job")
    assert jobs_of(http, made["id"])[0]["training_file"] == version.json()["id"]


def test_a_period_makes_a_job_at_once_and_tells_the_next(http: httpx.Client, file: str):
    made = create(http, recipe(file, trigger={"every": "P7D"}))
    wait_until(lambda: jobs_of(http, made["id"]), 30, "the first job")
    shown = http.get(f"{RECIPES}/{made['id']}").json()
    assert shown["trigger"] == {"rows": None, "every": "P7D"}
    assert shown["next_run_at"] == pytest.approx(shown["created_at"] + 7 * 86400, abs=2)
    assert http.post(f"{RECIPES}/{made['id']}/pause").json()["next_run_at"] is None
    assert http.post(f"{RECIPES}/{made['id']}/resume").json()["status"] == "active"
    assert len(jobs_of(http, made["id"])) == 1


def test_a_run_that_cannot_make_its_job_says_why(http: httpx.Client, file: str):
    made = create(http, recipe(file, trigger={"rows": 1000}))
    assert http.delete(f"/v1/files/{file}").status_code == 200
    wait_until(lambda: "failed" in types_of(http, made["id"]), 30, "the event")
    shown = http.get(f"{RECIPES}/{made['id']}").json()
    assert (shown["last_run"]["status"], shown["last_run"]["error"]["code"]) == ("failed", "file_not_found")
    assert (shown["new_rows"], shown["last_run"]["job_id"], shown["status"]) == (None, None, "active")
    assert shown["next_run_at"] > shown["last_run"]["at"]


@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"trigger": {}}, 400, "trigger", "invalid_value"),
        ({"trigger": {"rows": 5, "every": "P1D"}}, 400, "trigger", "invalid_value"),
        ({"trigger": {"every": "PT5S"}}, 400, "trigger.every", "invalid_value"),
        ({"trigger": {"rows": 0}}, 400, "trigger.rows", "invalid_value"),
        ({"source": {"type": "file", "file": "file-nobody"}}, 400, "source.file", "file_not_found"),
        ({"source": {"type": "hub", "file": "x"}}, 400, "source.type", "invalid_value"),
        ({"job": JOB | {"model": "nobody"}}, 400, "job.model", "model_not_found"),
        ({"job": JOB | {"wish": 1}}, 400, "job.wish", "unknown_parameter"),
        ({"job": {"model": BASE}}, 400, "job.distillation", "missing_required_parameter"),
        ({"job": JOB | {"training_file": "file-1"}}, 400, "job.training_file", "invalid_value"),
        ({"budget": {"max_usd": -1}}, 400, "budget.max_usd", "invalid_value"),
        ({"name": ""}, 400, "name", "invalid_value"),
    ],
)
def test_what_can_never_run_is_refused(http: httpx.Client, file: str, change: dict, status: int, param: str, code: str):
    answer = http.post(RECIPES, json=recipe(file) | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code), error
    assert http.get(RECIPES).json()["data"] == []


def test_a_recipe_that_does_not_exist_is_not_found(http: httpx.Client):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("GET", "/events")):
        answer = http.request(method, f"{RECIPES}/recipe-nobody{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "recipe_not_found")


def test_the_commands(api: RunningApi, http: httpx.Client, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    (tmp_path / "weekly.json").write_text(json.dumps(recipe(file, trigger={"rows": 1000})))

    def meteor(*words: str) -> str:
        told = CliRunner().invoke(cli, ["recipes", *words])
        assert told.exit_code == 0, told.output
        return told.output.strip()

    made = meteor("create", str(tmp_path / "weekly.json"))
    assert made in meteor("list")
    assert json.loads(meteor("list", "--json"))["data"][0]["new_rows"] == 60
    assert json.loads(meteor("show", made, "--json"))["name"] == "weekly"
    assert (meteor("pause", made), meteor("resume", made)) == ("paused", "active")
    events = json.loads(meteor("events", made, "--json"))["data"]
    assert [event["type"] for event in events] == ["resumed", "paused", "created"]
    assert "deleted" in meteor("delete", made)
    assert made not in meteor("list", "--json")


@pytest.mark.parametrize("place", ["before the job is made", "before the run ends"])
def test_a_process_killed_between_the_writes_leaves_one_job(api: RunningApi, tmp_path: Path, place: str):
    """`api` runs beside, on another data folder: it must not matter."""
    broker = f"redis://127.0.0.1:{free_port()}/0"
    headers = {"authorization": f"Bearer {KEY}"}
    with running_api(tmp_path, REDIS_URL=broker) as first:
        form: dict[str, Any] = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
        file = httpx.post(f"{first.url}/v1/files", headers=headers, timeout=60, trust_env=False, **form).json()["id"]
    stores = open_stores(f"sqlite:///{(tmp_path / 'meteor.sqlite3').resolve()}")
    made = stores.recipes.add(DEFAULT_PROJECT, RecipeRequest.model_validate(recipe(file)), None)
    environment = api_environment(tmp_path, free_port(), REDIS_URL=broker)
    killed = subprocess.run([sys.executable, "-c", KILLED, place], env=environment, timeout=120)
    assert killed.returncode == -9
    state = stores.recipes.state(stores.recipes.get(DEFAULT_PROJECT, made.id))
    assert state.last is not None
    assert state.last.status == "making"
    assert (stores.jobs.get(state.last.job_id) is None) == (place == "before the job is made")
    with (
        running_api(tmp_path, REDIS_URL=broker) as second,
        httpx.Client(base_url=second.url, headers=headers, timeout=60, trust_env=False) as http,
    ):
        wait_until(lambda: types_of(http, made.id) == ["created", "made"], 60, "the end of the run")
        assert [job["id"] for job in jobs_of(http, made.id)] == [state.last.job_id]
        assert http.get(f"{RECIPES}/{made.id}").json()["runs"] == 1
