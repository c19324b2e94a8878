"""`meteor jobs`, `report` and `usage` against the real API: what they print for people and for scripts, and their exit codes."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from services.cli import watch
from services.cli.client import JOBS, ApiClient, Refused, Waits
from services.cli.watch import Follower, pass_rate
from services.meteor import main
from services.meteor.main import cli
from shared.artifacts.store import Artifacts
from shared.contracts.errors import MeteorError
from shared.contracts.jobs import JobObject, JobStatus
from shared.contracts.keys import AuditEntry
from shared.contracts.views import Listed, StepObject
from shared.db.engine import writing
from shared.jobs.records import JobRecord
from shared.jobs.tables import DEFAULT_PROJECT, jobs
from tests.contract.conftest import BASE, KEY, RunningApi, rows, running_api
from tests.fakes.ports import free_port, wait_until
from tests.fakes.reports import EVIL, WHOLE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def meteor(api: RunningApi, monkeypatch: pytest.MonkeyPatch):
    """Call it with a command line; another machine's API is asked."""
    monkeypatch.setenv("METEOR_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    return lambda *line: CliRunner().invoke(cli, list(line))


def out(result: Result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """(a job's body, a dataset)"""
    body, dataset = tmp_path / "job.json", tmp_path / "rows.jsonl"
    body.write_text(json.dumps({"model": BASE, "suffix": "cli", "distillation": {"domain": "sums"}}))
    dataset.write_bytes(rows(60))
    return body, dataset


@pytest.fixture
def job(meteor, files: tuple[Path, Path]) -> str:
    made = meteor("jobs", "create", str(files[0]), "--rows", str(files[1]))
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


def test_a_job_is_posted_with_changes_listed_shown_and_cancelled(meteor, files: tuple[Path, Path]):
    line = ("jobs", "create", str(files[0]), "--rows", str(files[1]), "--set", "distillation.iterate.rounds=3")
    made = out(meteor(*line, "--set", "metadata.team=cli", "--json"))
    assert made["distillation"]["iterate"]["rounds"] == 3
    listed = out(meteor("jobs", "list", "--limit", "1", "--json"))
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    row = next(line for line in meteor("jobs", "list").stdout.splitlines() if made["id"] in line)
    assert re.search(rf"{date.today().year}-\d\d-\d\d \d\d:\d\d", row), "when it was posted"
    assert out(meteor("jobs", "show", "last", "--json"))["id"] == made["id"]
    assert json.loads(meteor("jobs", "show", made["id"]).stdout)["metadata"] == {"team": "cli"}
    assert out(meteor("jobs", "steps", made["id"], "--json"))["data"] == []
    assert out(meteor("usage", made["id"], "--json"))["total"]["teacher_calls"] == 0
    assert "total" in meteor("usage", made["id"]).stdout
    assert out(meteor("jobs", "raise", made["id"], "--usd", "2", "--json"))["distillation"]["budget"]["max_usd"] == 2
    assert "0 of 2 usd" in meteor("usage", made["id"]).stdout
    assert out(meteor("jobs", "pause", made["id"], "--json"))["status"] == "paused"
    assert out(meteor("jobs", "resume", made["id"], "--json"))["status"] == "queued"
    forked = out(meteor("jobs", "fork", made["id"], "--set", "distillation.iterate.rounds=2", "--json"))
    assert made["id"] in forked["distillation"]["forked_from"].values()
    for name in (made["id"], forked["id"]):
        assert meteor("jobs", "cancel", name).stdout.strip() == "cancelled"


def test_a_fork_is_followed_to_its_end(meteor, api: RunningApi, job: str):
    """Nothing runs here, so somebody else cancels it."""
    asked = "distillation.iterate.rounds=4"

    def cancelled() -> None:
        def forks() -> list[JobRecord]:
            page, _ = api.stores.jobs.page(DEFAULT_PROJECT, None, 10)
            return [one for one in page if one.forked_from is not None and one.forked_from.job_id == job]

        wait_until(lambda: bool(forks()), 20, "the fork")
        api.stores.jobs.cancel(forks()[0])

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cancelled)
        followed = meteor("jobs", "fork", job, "--set", asked, "--watch")
        other.result()
    fork, *_ = followed.stdout.split()
    assert f"{fork}: cancelled" in followed.output
    assert followed.exit_code == 1


def test_a_job_that_is_resumed_is_followed_to_its_end(meteor, api: RunningApi, job: str):
    assert "paused" in meteor("jobs", "pause", job).stdout

    def cancelled() -> None:
        def queued() -> list[JobRecord]:
            page, _ = api.stores.jobs.page(DEFAULT_PROJECT, None, 10, status="queued")
            return [one for one in page if one.id == job]

        wait_until(lambda: bool(queued()), 20, "the resumed job")
        api.stores.jobs.cancel(queued()[0])

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cancelled)
        followed = meteor("jobs", "resume", job, "--watch")
        other.result()
    assert followed.stdout.split()[0] == "queued"
    assert f"{job}: cancelled" in followed.output
    assert followed.exit_code == 1


