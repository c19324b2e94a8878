"""Projects over HTTP: the operator's to make, their limits felt by their callers, and who changed what in the audit log."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from shared.contracts.keys import Scope
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import BASE, RunningApi, rows

NO_LIMITS = dict.fromkeys(("requests_per_minute", "concurrent_jobs", "teacher_usd_per_day", "stored_bytes"))


def new_project(http: httpx.Client, **limits: float) -> str:
    answer = http.post("/v1/projects", json={"name": "of a test", "limits": limits})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/projects/{answer.json()['id']}"
    return answer.json()["id"]


def new_key(http: httpx.Client, project: str) -> str:
    body = {"name": "of a test", "project": project, "scopes": list(Scope)}
    return http.post("/v1/keys", json=body).json()["key"]


@pytest.fixture
def inside(api: RunningApi, http: httpx.Client, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A caller with all scopes in a project of its own, with the limits of the test's parameter."""
    project = new_project(http, **getattr(request, "param", {}))
    headers = {"authorization": f"Bearer {new_key(http, project)}", "x-project": project}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


def upload(http: httpx.Client, count: int = 4) -> httpx.Response:
    return http.post("/v1/files", files={"file": ("r.jsonl", rows(count))}, data={"purpose": "fine-tune"})


def test_projects_and_their_limits(http: httpx.Client):
    project = new_project(http, concurrent_jobs=2, teacher_usd_per_day=1.5)
    limits = NO_LIMITS | {"concurrent_jobs": 2, "teacher_usd_per_day": 1.5}
    assert http.get(f"/v1/projects/{project}").json()["limits"] == limits
    change = {"limits": {"concurrent_jobs": None, "stored_bytes": 7}, "name": "renamed"}
    changed = http.patch(f"/v1/projects/{project}", json=change).json()
    assert changed["limits"] == limits | {"concurrent_jobs": None, "stored_bytes": 7}
    assert changed["name"] == "renamed"
    none = http.patch(f"/v1/projects/{project}", json={"limits": NO_LIMITS}).json()
    assert none["limits"] == NO_LIMITS
    assert http.get("/v1/projects").json()["data"][0] == none
    assert http.get(f"/v1/projects/{DEFAULT_PROJECT}").json()["limits"] == NO_LIMITS
    for bad in ({"limits": {"concurrent_jobs": 0}}, {"limits": {"gpu": 1}}, {"name": "a\nb"}, {"id": "proj_x"}):
        assert http.patch(f"/v1/projects/{project}", json=bad).status_code == 400
    assert http.patch("/v1/projects/proj_none", json={}).json()["error"]["code"] == "project_not_found"


