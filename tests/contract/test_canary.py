"""A canary: which conversations go where, what is counted, and when it ends."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from services.api.model_router import share
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, RunningApi, publish_version
from tests.fakes.ports import wait_until
from tests.fakes.vllm import FakeVllm

NEWER = "c" * 64
ALIAS = "tried"
ROUTE = f"/v1/models/{ALIAS}/canary"
ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", autouse=True)
def versions(api: RunningApi, engine: FakeVllm) -> Iterator[None]:
    """tried@1 is served; tried@2 could be; tried@3 is a whole model."""
    engine.models.add(NEWER)
    served = publish_version(api, ALIAS, ADAPTER)
    publish_version(api, ALIAS, NEWER, state="undecided")
    publish_version(api, ALIAS, "d" * 64, method="full")
    api.stores.catalog.serve(DEFAULT_PROJECT, served)
    yield
    engine.models.discard(NEWER)


@pytest.fixture(autouse=True)
def one_is_served(http: httpx.Client) -> None:
    http.delete(ROUTE)
    assert http.post(f"/v1/models/{ALIAS}@1/promote").status_code == 200


def set_canary(http: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = http.post(ROUTE, json={"version": 2} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chat(http: httpx.Client, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    answer = http.post("/v1/chat/completions", json={"model": ALIAS, "messages": ASK} | body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def counted(http: httpx.Client, role: str, outcome: str, version: int = 2) -> float:
    labels = f'alias="{ALIAS}",outcome="{outcome}",project="{DEFAULT_PROJECT}",role="{role}",version="{version}"'
    wanted = f"meteor_chat_requests_total{{{labels}}} "
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(wanted)]
    return float(lines[0].removeprefix(wanted)) if lines else 0.0


def test_it_is_set_shown_changed_and_ended(http: httpx.Client):
    made = set_canary(http, percent=10)
    expected = {"id": ALIAS, "object": "model.canary", "alias": ALIAS, "served": 1, "version": 2, "percent": 10}
    decides = {"goal": None, "steps": None, "promote": False, "standing": None}
    assert made == expected | decides | {"shadow": False, "created_at": made["created_at"]}
    assert http.get(ROUTE).json() == made
    assert set_canary(http, percent=60, shadow=True)["shadow"] is True
    assert http.get(ROUTE).json()["percent"] == 60
    assert http.delete(ROUTE).json() == {"id": ALIAS, "object": "model.canary.deleted", "deleted": True}
    assert [http.request(way, ROUTE).json()["error"]["code"] for way in ("GET", "DELETE")] == ["canary_not_found"] * 2
    assert http.get("/v1/models/nobody/canary").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("alias", "body", "status", "code"),
    [
        (ALIAS, {"version": 9, "percent": 1}, 404, "model_not_found"),
        ("nobody", {"version": 1, "percent": 1}, 404, "model_not_found"),
        (BASE, {"version": 1, "percent": 1}, 404, "model_not_found"),
        (ALIAS, {"version": 1, "percent": 1}, 409, "version_is_served"),
        (ALIAS, {"version": 3, "percent": 1}, 409, "not_served_together"),
        (ALIAS, {"version": 2, "percent": 101}, 400, "invalid_value"),
        (ALIAS, {"version": 2}, 400, "missing_required_parameter"),
        (ALIAS, {"version": 2, "percent": 1, "share": 1}, 400, "unknown_parameter"),
    ],
)
def test_what_cannot_be_tried_is_refused(http: httpx.Client, alias: str, body: dict, status: int, code: str):
    answer = http.post(f"/v1/models/{alias}/canary", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_the_answering_version_is_told_with_and_without_a_stream(
    http: httpx.Client, client: openai.OpenAI, engine: FakeVllm
):
    plain = chat(http)
    assert (plain.headers["x-meteor-model"], plain.json()["model"]) == (f"{ALIAS}@1", ALIAS)
    set_canary(http, percent=100)
    tried = chat(http)
    assert (tried.headers["x-meteor-model"], tried.json()["model"]) == (f"{ALIAS}@2", f"{ALIAS}@2")
    assert engine.last["model"] == NEWER
    chunks = list(client.chat.completions.create(model=ALIAS, messages=ASK, stream=True))
    assert {chunk.model for chunk in chunks} == {f"{ALIAS}@2"}
    named = chat(http, model=f"{ALIAS}@1")
    assert (named.headers["x-meteor-model"], engine.last["model"]) == (f"{ALIAS}@1", ADAPTER)
    set_canary(http, percent=0)
    assert chat(http).headers["x-meteor-model"] == f"{ALIAS}@1"


def test_a_conversation_stays_where_it_began(api: RunningApi, http: httpx.Client):
    def version(headers: dict[str, str] | None = None, **body: Any) -> str:
        return chat(http, headers, **body).headers["x-meteor-model"].removeprefix(f"{ALIAS}@")

    set_canary(http, percent=50)
    users = [f"user-{n}" for n in range(24)]
    first = [version(user=user) for user in users]
    assert set(first) == {"1", "2"}
    row = api.stores.catalog.resolve(DEFAULT_PROJECT, f"{ALIAS}@2")
    assert first == ["2" if share(user, row.id) < 50 else "1" for user in users]
    assert [version({"x-session-id": user}) for user in users] == first
    assert [version(safety_identifier=user) for user in users] == first
    asked = [{"role": "user", "content": f"question {n}"} for n in range(24)]
    began = [version(messages=[question]) for question in asked]
    assert set(began) == {"1", "2"}
    later = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "and?"}]
    assert [version(messages=[question, *later]) for question in asked] == began
    set_canary(http, percent=75)
    assert all(version(user=user) == "2" for user, before in zip(users, first, strict=True) if before == "2")


def test_requests_errors_and_seconds_are_counted_by_version_and_role(http: httpx.Client):
    before = {how: counted(http, "canary", how) for how in ("ok", "refused", "error")}
    served = counted(http, "served", "ok", version=1)
    chat(http)
    set_canary(http, percent=100)
    chat(http)
    for word, stream in (("refuse", False), ("fail", True), ("drop", True)):
        body = {"model": ALIAS, "messages": [{"role": "user", "content": word}], "stream": stream}
        assert http.post("/v1/chat/completions", json=body).status_code == (400 if word == "refuse" else 200)
    after = {how: counted(http, "canary", how) - before[how] for how in before}
    assert after == {"ok": 1, "refused": 1, "error": 2}
    assert counted(http, "served", "ok", version=1) == served + 1
    text = http.get("/metrics").text
    for name in ("meteor_chat_seconds", "meteor_chat_first_seconds"):
        assert (
            f'{name}_bucket{{alias="{ALIAS}",le="0.05",project="{DEFAULT_PROJECT}",role="canary",version="2"}}' in text
        )


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_answers_nobody_and_is_counted(http: httpx.Client, engine: FakeVllm, stream: bool):
    before = counted(http, "shadow", "ok")
    set_canary(http, percent=100, shadow=True)
    asked = len(engine.asked)
    answer = chat(http, stream=stream, temperature=0)
    assert answer.headers["x-meteor-model"] == f"{ALIAS}@1"
    assert NEWER not in answer.text
    wait_until(lambda: counted(http, "shadow", "ok") == before + 1, 60, "the copy")
    main, copy = (body for body, _ in engine.asked[asked:])
    assert (main["model"], "priority" in main) == (ADAPTER, False)
    assert (copy["model"], copy["priority"], "stream" in copy) == (NEWER, 20, False)
    assert copy["messages"] == main["messages"]


def test_a_shadow_that_hangs_delays_nobody_and_no_more_than_a_few_do(http: httpx.Client, engine: FakeVllm):
    engine.slow.add(NEWER)
    try:
        set_canary(http, percent=100, shadow=True)
        before = counted(http, "shadow", "dropped")
        for _ in range(7):
            chat(http)
        assert counted(http, "shadow", "dropped") == before + 3, "four at once"
    finally:
        engine.slow.discard(NEWER)
        wait_until(lambda: not engine.held, 60, "the end of the copies")


@pytest.mark.parametrize("name", [f"{ALIAS}@2", f"{ALIAS}@3"])
def test_it_ends_when_the_alias_moves(http: httpx.Client, name: str):
    set_canary(http, percent=100)
    assert http.post(f"/v1/models/{ALIAS}@1/promote").status_code == 200
    assert http.get(ROUTE).status_code == 200, "the alias did not move"
    assert http.post(f"/v1/models/{name}/promote").status_code == 200
    assert http.get(ROUTE).status_code == 404
    set_back = http.post(f"/v1/models/{ALIAS}@2/promote")
    assert set_back.status_code == 200
    assert http.post(f"/v1/models/{ALIAS}/canary", json={"version": 1, "percent": 5}).status_code == 200
    assert http.post(f"/v1/models/{ALIAS}/rollback").status_code == 200
    assert http.get(ROUTE).status_code == 404
