"""Webhooks from end to end: the stock client makes them, and its `unwrap` takes what arrives."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.webhooks import FineTuningJobSucceededWebhookEvent
from typer.testing import CliRunner

from services.api.features.webhooks.signing import headers as signed_headers
from services.meteor.main import cli
from shared.contracts.jobs import JobStatus
from shared.security.secret_file import kept_secret
from tests.conftest import job_of_default_project
from tests.contract.conftest import KEY, RunningApi, rows, running_api
from tests.fakes.ports import free_port, wait_until
from tests.fakes.receiver import Receiver, receiving

HOOKS = "/v1/webhooks"


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    broker = f"redis://127.0.0.1:{free_port()}/0"
    data = tmp_path_factory.mktemp("telling")
    with running_api(data, REDIS_URL=broker, METEOR_API_WEBHOOK_ALLOW="127.0.0.1/32") as running:
        yield running


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def http(telling: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=telling.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


@pytest.fixture
def client(telling: RunningApi) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{telling.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def made(http: httpx.Client, url: str, **more) -> dict:
    answer = http.post(HOOKS, json={"url": url} | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def job_in(event: Any) -> str:
    """Of any type: the client's own types of other events have other data."""
    return event.data.id


def test_the_stock_client_makes_a_webhook_and_unwraps_what_arrives(
    telling: RunningApi, receiver: Receiver, client: openai.OpenAI
):
    hook = client.webhooks.create(
        url=f"{receiver.url}/stock",
        name="ci",
        event_types=["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"],
    )
    assert hook.signing_secret.startswith("whsec_")
    assert client.webhooks.retrieve(hook.id).signing_secret_hint == f"whsec_...{hook.signing_secret[-4:]}"
    assert hook.id in [one.id for one in client.webhooks.list()]
    assert hook.signing_secret not in str(client.webhooks.list().data)
    stores = telling.stores
    cancelled, succeeded = (job_of_default_project(stores) for _ in range(2))
    stores.jobs.cancel(cancelled)
    row = stores.jobs.claim("o1", 30)
    assert row is not None
    stores.jobs.end(row, JobStatus.SUCCEEDED, fine_tuned_model="expert@1")
    wait_until(lambda: len(receiver.at("/stock")) == 2, 60, "two messages")
    first, second = receiver.at("/stock")
    event = client.webhooks.unwrap(first.body, first.headers, secret=hook.signing_secret)
    assert (event.type, event.object) == ("fine_tuning.job.cancelled", "event")
    assert job_in(event) == cancelled.id
    event = client.webhooks.unwrap(second.body, second.headers, secret=hook.signing_secret)
    assert isinstance(event, FineTuningJobSucceededWebhookEvent)
    assert job_in(event) == succeeded.id
    for body, secret in ((first.body + b" ", hook.signing_secret), (first.body, "whsec_" + "A" * 44)):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(body, first.headers, secret=secret)
    assert client.webhooks.update(hook.id, name="other").name == "other"
    result = client.webhooks.test(hook.id, event_type="fine_tuning.job.failed")
    assert (result.status_code, result.success) == (200, True)
    tried = receiver.at("/stock")[-1]
    assert job_in(client.webhooks.unwrap(tried.body, tried.headers, secret=hook.signing_secret)) == "ftjob-test"
    rotated = client.webhooks.rotate_secret(hook.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != hook.signing_secret
    client.webhooks.test(hook.id, event_type="fine_tuning.job.failed")
    tried = receiver.at("/stock")[-1]
    for secret in (rotated.signing_secret, hook.signing_secret):
        assert client.webhooks.unwrap(tried.body, tried.headers, secret=secret)
    assert client.webhooks.delete(hook.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(hook.id)


def test_a_failure_is_tried_again_logged_and_replayed(telling: RunningApi, receiver: Receiver, http: httpx.Client):
    receiver.answers["/flaky"] = [500]
    hook = made(http, f"{receiver.url}/flaky")
    job = job_of_default_project(telling.stores)
    telling.stores.jobs.cancel(job)
    listing = f"{HOOKS}/{hook['id']}/deliveries"
    wait_until(lambda: http.get(listing, params={"state": "delivered"}).json()["data"], 60, "the second attempt")
    (delivery,) = http.get(listing).json()["data"]
    assert [entry["status"] for entry in delivery["log"]] == [500, 200]
    assert (delivery["attempts"], delivery["last_status"], delivery["job_id"]) == (2, 200, job.id)
    assert delivery["payload"]["type"] == "fine_tuning.job.cancelled"
    ids = [message.headers["webhook-id"] for message in receiver.at("/flaky")]
    assert ids == [delivery["id"]] * 2
    again = http.post(f"{listing}/{delivery['id']}/replay").json()
    assert (again["state"], again["id"]) == ("pending", delivery["id"])
    wait_until(lambda: len(receiver.at("/flaky")) == 3, 60, "the replay")
    bodies = {message.body for message in receiver.at("/flaky")}
    assert len(bodies) == 1, "the same message each time"
    assert http.post(f"{listing}/msg-nobody/replay").json()["error"]["code"] == "delivery_not_found"


def test_a_slow_endpoint_holds_up_itself_alone(telling: RunningApi, receiver: Receiver, http: httpx.Client):
    receiver.slow["/slow"] = 10
    slow, quick = made(http, f"{receiver.url}/slow"), made(http, f"{receiver.url}/quick")
    begun = time.monotonic()
    for _ in range(3):
        telling.stores.jobs.cancel(job_of_default_project(telling.stores))
    wait_until(lambda: len(receiver.at("/quick")) == 3, 60, "the quick one's messages")
    assert time.monotonic() - begun < 10
    assert len(receiver.at("/slow")) <= 1
    for hook in (slow, quick):
        http.delete(f"{HOOKS}/{hook['id']}")


def test_gone_and_redirected(telling: RunningApi, receiver: Receiver, http: httpx.Client):
    receiver.answers |= {"/gone": [410], "/away": [307] * 5}
    receiver.headers["location"] = f"{receiver.url}/elsewhere"
    gone, away = made(http, f"{receiver.url}/gone"), made(http, f"{receiver.url}/away")
    telling.stores.jobs.cancel(job_of_default_project(telling.stores))
    wait_until(lambda: http.get(f"{HOOKS}/{gone['id']}").json()["disabled"], 60, "the endpoint to be disabled")
    wait_until(lambda: receiver.at("/away"), 60, "the redirect")
    assert http.get(f"{HOOKS}/{gone['id']}").json()["disabled_reason"] == "it answered 410"
    (delivery,) = http.get(f"{HOOKS}/{gone['id']}/deliveries").json()["data"]
    refused = http.post(f"{HOOKS}/{gone['id']}/deliveries/{delivery['id']}/replay")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    enabled = http.patch(f"{HOOKS}/{gone['id']}", json={"disabled": False}).json()
    assert (enabled["disabled"], enabled["disabled_reason"]) == (False, None)
    wait_until(lambda: http.get(f"{HOOKS}/{away['id']}/deliveries").json()["data"][0]["log"], 60, "its log")
    assert http.get(f"{HOOKS}/{away['id']}/deliveries").json()["data"][0]["last_status"] == 307
    assert receiver.at("/elsewhere") == []
    for hook in (gone, away):
        http.delete(f"{HOOKS}/{hook['id']}")


def test_a_jobs_own_webhook(receiver: Receiver, client: openai.OpenAI, http: httpx.Client, telling: RunningApi):
    file = client.files.create(file=("rows.jsonl", rows(40)), purpose="fine-tune")
    body = {
        "model": "tiny-base",
        "training_file": file.id,
        "distillation": {"domain": "sums"},
        "webhook": {"url": f"{receiver.url}/job", "event_types": ["distillation.job.paused"]},
    }
    job = http.post("/v1/distillation/jobs", json=body).json()
    secret = job["webhook_secret"]
    assert secret.startswith("whsec_")
    read = http.get(f"/v1/distillation/jobs/{job['id']}").json()
    assert (read["webhook"], read["webhook_secret"]) == (body["webhook"], None)
    http.post(f"/v1/distillation/jobs/{job['id']}/pause")
    http.post(f"/v1/distillation/jobs/{job['id']}/cancel")
    wait_until(lambda: receiver.at("/job"), 60, "the message")
    (message,) = receiver.at("/job")
    event = client.webhooks.unwrap(message.body, message.headers, secret=secret)
    assert (event.type, job_in(event)) == ("distillation.job.paused", job["id"])
    fork = http.post(f"/v1/distillation/jobs/{job['id']}/fork", json={}).json()
    assert fork["webhook_secret"] == secret
    http.post(f"/v1/distillation/jobs/{fork['id']}/cancel")
    kept = http.post("/v1/fine_tuning/jobs", json=body, headers={"idempotency-key": "job-with-a-webhook"}).json()
    assert (kept["webhook"], kept["webhook_secret"]) == (body["webhook"], None), "what is kept holds no secret"
    http.post(f"/v1/distillation/jobs/{kept['id']}/cancel")
    private = body | {"webhook": {"url": "http://10.0.0.1/"}}
    error = http.post("/v1/distillation/jobs", json=private).json()["error"]
    assert (error["param"], error["code"]) == ("webhook.url", "address_not_allowed")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"url": "http://169.254.169.254/latest"}, "url", "address_not_allowed"),
        ({"url": "http://[::ffff:127.0.0.2]/"}, "url", "invalid_value"),
        ({"url": "http://[::1]:8000/"}, "url", "address_not_allowed"),
        ({"url": "http://2130706433/"}, "url", "invalid_value"),
        ({"url": "https://user@hooks.example/"}, "url", "invalid_value"),
        ({"event_types": []}, "event_types", "invalid_value"),
        ({"event_types": ["batch.completed"]}, "event_types.0", "invalid_value"),
        ({"name": "a\nb"}, "name", "invalid_value"),
        ({"secret": "mine"}, "secret", "unknown_parameter"),
    ],
)
def test_bad_requests_say_where(http: httpx.Client, change: dict, param: str, code: str):
    answer = http.post(HOOKS, json={"url": "https://hooks.example/"} | change)
    assert (answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["code"]) == (400, param, code)