def test_files_that_a_body_names_by_path_are_uploaded(meteor, api: RunningApi, files: tuple[Path, Path]):
    """A script makes a database where a field takes one, and stays a text where a field takes that."""
    script = "CREATE TABLE book (title TEXT);"
    (files[0].parent / "shop.sql").write_text(script)
    body = json.loads(files[0].read_text())
    grader = {"type": "sql_result", "database": "@shop.sql"}
    body["distillation"] |= {"teacher": {"context": ["@shop.sql", "Be brief."]}, "evaluation": {"graders": [grader]}}
    files[0].write_text(json.dumps(body))
    made = out(meteor("jobs", "create", str(files[0]), "--rows", str(files[1]), "--json"))
    text, words = made["distillation"]["teacher"]["context"]
    database = made["distillation"]["evaluation"]["graders"][0]["database"]
    assert words == "Be brief."
    contents = {
        file_id: (api.platform.files / api.stores.catalog.file(DEFAULT_PROJECT, file_id).sha256).read_bytes()
        for file_id in (text, database)
    }
    assert contents[text] == script.encode()
    assert contents[database].startswith(b"SQLite format 3")


def test_the_exit_codes_are_those_of_the_document(meteor, job: str, files: tuple[Path, Path], tmp_path: Path):
    assert meteor("jobs", "show").exit_code == 2  # no id
    assert meteor("jobs", "list", "--limit", "0").exit_code == 2
    assert meteor("no-such-command").exit_code == 2
    meteor("jobs", "pause", job)
    assert meteor("jobs", "watch", job).exit_code == 3
    meteor("jobs", "cancel", job)
    assert meteor("jobs", "watch", job).exit_code == 1
    lines = meteor("jobs", "watch", job, "--json").stdout.splitlines()
    assert [json.loads(line)["object"] for line in lines] == ["fine_tuning.job.event"] * (len(lines) - 1) + [
        "fine_tuning.job"
    ]
    for line in (("jobs", "show", "ftjob-none"), ("jobs", "create", str(tmp_path / "none.json"))):
        refused = meteor(*line)
        assert refused.exit_code == 1
        assert isinstance(refused.exception, MeteorError)
    command = [sys.executable, "-m", "services.local", "report", job]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"meteor: job {job} is cancelled and has no report yet\n"


@pytest.mark.parametrize(
    ("ending", "code"),
    [(Waits("it waits"), 3), (Refused("no"), 1), (KeyboardInterrupt(), 130), (typer.Exit(3), 3), (None, 0)],
)
def test_the_process_ends_with_the_code_of_its_ending(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: BaseException | None, code: int
):
    def called(*_: object) -> Listed[AuditEntry]:
        if ending is not None:
            raise ending
        return Listed(data=[], first_id=None, last_id=None, has_more=False)

    monkeypatch.setenv("METEOR_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(ApiClient, "page", called)
    monkeypatch.setattr(sys, "argv", ["meteor", "audit", "--json"])
    with pytest.raises(SystemExit) as ended:
        main.app()
    assert ended.value.code == code
    told = isinstance(ending, MeteorError)
    assert capsys.readouterr().err.strip() == (f"meteor: {ending}" if told else "")


def test_another_machine_is_named_on_the_command_line(
    meteor, job: str, monkeypatch: pytest.MonkeyPatch, api: RunningApi
):
    monkeypatch.setenv("METEOR_URL", f"http://127.0.0.1:{free_port()}")
    assert meteor("jobs", "show", job).exit_code == 1
    assert out(meteor("--url", f"{api.url}/", "jobs", "show", job, "--json"))["id"] == job
    meteor("jobs", "cancel", job)


def test_the_report_is_written_as_a_page(meteor, job: str, api: RunningApi, tmp_path: Path):
    meteor("jobs", "cancel", job)
    reference = Artifacts(api.platform.artifacts).put_json(WHOLE)
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job).values(report_ref=reference))
    page = tmp_path / "out.html"
    assert meteor("report", job, "--html", str(page)).exit_code == 0
    assert "<!doctype html>" in page.read_text()
    assert EVIL not in page.read_text()
    assert out(meteor("report", job, "--json")) == WHOLE
    assert "Nothing is told apart" in meteor("report", job, "--markdown").stdout


