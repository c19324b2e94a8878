"""What HTTP adds: requests that are sent twice, tags of retries, compression, other origins' pages."""

import asyncio
import hashlib
import threading
import time
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.api.middleware.idempotency import StoredResponses
from shared.db.engine import reading, writing
from shared.jobs.answer_store import KEPT_S, LOST_S, AnswerClaim
from shared.jobs.records import AnswerRecord
from shared.jobs.tables import DEFAULT_PROJECT, answers
from tests.contract.conftest import BASE, KEY, RunningApi, rows, running_api

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def dataset(api: RunningApi) -> str:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY) as client:
        return client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id


def posted(http: httpx.Client, dataset: str, key: str, **more: Any) -> httpx.Response:
    body = {"model": BASE, "training_file": dataset} | more
    return http.post(JOBS, json=body, headers={"idempotency-key": key})


def age(api: RunningApi, key: str, seconds: float) -> None:
    with writing(api.stores.answers.engine) as connection:
        connection.execute(update(answers).where(answers.c.key == key).values(created_at=time.time() - seconds))


def test_the_same_request_is_done_once(http: httpx.Client, dataset: str):
    first, again = (posted(http, dataset, "once", metadata={"of": "once"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    listed = http.get(JOBS, params={"metadata[of]": "once"}).json()["data"]
    assert [job["id"] for job in listed] == [first.json()["id"]]


def test_another_request_under_the_same_key_is_refused(http: httpx.Client, dataset: str):
    first = posted(http, dataset, "changed")
    other = posted(http, dataset, "changed", seed=1)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.json()["error"]["type"] == "invalid_request_error"
    elsewhere = http.post(f"{JOBS}/{first.json()['id']}/cancel", headers={"idempotency-key": "changed"})
    assert elsewhere.status_code == 422


def test_a_refused_request_may_be_sent_again(http: httpx.Client, dataset: str):
    assert posted(http, "file-nobody", "mended").status_code == 400
    assert posted(http, dataset, "mended").status_code == 201
    job = posted(http, dataset, "to-cancel").json()["id"]
    http.post(f"{JOBS}/{job}/cancel")
    refused = [http.post(f"{JOBS}/{job}/cancel", headers={"idempotency-key": "late"}) for _ in range(2)]
    assert [answer.status_code for answer in refused] == [409, 409]
    assert "idempotent-replayed" not in refused[1].headers


def test_a_request_on_its_way_is_waited_for(api: RunningApi, http: httpx.Client, dataset: str):
    """The stock client asks again by itself, and has the answer of the request that was first."""
    job = posted(http, dataset, "first").json()["id"]
    path = f"{JOBS}/{job}/pause"
    begun = api.stores.answers.begin(DEFAULT_PROJECT, "slow", digest_of("POST", path))
    assert isinstance(begun, AnswerClaim)
    early = http.post(path, headers={"idempotency-key": "slow"})
    assert (early.status_code, early.json()["error"]["code"]) == (409, "idempotency_key_in_flight")
    assert (early.headers["x-should-retry"], early.headers["retry-after"]) == ("true", "1")
    headers = {"content-type": "application/json"}
    kept = http.get(f"{JOBS}/{job}").content
    threading.Timer(0.5, api.stores.answers.keep, [begun, 200, headers, kept]).start()
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=2) as client:
        got = client.fine_tuning.jobs.with_raw_response.pause(job, extra_headers={"idempotency-key": "slow"})
    assert got.headers["idempotent-replayed"] == "true"
    assert got.parse().status == "queued"  # nothing was paused: the answer is the kept one


def digest_of(method: str, path: str, body: bytes = b"") -> str:
    return hashlib.sha256(f"{method} {path}?\n".encode() + body).hexdigest()


async def test_a_request_keeps_its_key_however_long_it_takes(api: RunningApi):
    """Its claim is renewed, and its response is stored under the renewed one."""
    store = api.stores.answers

    def at() -> float:
        with reading(store.engine) as connection:
            return connection.execute(select(answers.c.created_at).where(answers.c.key == "long")).scalar_one()

    async def work(request: Request) -> Response:
        request.state.claim = store.begin(DEFAULT_PROJECT, "long", "d")
        before, deadline = at(), time.monotonic() + 20
        while at() == before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        return Response("done", 201)

    app = Starlette(routes=[Route("/", work, methods=["POST"])], middleware=[Middleware(StoredResponses, renew_s=0.05)])
    app.state.context = SimpleNamespace(stores=api.stores)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        assert (await client.post("/", headers={"idempotency-key": "long"})).status_code == 201
    kept = store.begin(DEFAULT_PROJECT, "long", "d")
    assert isinstance(kept, AnswerRecord)
    assert (kept.status, kept.body) == (201, b"done")


def test_what_went_down_with_its_process_is_done_again(api: RunningApi, http: httpx.Client, dataset: str):
    job = posted(http, dataset, "before-the-crash").json()["id"]
    path = f"{JOBS}/{job}/pause"
    lost = api.stores.answers.begin(DEFAULT_PROJECT, "crashed", digest_of("POST", path))
    assert isinstance(lost, AnswerClaim)
    age(api, "crashed", LOST_S + 1)
    assert http.post(path, headers={"idempotency-key": "crashed"}).json()["status"] == "paused"
    api.stores.answers.keep(lost, 500, {}, b"too late")
    again = http.post(path, headers={"idempotency-key": "crashed"})
    assert (again.status_code, again.json()["status"]) == (200, "paused")


def test_keys_are_forgotten_after_a_day_and_belong_to_a_project(api: RunningApi, http: httpx.Client, dataset: str):
    first = posted(http, dataset, "old").json()["id"]
    age(api, "old", KEPT_S + 1)
    assert posted(http, dataset, "old").json()["id"] != first
    project = http.post("/v1/projects", json={"name": "other"}).json()["id"]
    key = http.post("/v1/keys", json={"name": "k", "project": project, "scopes": ["jobs"]}).json()["key"]
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "old"}
    foreign = http.post(JOBS, json={"model": BASE, "training_file": dataset}, headers=headers)
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (400, "file_not_found")


def test_a_key_without_the_scope_has_no_replay(http: httpx.Client, dataset: str):
    posted(http, dataset, "secret")
    key = http.post("/v1/keys", json={"name": "k", "scopes": ["chat"]}).json()["key"]
    headers = {"authorization": f"Bearer {key}", "idempotency-key": "secret"}
    answer = http.post(JOBS, json={"model": BASE, "training_file": dataset}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("key", ["x" * 256, ""])
def test_a_key_that_is_none(http: httpx.Client, dataset: str, key: str):
    answer = posted(http, dataset, key)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_long_answers_are_compressed_and_streams_are_not(http: httpx.Client, dataset: str):
    job = posted(http, dataset, "zipped").json()["id"]
    for path, accept, zipped in (
        (f"{JOBS}/{job}", "*/*", True),
        ("/healthz", "*/*", False),  # too short
        (f"{JOBS}/{job}/events", "text/event-stream", False),
        (f"/v1/files/{dataset}/content", "*/*", False),
    ):
        if "event" in accept:
            http.post(f"{JOBS}/{job}/cancel")
        answer = http.get(path, headers={"accept": accept, "accept-encoding": "gzip"})
        assert (answer.headers.get("content-encoding") == "gzip") == zipped, path
    body = {"model": BASE, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    chat = http.post("/v1/chat/completions", json=body, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in chat.headers
    assert "[DONE]" in chat.text
    plain = http.get(f"{JOBS}/{job}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


def asks(http: httpx.Client, origin: str) -> tuple[httpx.Response, httpx.Response]:
    """A preflight, and the request itself."""
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    return http.options(JOBS, headers={"origin": origin} | wanted), http.get(JOBS, headers={"origin": origin})


def test_no_other_origin_by_default(http: httpx.Client):
    preflight, answer = asks(http, "https://page.example")
    assert preflight.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_origins_that_the_operator_names(tmp_path):
    with running_api(tmp_path, METEOR_API_CORS_ORIGINS="https://page.example, http://localhost:3000") as api:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as http:
            preflight, answer = asks(http, "https://page.example")
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == "https://page.example"
            assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
            assert preflight.headers["x-request-id"].startswith("req-")
            assert answer.headers["access-control-allow-origin"] == "https://page.example"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            preflight, answer = asks(http, "https://evil.example")
            assert preflight.status_code == 400
            assert "access-control-allow-origin" not in answer.headers
