"""PATCH of a job: another budget, other metadata, and nothing else; the command line that raises a budget."""

from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.contracts.jobs import JobStatus
from shared.ledger.store import open_ledger
from tests.contract.conftest import KEY, RunningApi
from tests.contract.test_pause_and_providers import body, claim

SPENT = "the job's budget: 0.99 USD of 1 USD are spent"


def post(http: httpx.Client, **budget: Any) -> str:
    answer = http.post("/v1/distillation/jobs", json=body(http, budget=budget))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def patch(http: httpx.Client, job: str, **change: Any) -> httpx.Response:
    return http.patch(f"/v1/distillation/jobs/{job}", json=change)


def budget_of(http: httpx.Client, job: str) -> dict[str, Any]:
    return http.get(f"/v1/distillation/jobs/{job}").json()["distillation"]["budget"]


def test_a_budget_is_changed_field_by_field_and_reaches_the_ledger(api: RunningApi, http: httpx.Client):
    job = post(http, max_usd=1, max_calls=5)
    changed = patch(http, job, distillation={"budget": {"max_usd": 2.5, "max_calls": None}}, metadata={"a": "b"})
    assert changed.status_code == 200
    wanted = {"max_usd": 2.5, "max_tokens": None, "max_calls": None, "on_exceed": "pause"}
    assert changed.json()["distillation"]["budget"] == budget_of(http, job) == wanted
    assert changed.json()["metadata"] == {"a": "b"}
    account = open_ledger(api.platform.ledger_database).account(job)
    assert account is not None
    assert (account.max_usd, account.max_calls) == (2.5, None)
    usage = http.get(f"/v1/distillation/jobs/{job}/usage").json()
    assert usage["budget"] == wanted
    assert usage["counted"] == {"usd": 0, "tokens": 0, "calls": 0}
    assert usage["total"]["usd_reserved"] == 0
    http.post(f"/v1/distillation/jobs/{job}/cancel")
    refused = patch(http, job, distillation={"budget": {"max_usd": 3}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_finished")
    assert patch(http, job, metadata={}).json()["metadata"] == {}
    assert patch(http, "ftjob-none", metadata={}).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"distillation": {"budget": {"max_usd": -1}}}, "distillation.budget.max_usd"),
        ({"distillation": {"budget": {"on_exceed": "go on"}}}, "distillation.budget.on_exceed"),
        ({"distillation": {"domain": "x"}}, "distillation.domain"),
        ({"model": "x"}, "model"),
        ({"metadata": {"experiment": "exp-1"}}, "metadata"),
    ],
)
def test_nothing_else_is_changed(http: httpx.Client, change: dict[str, Any], param: str):
    job = post(http)
    refused = patch(http, job, **change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    http.post(f"/v1/distillation/jobs/{job}/cancel")


def test_the_command_line_raises_a_budget_and_the_job_goes_on(api: RunningApi, http: httpx.Client, monkeypatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    job, run = post(http, max_usd=1), CliRunner().invoke
    row = claim(api, job)
    assert api.stores.jobs.pause_over_budget(job, SPENT)
    assert http.get(f"/v1/distillation/jobs/{job}").json()["status"] == "pausing"
    api.stores.jobs.note(row, status_reason="waits for something", progress={})
    assert api.stores.jobs.rest(row)
    watched = run(cli, ["jobs", "watch", job])
    assert watched.exit_code == 3
    for words in (f"budget_exceeded: {SPENT}", f"meteor jobs raise {job}"):
        assert words in watched.stdout
    assert run(cli, ["jobs", "raise", job]).exit_code != 0
    assert run(cli, ["jobs", "raise", job, "--usd", "2", "--calls", "9"]).stdout.strip() == "queued"
    assert budget_of(http, job) == {"max_usd": 2, "max_tokens": None, "max_calls": 9, "on_exceed": "pause"}

    row = claim(api, job)  # raised while it still pauses
    assert api.stores.jobs.pause_over_budget(job, SPENT)
    assert run(cli, ["jobs", "raise", job, "--usd", "3"]).stdout.strip() == "pausing"
    assert api.stores.jobs.rest(row)
    now = api.stores.jobs.get(job)
    assert now is not None
    assert (now.status, now.status_reason) == (JobStatus.QUEUED, None)

    api.stores.jobs.pause(now)  # by request: a raise is no reason to go on
    assert run(cli, ["jobs", "raise", job, "--usd", "4"]).stdout.strip() == "paused"
    http.post(f"/v1/distillation/jobs/{job}/cancel")