def test_watch_outlives_a_restart_of_the_api_at_another_address(tmp_path: Path):
    redis = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    headers = {"authorization": f"Bearer {KEY}"}
    with running_api(tmp_path, **redis) as first:
        client = httpx.Client(base_url=first.url, headers=headers)
        stored = client.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()
        body = {"model": BASE, "training_file": stored["id"], "distillation": {"domain": "sums"}}
        job = client.post("/v1/distillation/jobs", json=body).json()["id"]
        address, ends = [first.url], []
        follower = Follower(ApiClient(client), job, lambda: address[0])
        thread = threading.Thread(target=lambda: ends.append(follower.emit_lines()), daemon=True)
        thread.start()
    with running_api(tmp_path, **redis) as second:
        assert second.url != first.url
        assert thread.is_alive()
        address[0] = second.url
        row = second.stores.jobs.get(job)
        assert row is not None
        second.stores.jobs.cancel(row)
        wait_until(lambda: ends, 60, "the end of watching")
    assert ends[0].status == "cancelled"
    client.close()


def test_a_watch_into_a_file_writes_a_line_on_a_change_of_state_and_else_every_30_s_at_most(
    meteor, job: str, api: RunningApi, monkeypatch: pytest.MonkeyPatch
):
    meteor("jobs", "cancel", job)
    with ApiClient(httpx.Client(base_url=api.url, headers={"authorization": f"Bearer {KEY}"})) as client:
        ended = client.get(JOBS, job)
        looks = [looked_at(ended, JobStatus.RUNNING, percent) for percent in (1.0, 1.4, 1.9, 2.0, 2.6)]
        answers = iter([*looks, looked_at(ended, JobStatus.CANCELLED, 2.6)])
        monkeypatch.setattr(watch, "LOOK_S", 0.0)
        monkeypatch.setattr(Follower, "_get", lambda *_: next(answers))
        monkeypatch.setattr(Follower, "_new_events", lambda _: [])
        file = io.StringIO()
        assert Follower(client, job).show(Console(file=file, width=150)).status == "cancelled"
    assert [line.split(",")[0].split()[-2] for line in file.getvalue().splitlines()] == ["1", "3"]


def looked_at(job: JobObject, status: JobStatus, percent: float) -> JobObject:
    progress = job.distillation.progress.model_copy(update={"percent": percent})
    distillation = job.distillation.model_copy(update={"progress": progress})
    return job.model_copy(update={"status": status, "distillation": distillation})


def verdict(number: int, t: int, n: int, passed: int, state: str = "succeeded") -> StepObject:
    key = f"iterate/{number}/try-{t}/verdicts/0"
    metrics = {"n": n, "passed": passed} if state == "succeeded" else {}
    shown: dict[str, Any] = {"key": key, "state": state, "metrics": metrics}
    return StepObject.model_construct(**shown)


def test_the_pass_rate_is_that_of_the_newest_round():
    assert pass_rate([]) == ""
    steps = [verdict(1, 1, 20, 20), verdict(2, 1, 10, 3), verdict(2, 2, 7, 2), verdict(2, 1, 0, 0, "running")]
    assert pass_rate(steps) == "round 2: 5 of 10 passed (50%)"


def test_the_shell_completes_commands():
    environment = os.environ | {"_METEOR_COMPLETE": "complete_bash", "COMP_WORDS": "meteor jobs w", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "services.local"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.split() == ["watch"], done.stderr


def test_the_completion_is_shown_for_a_shell():
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "services.local", "--show-completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert "_METEOR_COMPLETE=complete_bash" in done.stdout, done.stderr
