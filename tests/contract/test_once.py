"""Idempotency-Key on every route that makes or changes something: sent twice it is done once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.api.app import create_app
from services.api.middleware.idempotency import once
from services.api.settings import ApiSettings
from shared.contracts.steps import Method, ModelRef
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.settings import PlatformSettings
from tests.contract.conftest import BASE, RunningApi, rows
from tests.contract.everything import EVAL, recipe_on

# They change nothing, or asking again does no harm, or their answer must be kept nowhere, or their body is a stream.
WITHOUT = {
    "POST /v1/files",
    "POST /v1/files/{file_id}/validate",
    "POST /v1/files/{file_id}/preview",
    "POST /v1/distillation/jobs/check",
    "POST /v1/fine_tuning/jobs/check",
    "POST /v1/distillation/jobs/estimate",
    "POST /v1/fine_tuning/jobs/estimate",
    "POST /v1/fine_tuning/alpha/graders/validate",
    "POST /v1/fine_tuning/alpha/graders/run",
    "POST /v1/imports/estimate",
    "POST /v1/keys",
    "POST /v1/webhooks/{webhook_id}/rotate_secret",
    "POST /v1/webhook_endpoints/{webhook_id}/rotate_secret",
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
}


def changing(app: FastAPI) -> Iterator[tuple[str, APIRoute]]:
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield from ((f"{way} {route.path_format}", route) for way in route.methods & {"POST", "PATCH", "PUT"})


def test_every_route_that_changes_something_takes_a_key():
    routes = dict(changing(create_app(ApiSettings(), PlatformSettings(data=Path("unused")))))
    without = {name for name, route in routes.items() if once not in route.dependencies}
    assert without == WITHOUT
    for name, route in routes.items():
        if route.include_in_schema and name not in without:
            assert {409, 422} <= set(route.responses), f"{name}: responses=may_answer(409, 422)"


@pytest.fixture(scope="module")
def ids(api: RunningApi) -> dict[str, str]:
    headers = {"authorization": "Bearer another-key"}
    with httpx.Client(base_url=api.url, headers=headers, trust_env=False) as http:
        parts: dict[str, Any] = {"files": {"file": ("r.jsonl", rows(60))}, "data": {"purpose": "fine-tune"}}
        file = http.post("/v1/files", **parts).json()["id"]
        body = {"model": BASE, "training_file": file, "distillation": {"domain": "sums"}}
        job = http.post("/v1/distillation/jobs", json=body).json()["id"]
        http.post(f"/v1/distillation/jobs/{job}/cancel")
    for digit in "ab":
        ref = ModelRef(base=BASE, base_hash="b" * 64).trained(Method.LORA, digit * 64)
        row = api.stores.catalog.publish(DEFAULT_PROJECT, "twice", ref, job, "promoted")
        api.stores.catalog.serve(DEFAULT_PROJECT, row)
    return {"file": file}


@pytest.mark.parametrize(
    ("path", "body", "listed"),
    [
        ("/v1/imports", {"source": {"type": "chat"}, "file": "{file}"}, "/v1/imports"),
        ("/v1/models/twice@1/export", {"formats": ["merged"]}, "/v1/exports"),
        ("/v1/evals", EVAL, "/v1/evals"),
        ("/v1/recipes", recipe_on("{file}"), "/v1/recipes"),
        ("/v1/webhooks", {"url": "https://example.org/twice"}, "/v1/webhooks"),
        ("/v1/webhook_endpoints", {"url": "https://example.org/again"}, "/v1/webhooks"),
    ],
)
def test_what_is_made_is_made_once(http: httpx.Client, ids: dict[str, str], path: str, body: Any, listed: str):
    body = json.loads(json.dumps(body).replace("{file}", ids["file"]))
    before = len(http.get(listed, params={"limit": 100}).json()["data"])
    first, again = (http.post(path, json=body, headers={"idempotency-key": f"twice {path}"}) for _ in range(2))
    assert first.is_success, first.text
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert len(http.get(listed, params={"limit": 100}).json()["data"]) == before + 1
    assert first.json().get("signing_secret") is None, "what is kept holds no secret"
    made = first.json()["id"]
    if made.startswith(("import-", "export-")):
        stopped = [http.post(f"{listed}/{made}/cancel", headers={"idempotency-key": made}) for _ in range(2)]
        assert [answer.json()["status"] for answer in stopped] == ["cancelled"] * 2, "and no 409 the second time"


def test_a_canary_that_was_ended_is_not_set_again_by_an_answer_that_was_lost(http: httpx.Client, ids: dict[str, str]):
    route, headers = "/v1/models/twice/canary", {"idempotency-key": "canary"}
    first = http.post(route, json={"version": 1, "percent": 10}, headers=headers)
    assert first.status_code == 200, first.text
    assert http.delete(route).status_code == 200
    again = http.post(route, json={"version": 1, "percent": 10}, headers=headers)
    assert again.json() == first.json()
    assert http.get(route).status_code == 404
