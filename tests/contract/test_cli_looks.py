"""The commands that look at things, and those of keys, projects, models, files, exports and imports, against the real API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from services.cli.client import PAUSED_EXIT, Refused, Waits
from services.meteor.main import cli
from shared.artifacts.store import Artifacts
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, StepKind, StepRequest, StepResult
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import BASE, KEY, RunningApi, publish_version, rows

WITHOUT_JSON = {
    "up",
    "down",
    "demo",
    "models path",
}  # their progress is what they print; `path` is for scripts as it is


@pytest.fixture
def meteor(api: RunningApi, monkeypatch: pytest.MonkeyPatch):
    """Call it with a command line; another machine's API is asked."""
    monkeypatch.setenv("METEOR_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    return lambda *line: CliRunner().invoke(cli, list(line))


def out(result: Result) -> Any:
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{word} ")
        else:
            yield f"{name}{word}", command


def test_every_command_answers_scripts():
    without = {
        name
        for name, command in commands(typer.main.get_command(cli))
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == WITHOUT_JSON


@pytest.fixture
def job(api: RunningApi, http: httpx.Client) -> str:
    """A cancelled job with a finished step of row-1 and one training."""
    file = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()["id"]
    body = {"model": BASE, "training_file": file, "metadata": {"looked": "at"}, "distillation": {"domain": "sums"}}
    made = http.post("/v1/distillation/jobs", json=body).json()["id"]
    given = {"id": "row-1", "question": "What is 0 plus 0?"}
    _finished(api, made, "distill/teach/0", StepKind.TEACH, given, [given | {"answer": "It is [b]0[/b]."}], None)
    _finished(api, made, "distill/train", StepKind.SFT, given, [], "7" * 64)
    model = ModelRef(base=BASE, base_hash="b", adapter="7" * 64)
    api.stores.catalog.publish(DEFAULT_PROJECT, "looked-at", model, made, "promoted")
    http.post(f"/v1/distillation/jobs/{made}/cancel").raise_for_status()
    return made


def _finished(api: RunningApi, job: str, key: str, kind: StepKind, given: Any, made: list, adapter: str | None) -> None:
    artifacts = Artifacts(api.platform.artifacts)
    row = api.stores.jobs.get(job)
    assert row is not None
    request = StepRequest(kind=kind, version=1, rows=[given], params={})
    step = api.stores.steps.create(row, StepKey.parse(key), kind, artifacts.put_json(request.model_dump(mode="json")))
    claim = api.stores.steps.claim(step.id, "worker", 60)
    assert claim is not None
    result = StepResult(rows=made, metrics={}, adapter=adapter)
    reference = artifacts.put_json(result.model_dump(mode="json"))
    assert api.stores.steps.finish(claim, reference, {"steps": 5, "loss": 0.51239})


def test_a_look_into_a_job(meteor, job: str):
    assert "cancelled" in said(meteor("jobs", "events", job))
    first = out(meteor("jobs", "events", job, "--limit", "1", "--json"))
    assert (len(first["data"]), first["has_more"]) == (1, True)
    assert f"more: meteor jobs events {job} --after {first['last_id']}" in said(
        meteor("jobs", "events", job, "--limit", "1")
    )
    assert "loss 0.5124" in said(meteor("jobs", "metrics", job))
    assert out(meteor("jobs", "metrics", job, "--json"))["data"][0]["values"]["loss"] == 0.51239
    assert "distill/teach/0" in said(meteor("jobs", "steps", job))
    (checkpoint,) = out(meteor("jobs", "checkpoints", job, "--json"))["data"]
    assert checkpoint["fine_tuned_model_checkpoint"] in said(meteor("jobs", "checkpoints", job))
    dev = out(meteor("jobs", "examples", job, "--split", "dev", "--json"))["data"]
    assert {row["split"] for row in dev} == {"dev"}
    page = said(meteor("jobs", "examples", job, "--split", "dev", "--limit", "2"))
    assert dev[0]["question"] in page
    assert f"more: meteor jobs examples {job} --split dev --after {dev[1]['id']}" in page
    assert out(meteor("jobs", "lineage", job, "row-1", "--json"))["adapters"] == ["7" * 64]
    way = said(meteor("jobs", "lineage", job, "row-1"))
    assert "\ndistill/teach/0\n  answer: It is [b]0[/b].\n" in way
    assert f"\ndistill/train\n  learned: {'7' * 64}\n" in way
    assert f"learned by {checkpoint['fine_tuned_model_checkpoint']} (promoted)" in way
    assert "it went into no finished step" in said(meteor("jobs", "lineage", job, "row-2"))
    listed = out(meteor("jobs", "list", "--metadata", "looked=at", "--json"))["data"]
    assert job in [one["id"] for one in listed]
    assert out(meteor("jobs", "list", "--metadata", "looked=away", "--json"))["data"] == []
    assert meteor("jobs", "list", "--metadata", "looked").exit_code == 2


def test_versions_are_listed_promoted_and_rolled_back(meteor, api: RunningApi):
    for digest in ("c" * 64, "d" * 64):
        publish_version(api, "cli-versions", digest)
    assert said(meteor("models", "promote", "cli-versions@2")) == "cli-versions serves version 2\n"
    assert out(meteor("models", "promote", "cli-versions@1", "--json"))["version"] == 1
    assert out(meteor("models", "promote", "cli-versions@2", "--json"))["version"] == 2
    assert said(meteor("models", "rollback", "cli-versions")) == "cli-versions serves version 1\n"
    assert "cli-versions@2" in said(meteor("models", "served"))
    assert out(meteor("models", "show", "cli-versions", "--json"))["version"] == 1
    assert json.loads(said(meteor("models", "show", BASE)))["parent"] is None
    assert BASE in [model["id"] for model in out(meteor("models", "served", "--json"))["data"]]
    assert isinstance(meteor("models", "promote", "cli-versions").exception, Refused)
    listed = out(meteor("models", "list", "--json"))
    assert "smollm2-135m-instruct" in [model["name"] for model in listed["data"]]


def test_files_are_shown_checked_and_fetched(meteor, tmp_path: Path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(rows(60, start=700))
    bad.write_text('{"question": "a"}\nnonsense\n')
    file = out(meteor("data", "upload", str(good), "--json"))
    refused = meteor("data", "upload", str(bad), "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["status"]) == (1, "error")
    assert "60 rows" in said(meteor("data", "show", file["id"]))
    assert out(meteor("data", "show", file["id"], "--json")) == file
    fetched = tmp_path / "fetched.jsonl"
    assert out(meteor("data", "download", file["id"], "--out", str(fetched), "--json"))["out"] == str(fetched)
    assert fetched.read_bytes() == good.read_bytes()
    away = meteor("data", "download", file["id"], "--out", str(tmp_path / "no" / "where"))
    assert isinstance(away.exception, Refused)
    here, there = (meteor("data", "validate", name) for name in (str(bad), json.loads(refused.stdout)["id"]))
    assert (here.exit_code, here.stdout) == (there.exit_code, there.stdout) == (1, here.stdout)
    assert "line 2: not a JSON object" in here.stdout
    assert out(meteor("data", "validate", file["id"], "--json"))["n_rows"] == 60
    assert meteor("data", "validate", str(tmp_path / "none.jsonl")).exit_code == 2
    assert out(meteor("data", "delete", file["id"], "--json"))["deleted"]


def test_an_import_is_followed_raised_and_cancelled(meteor, http: httpx.Client):
    raw = http.post("/v1/files", files={"file": ("d.zip", b"PK")}, data={"purpose": "user_data"}).json()["id"]
    body = {"source": {"type": "documents", "domain": "bees"}, "file": raw}
    made = http.post("/v1/imports", json=body).json()["id"]
    assert out(meteor("data", "raise", made, "--usd", "3", "--json"))["budget"]["max_usd"] == 3
    assert said(meteor("data", "pause", made)) == "paused\n"
    waits = meteor("data", "watch", made)
    assert isinstance(waits.exception, Waits)
    assert f"meteor data raise {made}" in str(waits.exception)
    assert said(meteor("data", "resume", made)) == "queued\n"
    assert made in said(meteor("data", "imports"))
    assert out(meteor("data", "cancel", made, "--json"))["status"] == "cancelled"
    assert "cancelled" in str(meteor("data", "watch", made, "--json").exception)


def test_an_export_is_listed_and_cancelled(meteor, api: RunningApi, http: httpx.Client):
    publish_version(api, "cli-export", "5" * 64)
    made = http.post("/v1/models/cli-export@1/export", json={"formats": ["adapter"]}).json()["id"]
    assert made in said(meteor("exports", "list"))
    assert out(meteor("exports", "show", made, "--json"))["status"] == "queued"
    assert said(meteor("exports", "pause", made)) == "paused\n"
    assert isinstance(meteor("exports", "fetch", made).exception, Waits)
    assert out(meteor("exports", "resume", made, "--json"))["status"] == "queued"
    assert said(meteor("exports", "cancel", made)) == "cancelled\n"


def test_projects_and_who_did_what(meteor):
    project = said(meteor("projects", "create", "[b]search", "--jobs", "2", "--bytes", "5000000")).strip()
    assert "[b]search  limits: jobs 2, bytes 5,000,000" in said(meteor("projects", "show", project))
    changed = out(meteor("projects", "change", project, "--usd", "1.5", "--no-limit", "jobs", "--json"))
    wanted = {"requests_per_minute": None, "concurrent_jobs": None, "teacher_usd_per_day": 1.5, "stored_bytes": 5000000}
    assert changed["limits"] == wanted
    assert isinstance(meteor("projects", "change", project).exception, Refused)
    assert project in [one["id"] for one in out(meteor("projects", "list", "--json"))["data"]]
    assert "usd 1.5" in said(meteor("projects", "list"))
    key = out(meteor("keys", "create", "of-cli", "--project", project, "--json"))
    assert out(meteor("keys", "show", key["id"], "--json"))["project"] == project
    newest = out(meteor("audit", "--limit", "1", "--json"))["data"][0]
    assert (newest["route"], newest["object_id"]) == ("/v1/keys", key["id"])
    assert "PATCH /v1/projects/{project_id}" in said(meteor("audit"))


def test_labels_and_experiments_for_scripts(meteor, tmp_path: Path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"question": "cli?", "first": "ls", "second": "ls -a", "preferred": "second"}\n')
    assert out(meteor("labels", "add", str(labels), "--json"))["added"] == 1
    label = out(meteor("labels", "list", "--limit", "1", "--json"))["data"][0]
    assert label["question"] == "cli?"
    assert out(meteor("labels", "delete", label["id"], "--json"))["deleted"]
    assert isinstance(meteor("labels", "add", str(tmp_path / "none")).exception, Refused)
    line = ("experiments", "run", str(labels), "--rows", str(labels))
    assert "--preset or --variants" in str(meteor(*line).exception)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert "is not JSON" in str(meteor(*line, "--variants", str(broken)).exception)


def test_an_experiment_is_shown_and_cancelled(meteor, http: httpx.Client):
    file = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()["id"]
    job = {"model": BASE, "training_file": file, "distillation": {"domain": "sums"}}
    made = http.post("/v1/experiments", json={"job": job, "preset": "strategies"}).json()
    assert out(meteor("experiments", "show", made["id"], "--json"))["variants"] == made["variants"]
    assert "top-k (queued)" in said(meteor("experiments", "list", "--limit", "1"))
    assert said(meteor("experiments", "cancel", made["id"])).count("cancelled") == len(made["variants"])


def test_nothing_runs_for_scripts(tmp_path: Path):
    told = CliRunner().invoke(cli, ["status", "--data", str(tmp_path), "--json"])
    assert (told.exit_code, json.loads(told.stdout)) == (1, {"object": "run", "alive": False, "ready": False})
    assert PAUSED_EXIT == 3
