"""API keys over HTTP: shown once, scoped, bound to a project, expiring, revocable at once; the database holds no key."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from sqlalchemy import text

from shared.contracts.errors import BudgetExceeded
from shared.contracts.keys import Scope
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.accounts import Amount
from shared.ledger.store import CallOrigin, Cost, open_ledger
from shared.security.api_keys import LONGEST, hash_secret, hint_of, keyed_hash, new_key
from tests.contract.conftest import BASE, RunningApi, rows, running_api
from tests.fakes.ports import free_port, wait_until

OPENS = {  # one request a scope, and what it answers to a key that has it
    Scope.JOBS: ("/v1/distillation/jobs", 200),
    Scope.FILES: ("/v1/files", 200),
    Scope.ADMIN: ("/v1/keys", 200),
}


RAISED = {"distillation": {"budget": {"max_usd": 50}}}


def made(http: httpx.Client, **body) -> dict:
    answer = http.post("/v1/keys", json={"name": "of a test"} | body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def status(api: RunningApi, key: str, path: str = "/v1/models", method: str = "GET", **more) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.request(method, api.url + path, headers=headers, trust_env=False, timeout=30, **more).status_code


def test_a_key_is_shown_once_and_opens_for_the_stock_client(api: RunningApi, http: httpx.Client):
    new = made(http, name="laptop", expires_at=int(time.time()) + 3600)
    key = new.pop("key")
    assert key.startswith("mk-")
    assert len(key) >= 35  # 256 bits, and never less than 192
    assert new["scopes"] == ["chat", "files", "jobs"]
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0) as client:
        assert client.files.create(file=("rows.jsonl", rows(4)), purpose="fine-tune").id
        assert client.models.list().data[0].id == BASE
    listed = http.get("/v1/keys").json()
    assert listed["first_id"] == new["id"]
    assert key not in str(listed)
    again = http.get(f"/v1/keys/{new['id']}").json()
    assert again["last_used_at"] is not None
    assert again | {"last_used_at": None} == new


def test_a_key_has_a_budget_that_its_jobs_share(api: RunningApi, http: httpx.Client):
    new = made(http, name="student", budget={"max_usd": 2})
    other = {"authorization": f"Bearer {new['key']}"}
    assert new["budget"] == {"max_usd": 2, "max_tokens": None, "max_calls": None}
    file = http.post(
        "/v1/files", files={"file": ("rows.jsonl", rows(30))}, data={"purpose": "fine-tune"}, headers=other
    )
    body = {"model": BASE, "training_file": file.json()["id"], "distillation": {"domain": "shell"}}
    posted = http.post("/v1/distillation/jobs", json=body, headers=other).json()
    forked = http.post(f"/v1/distillation/jobs/{posted['id']}/fork", json={}, headers=other).json()
    ours = http.post(f"/v1/distillation/jobs/{posted['id']}/fork", json={}).json()
    kept = [api.stores.jobs.get(job["id"]) for job in (posted, forked, ours)]
    assert [row.key_id for row in kept if row] == [new["id"], new["id"], None]
    ledger = open_ledger(api.platform.ledger_database)
    for job in (posted, forked):  # a PATCH opens the job's account, if no orchestrator has
        assert http.patch(f"/v1/distillation/jobs/{job['id']}", json=RAISED).status_code == 200
    for job in (posted, forked):
        call = ledger.begin(CallOrigin(DEFAULT_PROJECT, job["id"]), "default", "m", job["id"], Amount(0.75, 10))
        ledger.settle(call, "ok", Cost(5, 5, 0.75))
    assert http.get(f"/v1/keys/{new['id']}").json()["spent"] == {"usd": 1.5, "tokens": 20, "calls": 2}
    with pytest.raises(BudgetExceeded, match=new["id"]):
        ledger.begin(CallOrigin(DEFAULT_PROJECT, forked["id"]), "default", "m", "h", Amount(0.75, 10))
    changed = http.patch(f"/v1/keys/{new['id']}", json={"budget": {"max_calls": 9}}).json()
    assert changed["budget"] == {"max_usd": 2, "max_tokens": None, "max_calls": 9}
    assert http.patch(f"/v1/keys/{new['id']}", json={"budget": {"max_usd": None}}).json()["budget"]["max_usd"] is None
    ledger.begin(CallOrigin(DEFAULT_PROJECT, forked["id"]), "default", "m", "h", Amount(0.75, 10))
    assert http.patch("/v1/keys/key-none", json={}).status_code == 404
    refused = http.patch(f"/v1/keys/{new['id']}", json={"budget": {"max_usd": -1}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "budget.max_usd")


def test_the_database_holds_no_key_and_the_secret_is_its_owners_alone(api: RunningApi, http: httpx.Client):
    key = made(http)["key"]
    api.stores.keys.any()
    with api.stores.keys.engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    data = api.platform.data
    for path in data.glob("meteor.sqlite3*"):
        assert key.encode() not in path.read_bytes()
        assert key[3:].encode() not in path.read_bytes()
    assert (data / "key-pepper").stat().st_mode & 0o077 == 0
    assert api.stores.keys.by_digest(keyed_hash(hash_secret(api.platform), key)) is not None


@pytest.mark.parametrize("scope", OPENS)
def test_each_route_asks_for_its_scope(api: RunningApi, http: httpx.Client, scope: Scope):
    key = made(http, scopes=[scope])["key"]
    for other, (path, expected) in OPENS.items():
        answer = httpx.get(api.url + path, headers={"authorization": f"Bearer {key}"}, trust_env=False)
        if other is scope:
            assert answer.status_code == expected
            continue
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")
        assert answer.json()["error"]["type"] == "permission_error"
        assert repr(other.value) in answer.json()["error"]["message"]
    body = {"model": BASE, "messages": [{"role": "user", "content": "hello"}]}
    assert status(api, key, "/v1/chat/completions", "POST", json=body) == 403


def test_a_chat_key_chats_and_lists_models_and_no_more(api: RunningApi, http: httpx.Client):
    key = made(http, scopes=["chat"])["key"]
    body = {"model": BASE, "messages": [{"role": "user", "content": "hello"}]}
    assert status(api, key, "/v1/chat/completions", "POST", json=body) == 200
    assert status(api, key) == 200
    assert status(api, key, f"/v1/models/{BASE}/rollback", "POST") == 403
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)
    with client, pytest.raises(openai.PermissionDeniedError, match="'files'"):
        client.files.list()


def test_a_revoked_key_opens_nothing_from_then_on(api: RunningApi, http: httpx.Client):
    new = made(http)
    assert status(api, new["key"]) == 200
    assert http.delete(f"/v1/keys/{new['id']}").json() == {"id": new["id"], "object": "api_key", "deleted": True}
    refused = httpx.get(f"{api.url}/v1/models", headers={"authorization": f"Bearer {new['key']}"}, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "revoked_api_key")
    first = http.get(f"/v1/keys/{new['id']}").json()["revoked_at"]
    assert first
    assert http.delete(f"/v1/keys/{new['id']}").status_code == 200
    assert http.get(f"/v1/keys/{new['id']}").json()["revoked_at"] == first


def test_a_key_revoked_by_another_process_closes_within_a_second(api: RunningApi, http: httpx.Client):
    new = made(http)
    assert status(api, new["key"]) == 200
    api.stores.keys.revoke(None, new["id"])
    wait_until(lambda: status(api, new["key"]) == 401, 5, "the key to close")


def test_a_stream_goes_on_when_its_key_is_revoked_and_no_new_one_begins(api: RunningApi, http: httpx.Client):
    upload = http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()
    body = {"model": BASE, "training_file": upload["id"], "distillation": {"domain": "sums"}}
    job = http.post("/v1/distillation/jobs", json=body).json()["id"]
    new = made(http)
    headers = {"authorization": f"Bearer {new['key']}", "accept": "text/event-stream"}
    url = f"{api.url}/v1/distillation/jobs/{job}/events"
    with httpx.Client(trust_env=False, timeout=30) as reader, reader.stream("GET", url, headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 3000"
        http.delete(f"/v1/keys/{new['id']}")
        assert reader.get(url, headers=headers).status_code == 401
        http.post(f"/v1/distillation/jobs/{job}/cancel")
        assert "event: done" in list(lines)


def test_an_expired_key_and_one_that_never_was(api: RunningApi):
    key = new_key()
    digest = keyed_hash(hash_secret(api.platform), key)
    api.stores.keys.add(DEFAULT_PROJECT, "old", [Scope.CHAT], digest, hint_of(key), int(time.time()) - 1)
    answer = httpx.get(f"{api.url}/v1/models", headers={"authorization": f"Bearer {key}"}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "expired_api_key")
    assert hint_of(key) in answer.json()["error"]["message"]
    for wrong in (new_key(), key + "x", "mk-", "mk-" + "x" * LONGEST, "mk-" + "x" * 8000, "mk-\xe9", digest):
        headers = {b"authorization": f"Bearer {wrong}".encode("latin-1")}
        answer = httpx.get(f"{api.url}/v1/models", headers=headers, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": "x" * 201}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\r\nset-cookie: b"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_at": 2**62}, "expires_at"),
        ({"project": "../x"}, "project"),
        ({"project": "proj_" + "x" * 60}, "project"),
        ({"key": "mk-my-own"}, "key"),
    ],
)
def test_bad_requests_say_where(http: httpx.Client, changes: dict, param: str):
    answer = http.post("/v1/keys", json={"name": "of a test"} | changes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_keys_are_listed_in_pages(http: httpx.Client):
    ids = [made(http)["id"] for _ in range(3)][::-1]
    first = http.get("/v1/keys", params={"limit": 2}).json()
    assert [row["id"] for row in first["data"]] == ids[:2]
    assert first["has_more"]
    assert http.get("/v1/keys", params={"after": ids[1], "limit": 1}).json()["data"][0]["id"] == ids[2]
    assert http.get("/v1/keys", params={"after": "key-x"}).json()["error"]["code"] == "unknown_cursor"
    assert http.get("/v1/keys/key-x").json()["error"]["code"] == "key_not_found"
    assert http.delete("/v1/keys/key-x").status_code == 404


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[RunningApi]:
    dead = f"redis://127.0.0.1:{free_port()}/0"
    with running_api(tmp_path, METEOR_API_KEYS="", REDIS_URL=dead) as running:
        yield running


def test_the_first_key_ends_keyless_access_also_once_it_is_revoked(keyless: RunningApi):
    with httpx.Client(base_url=keyless.url, trust_env=False) as http:
        assert http.get("/v1/models").status_code == 200
        new = made(http)
        assert http.get("/v1/models").status_code == 401
        assert status(keyless, new["key"]) == 200
        keyless.stores.keys.revoke(None, new["id"])
        wait_until(lambda: status(keyless, new["key"]) == 401, 5, "the key to close")
        assert http.get("/v1/models").status_code == 401
    token = "internal-token-of-the-tests"
    assert status(keyless, token, "/v1/keys") == 200  # who can read the data folder is never locked out