def test_a_projects_admin_is_no_operator(inside: httpx.Client):
    own = inside.headers["x-project"]
    assert [row["id"] for row in inside.get("/v1/projects").json()["data"]] == [own]
    for method, path in (("POST", "/v1/projects"), ("PATCH", f"/v1/projects/{own}")):
        refused = inside.request(method, path, json={"name": "more"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    mine = inside.post("/v1/keys", json={"name": "for a colleague"}).json()
    assert mine["project"] == own
    assert {row["project"] for row in inside.get("/v1/keys").json()["data"]} == {own}


@pytest.mark.parametrize("inside", [{"requests_per_minute": 2}], indirect=True)
def test_too_many_requests_are_told_when_to_come_again(api: RunningApi, http: httpx.Client, inside: httpx.Client):
    answers = [inside.get("/v1/models") for _ in range(8)]  # at most two minutes of the clock see these
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 4 <= len(refused) <= 6
    assert {answer.json()["error"]["type"] for answer in refused} == {"rate_limit_error"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    key = inside.headers["authorization"].removeprefix("Bearer ")
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)
    with client, pytest.raises(openai.RateLimitError):
        _ = [client.models.list() for _ in range(5)]
    assert http.get("/v1/models").status_code == 200
    project = inside.headers["x-project"]
    http.patch(f"/v1/projects/{project}", json={"limits": {"requests_per_minute": None}})
    assert inside.get("/v1/models").status_code == 200


@pytest.mark.parametrize("inside", [{"stored_bytes": len(rows(4)) + 5}], indirect=True)
def test_stored_bytes(inside: httpx.Client):
    first = upload(inside)
    assert first.status_code == 200
    full = upload(inside)
    assert (full.status_code, full.json()["error"]["type"]) == (413, "insufficient_quota")
    assert full.json()["error"]["param"] == "file"
    early = inside.post(
        "/v1/files", content=b"x" * 2_000_000, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert early.json()["error"]["code"] == "storage_limit_exceeded"
    assert inside.delete(f"/v1/files/{first.json()['id']}").status_code == 200
    assert upload(inside).status_code == 200


@pytest.mark.parametrize("inside", [{"concurrent_jobs": 1}], indirect=True)
def test_a_job_says_that_it_waits_for_its_project(api: RunningApi, inside: httpx.Client):
    body: dict[str, Any] = {
        "model": BASE,
        "training_file": upload(inside, 60).json()["id"],
        "distillation": {"domain": "sums"},
    }
    first, second = (inside.post("/v1/distillation/jobs", json=body).json()["id"] for _ in range(2))
    while (row := api.stores.jobs.claim("test", 60)) is not None and row.id != first:
        continue
    queue = inside.get(f"/v1/distillation/jobs/{second}").json()["distillation"]["queue"]
    assert queue["starts_in_seconds"] is None
    assert "limit" in queue["reason"]
    inside.post(f"/v1/distillation/jobs/{first}/cancel")


def test_the_audit_log_says_who_changed_what(api: RunningApi, http: httpx.Client, inside: httpx.Client):
    me = inside.get("/v1/keys").json()["data"][0]["id"]
    file = upload(inside).json()["id"]
    inside.delete(f"/v1/files/{file}")
    inside.delete("/v1/files/made%0d%0aup%00%1b[31m" + "x" * 300)
    new = inside.post("/v1/keys", json={"name": "secret-name"}).json()
    chat = {"model": BASE, "messages": [{"role": "user", "content": "secret-text"}]}
    assert inside.post("/v1/chat/completions", json=chat).status_code == 200
    answer = inside.post("/v1/labels", json={"wrong": 1}, headers={"x-request-id": "mine\r\n"[:4]})
    assert answer.status_code == 400
    log = inside.get("/v1/audit").json()["data"]
    assert [(row["method"], row["route"], row["status"]) for row in log] == [
        ("POST", "/v1/labels", 400),
        ("POST", "/v1/keys", 201),
        ("DELETE", "/v1/files/{file_id}", 400),
        ("DELETE", "/v1/files/{file_id}", 200),
        ("POST", "/v1/files", 200),
    ]
    assert {row["caller"] for row in log} == {me}
    assert [row["object_id"] for row in log[:2] + log[3:]] == [None, new["id"], file, file]
    odd = log[2]["object_id"]
    assert odd.startswith("madeup[31m")
    assert odd.isprintable()
    assert len(odd) == 200
    assert log[0]["request_id"] == "mine"
    assert abs(log[0]["created_at"] - time.time()) < 60
    for secret in (new["key"], "secret-name", "secret-text", inside.headers["authorization"]):
        assert secret not in str(log)
    page = inside.get("/v1/audit", params={"limit": 2, "after": log[1]["id"]}).json()
    assert [row["id"] for row in page["data"]] == [row["id"] for row in log[2:4]]
    assert page["has_more"]
    assert http.get("/v1/audit").json()["data"][0]["id"] == log[0]["id"]
    assert {row["project"] for row in log} == {inside.headers["x-project"]}


def test_strangers_leave_no_entry_and_the_refused_do(api: RunningApi, http: httpx.Client):
    before = http.get("/v1/audit").json()["first_id"]
    assert httpx.post(f"{api.url}/v1/labels", json={}, trust_env=False).status_code == 401
    assert http.get("/v1/audit").json()["first_id"] == before
    key = http.post("/v1/keys", json={"name": "of a test", "scopes": ["chat"]}).json()
    headers = {"authorization": f"Bearer {key['key']}"}
    assert httpx.delete(f"{api.url}/v1/files/file-x", headers=headers, trust_env=False).status_code == 403
    last = http.get("/v1/audit").json()["data"][0]
    assert (last["caller"], last["status"], last["object_id"]) == (key["id"], 403, "file-x")
