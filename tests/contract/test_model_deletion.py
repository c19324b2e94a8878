"""Deleting versions and aliases: what is refused, what is gone, and that a number is not given again."""

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.contracts.steps import Method, ModelRef
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, KEY, RunningApi, rows

ASK = {"messages": [{"role": "user", "content": "hello"}]}
REF = ModelRef(base=BASE, base_hash="b" * 64)


@pytest.fixture
def job(client: openai.OpenAI, http: httpx.Client) -> str:
    """A job that waits for ever: no orchestrator runs here."""
    file = client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id
    body = {"model": BASE, "training_file": file, "suffix": "doomed", "distillation": {"domain": "sums"}}
    return http.post("/v1/distillation/jobs", json=body).json()["id"]


@pytest.fixture
def two(api: RunningApi, http: httpx.Client, job: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """Two versions of an ended job, of which the alias serves the first."""
    alias = request.node.name[:40].replace("[", "-").replace("]", "")
    assert http.post(f"/v1/distillation/jobs/{job}/cancel").status_code == 200
    made = [
        api.stores.catalog.publish(DEFAULT_PROJECT, alias, REF.trained(Method.LORA, digest), job, "promoted")
        for digest in (ADAPTER, "e" * 64)
    ]
    api.stores.catalog.serve(DEFAULT_PROJECT, made[0])
    return f"{alias}@1", f"{alias}@2"


def refused(http: httpx.Client, name: str) -> tuple[int, str | None, str]:
    answer = http.delete(f"/v1/models/{name}")
    error = answer.json()["error"]
    return answer.status_code, answer.headers.get("x-should-retry"), error["code"]


def test_a_version_is_deleted_by_the_stock_client(client: openai.OpenAI, http: httpx.Client, two: tuple[str, str]):
    served, other = two
    alias = served.partition("@")[0]
    deleted = client.models.delete(other)
    assert (deleted.id, deleted.object, deleted.deleted) == (other, "model", True)
    entry = http.get("/v1/audit", params={"limit": 1}).json()["data"][0]
    assert (entry["method"], entry["route"], entry["object_id"]) == ("DELETE", "/v1/models/{model}", other)
    names = [model.id for model in client.models.list()]
    assert served in names
    assert other not in names
    for asked in (
        http.get(f"/v1/models/{other}"),
        http.post("/v1/chat/completions", json=ASK | {"model": other}),
        http.post(f"/v1/models/{other}/promote"),
        http.post(f"/v1/models/{alias}/canary", json={"version": 2, "percent": 1}),
        http.post(f"/v1/models/{other}/export", json={"formats": ["adapter"]}),
        http.delete(f"/v1/models/{other}"),
    ):
        assert (asked.status_code, asked.json()["error"]["code"]) == (404, "model_not_found")


def test_what_is_served_goes_only_with_its_alias(api: RunningApi, http: httpx.Client, job: str, two: tuple[str, str]):
    served, other = two
    alias = served.partition("@")[0]
    assert http.post("/v1/chat/completions", json=ASK | {"model": alias}).status_code == 200
    assert refused(http, served) == (409, "false", "version_is_served")
    assert http.delete(f"/v1/models/{alias}").json() == {"id": alias, "object": "model", "deleted": True}
    for name in (alias, served, other):
        assert http.post("/v1/chat/completions", json=ASK | {"model": name}).status_code == 404
        assert refused(http, name)[0] == 404
    again = api.stores.catalog.publish(DEFAULT_PROJECT, alias, REF.trained(Method.LORA, "f" * 64), job, "promoted")
    assert again.version == 3, "what was once said of a number stays true"


def test_a_version_without_a_served_one_goes_by_its_id_too(api: RunningApi, http: httpx.Client, two: tuple[str, str]):
    _, other = two
    row = api.stores.catalog.resolve(DEFAULT_PROJECT, other)
    assert http.delete(f"/v1/models/{row.id}").json()["id"] == row.id
    assert http.get(f"/v1/models/{other}").status_code == 404


def test_what_a_canary_tries_stays(http: httpx.Client, two: tuple[str, str]):
    served, other = two
    alias = served.partition("@")[0]
    assert http.post(f"/v1/models/{alias}/canary", json={"version": 2, "percent": 0, "shadow": True}).status_code == 200
    for name in (other, alias):
        assert refused(http, name) == (409, "false", "model_in_use")
    http.delete(f"/v1/models/{alias}/canary")
    assert http.delete(f"/v1/models/{other}").status_code == 200


def test_what_an_export_is_made_of_stays(http: httpx.Client, two: tuple[str, str]):
    _, other = two
    export = http.post(f"/v1/models/{other}/export", json={"formats": ["merged"]}).json()["id"]
    assert refused(http, other) == (409, "false", "model_in_use")
    http.post(f"/v1/exports/{export}/cancel")
    assert http.delete(f"/v1/models/{other}").status_code == 200


def test_what_a_job_under_way_makes_stays(api: RunningApi, http: httpx.Client, job: str):
    made, trained = (REF.trained(Method.LORA, digit * 64) for digit in "12")
    api.stores.catalog.publish(DEFAULT_PROJECT, "of-job", made, job, "partial")
    assert refused(http, "of-job@1") == (409, "false", "model_in_use")
    other = http.post(f"/v1/distillation/jobs/{job}/fork", json={"changes": {"suffix": "elsewhere"}}).json()["id"]
    http.post(f"/v1/distillation/jobs/{other}/cancel")
    row = api.stores.catalog.publish(DEFAULT_PROJECT, "doomed", trained, other, "promoted")
    assert refused(http, "doomed") == (409, "false", "model_in_use"), "the job is about to give it another version"
    assert http.delete(f"/v1/models/doomed@{row.version}").status_code == 200
    http.post(f"/v1/distillation/jobs/{job}/cancel")


def test_a_base_is_not_deleted(client: openai.OpenAI):
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.models.delete(BASE)
    assert caught.value.code == "model_not_deletable"


def test_from_a_terminal(api: RunningApi, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    served, other = two
    done = CliRunner().invoke(cli, ["models", "delete", other, served.partition("@")[0]], catch_exceptions=False)
    assert done.output == f"{other} deleted\n{served.partition('@')[0]} deleted\n"
    refusal = CliRunner().invoke(cli, ["models", "delete", served])
    assert (refusal.exit_code, type(refusal.exception).__name__) == (1, "Refused")
