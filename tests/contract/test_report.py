"""A job's report over HTTP: JSON, or one page for who accepts HTML, each under a tag of its own."""

import httpx
import pytest

from shared.artifacts.store import Artifacts
from shared.db.engine import writing
from shared.jobs.tables import jobs
from tests.contract.conftest import BASE, RunningApi
from tests.fakes.reports import EVIL, WHOLE


@pytest.fixture
def reported(api: RunningApi, http: httpx.Client) -> str:
    """The id of a job with a report."""
    rows = "".join(f'{{"question": "after {i}?", "reference": "{i + 1}"}}\n' for i in range(60))
    sent = {"file": ("rows.jsonl", rows.encode())}
    stored = http.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()
    body = {"model": BASE, "training_file": stored["id"], "suffix": "page", "distillation": {"domain": "numbers"}}
    job = http.post("/v1/distillation/jobs", json=body).json()["id"]
    http.post(f"/v1/distillation/jobs/{job}/cancel").raise_for_status()
    reference = Artifacts(api.platform.artifacts).put_json(WHOLE)
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(jobs.update().where(jobs.c.id == job).values(report_ref=reference))
    return job


@pytest.mark.parametrize("names", ["distillation", "fine_tuning"])
def test_who_accepts_html_gets_the_page(http: httpx.Client, reported: str, names: str):
    path = f"/v1/{names}/jobs/{reported}/report"
    browser = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    shown, plain = http.get(path, headers=browser), http.get(path)
    assert plain.json() == WHOLE
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert shown.text.lstrip().startswith("<!doctype html>")
    assert EVIL not in shown.text
    assert shown.headers["etag"] != plain.headers["etag"]
    assert "accept" in shown.headers["vary"].lower()
    again = http.get(path, headers=browser | {"if-none-match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_without_a_report_the_refusal_is_json_for_all(http: httpx.Client):
    answer = http.get("/v1/distillation/jobs/ftjob-none/report", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