def test_what_cannot_be_reached_is_said(http: httpx.Client):
    hook = made(http, f"http://127.0.0.1:{free_port()}/")
    error = http.post(f"{HOOKS}/{hook['id']}/test").json()["error"]
    assert (error["code"], error["param"]) == ("webhook_unreachable", "url")
    assert "no connection" in error["message"]
    http.delete(f"{HOOKS}/{hook['id']}")


def test_the_database_holds_no_secret_and_the_scope_is_admin(telling: RunningApi, http: httpx.Client):
    hook = made(http, "https://hooks.example/secret")
    key = kept_secret(telling.platform.data / "webhook-key").encode()
    row = telling.stores.webhooks.get("proj_default", hook["id"])
    again = dict(signed_headers(key, row, "msg-x", "{}"))
    assert openai.OpenAI(api_key="x").webhooks.unwrap("{}", again, secret=hook["signing_secret"]) is not None
    with telling.stores.jobs.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in telling.platform.data.glob("meteor.sqlite3*"):
        assert hook["signing_secret"][6:].encode() not in path.read_bytes()
    assert (telling.platform.data / "webhook-key").stat().st_mode & 0o077 == 0
    jobs_key = http.post("/v1/keys", json={"name": "jobs only"}).json()["key"]
    refused = httpx.get(telling.url + HOOKS, headers={"authorization": f"Bearer {jobs_key}"}, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")


def test_the_command(telling: RunningApi, receiver: Receiver, http: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", telling.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    receiver.answers["/command"] = [404, 200]

    def meteor(*words: str, exit_code: int = 0) -> str:
        told = CliRunner().invoke(cli, ["webhooks", *words])
        assert told.exit_code == exit_code, told.output
        return told.output

    created = json.loads(meteor("create", f"{receiver.url}/command", "--event", "fine_tuning.job.cancelled", "--json"))
    hook, secret = created["id"], created["signing_secret"]
    assert hook in meteor("list", "--limit", "100")
    assert secret not in meteor("list", "--json")
    assert "404" in meteor("test", hook, exit_code=1)
    assert "200" in meteor("test", hook)
    telling.stores.jobs.cancel(job_of_default_project(telling.stores))
    wait_until(lambda: "delivered" in meteor("deliveries", hook, "--json"), 60, "the delivery")
    (delivery,) = json.loads(meteor("deliveries", hook, "--state", "delivered", "--json"))["data"]
    assert "cancelled" in meteor("deliveries", hook)
    meteor("replay", hook, delivery["id"])
    http.patch(f"{HOOKS}/{hook}", json={"disabled": True})
    assert "is on" in meteor("enable", hook)
    assert "deleted" in meteor("delete", hook)
    assert hook not in meteor("list", "--json")


def test_the_guides_receiver(telling: RunningApi, http: httpx.Client, tmp_path: Path):
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "receive-webhooks.md").read_text()
    code = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0]
    port = free_port()
    hook = made(http, f"http://127.0.0.1:{port}/")
    (tmp_path / "receiver.py").write_text(code)
    receiver = subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=tmp_path,
        env=os.environ | {"PORT": str(port), "WEBHOOK_SECRET": hook["signing_secret"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        tried = f"{HOOKS}/{hook['id']}/test"
        wait_until(lambda: http.post(tried).json().get("status_code") == 204, 60, "the receiver")
        job = job_of_default_project(telling.stores)
        telling.stores.jobs.cancel(job)
        assert receiver.stdout is not None
        told = [receiver.stdout.readline() for _ in range(2)]
        assert told == ["fine_tuning.job.succeeded ftjob-test\n", f"fine_tuning.job.cancelled {job.id}\n"]
        forged = {"webhook-id": "msg-x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        assert httpx.post(f"http://127.0.0.1:{port}/", json={}, headers=forged, trust_env=False).status_code == 400
    finally:
        receiver.kill()
        receiver.wait()
        http.delete(f"{HOOKS}/{hook['id']}")
