"""Chats that are stored, by OpenAI's routes with the stock client; which chats are, and that storing disturbs nobody."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import openai
import pytest

from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, KEY, RunningApi, publish_version, running_api
from tests.contract.test_bad_input import check
from tests.fakes.ports import wait_until
from tests.fakes.vllm import FakeVllm

CHATS = "/v1/chat/completions"
ALIAS = "kept"
CAPTURE = f"/v1/models/{ALIAS}/capture"
Start = Callable[..., AbstractContextManager[tuple[RunningApi, httpx.Client]]]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module", autouse=True)
def version(api: RunningApi) -> None:
    api.stores.catalog.serve(DEFAULT_PROJECT, publish_version(api, ALIAS, ADAPTER))


@pytest.fixture
def captured(http: httpx.Client) -> Iterator[Callable[..., None]]:
    """Sets the capture of the alias; it is ended after the test."""

    def set_to(**body: Any) -> None:
        answer = http.post(CAPTURE, json=body)
        assert answer.status_code == 200, answer.text

    yield set_to
    http.delete(CAPTURE)


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": ALIAS, "messages": [{"role": "user", "content": text}]} | fields


def ask(http: httpx.Client, text: str = "hello", **fields: Any) -> httpx.Response:
    return http.post(CHATS, json=asking(text, **fields))


def stored(http: httpx.Client, of: str) -> list[dict[str, Any]]:
    """Those with this word in their metadata, the oldest first."""
    return http.get(CHATS, params={"metadata[of]": of, "limit": 100}).json()["data"]


def newest(http: httpx.Client) -> str:
    page = http.get(CHATS, params={"order": "desc", "limit": 1}).json()["data"]
    return page[0]["id"] if page else ""


def counted(http: httpx.Client, reason: str, project: str = DEFAULT_PROJECT) -> float:
    start = f'meteor_chats_not_stored_total{{project="{project}",reason="{reason}"}} '
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(start)]
    return float(lines[0].removeprefix(start)) if lines else 0.0


def test_the_stock_client_lists_reads_changes_and_deletes_them(client: openai.OpenAI):
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the client's"}]
    made = [
        client.chat.completions.create(
            model=ALIAS, messages=messages, store=True, metadata={"of": "client", "n": str(n)}, user=f"user-{n}", seed=n
        )
        for n in range(3)
    ]
    assert len({one.id for one in made}) == 3
    listed = list(client.chat.completions.list(metadata={"of": "client"}, limit=2))  # two pages
    assert [one.id for one in listed] == [one.id for one in made]
    backwards = list(client.chat.completions.list(metadata={"of": "client"}, order="desc", model=f"{ALIAS}@1"))
    assert [one.id for one in backwards] == [one.id for one in made[::-1]]
    assert list(client.chat.completions.list(metadata={"of": "client"}, model=BASE)) == []
    assert list(client.chat.completions.list(metadata={"of": "client", "n": "1"})) == [listed[1]]
    one: Any = client.chat.completions.retrieve(made[1].id)
    assert (one.choices[0].message.content, one.model, one.version) == ("the client's", ALIAS, f"{ALIAS}@1")
    assert (one.metadata, one.input_user, one.seed, one.masked) == ({"of": "client", "n": "1"}, "user-1", 1, None)
    assert one.usage == made[1].usage
    asked = list(client.chat.completions.messages.list(made[1].id, limit=1))
    assert [(message.id, message.content) for message in asked] == [
        (f"{made[1].id}-0", "Be brief."), (f"{made[1].id}-1", "the client's")
    ]  # fmt: skip
    last = client.chat.completions.messages.list(made[1].id, order="desc").data[0]
    assert (last.id, last.role) == (f"{made[1].id}-1", "user")
    changed: Any = client.chat.completions.update(made[1].id, metadata={"of": "another"})
    assert changed.metadata == {"of": "another"}
    assert client.chat.completions.update(made[2].id, metadata=None).id == made[2].id
    assert [one.id for one in client.chat.completions.list(metadata={"of": "client"})] == [made[0].id]
    deleted = client.chat.completions.delete(made[1].id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made[1].id, True, "chat.completion.deleted")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made[1].id)


def test_a_stream_is_stored_when_it_ends_as_a_whole_answer_would_be(client: openai.OpenAI, http: httpx.Client):
    tool: Any = {"tools": [WEATHER], "tool_choice": "required"}
    cases: list[dict[str, Any]] = [{}, {"stream_options": {"include_usage": True}}, {"tools": [WEATHER]}, tool]
    for number, fields in enumerate(cases):
        of = {"of": f"stream {number}"}
        chunks = list(client.chat.completions.create(**asking("hi"), store=True, metadata=of, stream=True, **fields))
        ids = {chunk.id for chunk in chunks}
        (one,) = stored(http, of["of"])
        assert ids == {one["id"]}, "the client knows it by the id that it is stored under"
        choice = one["choices"][0]
        assert one["object"] == "chat.completion"
        assert (one["usage"] is not None) == ("stream_options" in fields)
        if "tools" in fields:
            call = choice["message"]["tool_calls"][0]
            told = "".join(
                call.function.arguments or ""
                for chunk in chunks for delta in chunk.choices for call in delta.delta.tool_calls or []
                if call.function
            )  # fmt: skip
            assert (call["type"], call["function"]) == ("function", {"name": "weather", "arguments": told})
            assert call["id"] in {c.id for chunk in chunks for d in chunk.choices for c in d.delta.tool_calls or []}
        else:
            assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello é", "stop")


def test_a_whole_answer_is_stored_with_its_rationale_apart(http: httpx.Client):
    answer = ask(http, "think", store=True, metadata={"of": "rationale"}).json()
    (one,) = stored(http, "rationale")
    assert one["id"] == answer["id"]
    assert one["choices"] == answer["choices"]
    assert one["choices"][0]["message"]["reasoning_content"] == "It is twice 21."


def test_parts_of_a_message_are_told_as_they_came(http: httpx.Client):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    body = {"model": BASE, "messages": [{"role": "user", "content": parts}], "store": True}
    completion = http.post(CHATS, json=body).json()["id"]
    (message,) = http.get(f"{CHATS}/{completion}/messages").json()["data"]
    assert (message["content"], message["content_parts"]) == ("one\ntwo", parts)
    assert http.get(f"{CHATS}/{completion}").json()["version"] == BASE, "a base has no version"


@pytest.mark.parametrize("word", ["fail", "drop"])
def test_a_stream_that_breaks_is_not_stored(http: httpx.Client, word: str):
    before = counted(http, "not_answered")
    assert ask(http, word, store=True, metadata={"of": word}, stream=True).status_code == 200
    assert stored(http, word) == []
    assert counted(http, "not_answered") == before + 1


def test_what_is_refused_or_left_is_not_stored(http: httpx.Client, engine: FakeVllm):
    last = newest(http)
    before, waiting = counted(http, "not_answered"), engine.waiting
    assert ask(http, "refuse", store=True).status_code == 400
    with http.stream("POST", CHATS, json=asking("trickle", store=True, stream=True)) as answer:
        next(answer.iter_bytes())
        wait_until(lambda: engine.waiting > waiting, 10, "the stream")
    wait_until(lambda: counted(http, "not_answered") == before + 1, 10, "the end of the stream")
    assert newest(http) == last


def test_only_what_asks_for_it_is_stored(http: httpx.Client, captured: Callable[..., None]):
    last = newest(http)
    silent = ask(http, "nothing is said")
    assert "x-meteor-ignored" not in silent.headers
    named = ask(http, "metadata alone", metadata={"a": "b"})
    assert named.headers["x-meteor-ignored"] == "metadata"
    assert newest(http) == last
    captured(percent=100)
    assert ask(http, "not me", store=False).headers.get("x-meteor-ignored") is None
    assert newest(http) == last, "who says no is not stored"
    sampled = ask(http, "me", metadata={"of": "capture"})
    assert "x-meteor-ignored" not in sampled.headers
    assert [one["id"] for one in stored(http, "capture")] == [sampled.json()["id"]]
    assert ask(http, "by its number", model=f"{ALIAS}@1").json()["id"] == newest(http)
    captured(percent=0)
    last = newest(http)
    ask(http, "no more")
    assert newest(http) == last


def test_a_capture_is_set_shown_and_ended(http: httpx.Client):
    made = http.post(CAPTURE, json={"percent": 12.5, "mask": True}).json()
    expected = {"id": ALIAS, "object": "model.capture", "alias": ALIAS, "percent": 12.5, "mask": True}
    assert made == expected | {"created_at": made["created_at"]}
    assert http.get(CAPTURE).json() == made
    assert http.delete(CAPTURE).json() == {"id": ALIAS, "object": "model.capture.deleted", "deleted": True}
    for way in ("GET", "DELETE"):
        check(http.request(way, CAPTURE), 404, "capture_not_found", "alias")
        check(http.request(way, "/v1/models/nobody/capture"), 404, "model_not_found", "alias")
    check(http.post("/v1/models/nobody/capture", json={"percent": 1}), 404, "model_not_found", "alias")
    check(http.post(CAPTURE, json={"percent": 101}), 400, "invalid_value", "percent")
    check(http.post(CAPTURE, json={}), 400, "missing_required_parameter", "percent")


def test_personal_data_is_masked_before_it_is_stored(http: httpx.Client, captured: Callable[..., None]):
    captured(percent=0, mask=True)
    person = "ann@example.org"
    made = ask(http, f"I am {person}", store=True, user=person, metadata={"of": "mask", "mail": person}).json()
    assert made["choices"][0]["message"]["content"] == f"I am {person}", "the caller gets the answer as it is"
    (one,) = stored(http, "mask")
    (message,) = http.get(f"{CHATS}/{one['id']}/messages").json()["data"]
    assert message["content"] == one["choices"][0]["message"]["content"] == "I am [EMAIL]"
    assert one["metadata"] == {"of": "mask", "mail": "[EMAIL]"}
    assert one["input_user"].startswith("masked-")
    assert one["masked"] == {"email": 4}
    said = {"completion_id": one["id"], "comment": f"tell {person}", "correction": "ask", "author": person}
    feedback = http.post("/v1/feedback", json=said).json()
    assert (feedback["comment"], feedback["correction"]) == ("tell [EMAIL]", "ask")
    assert feedback["author"] == one["input_user"]
    assert person not in http.get(CHATS, params={"metadata[of]": "mask"}).text


def test_what_a_store_cannot_hold_is_refused(http: httpx.Client):
    refused: list[tuple[dict[str, Any], str]] = [
        ({"store": "yes"}, "store"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
    ]
    for fields, param in refused:
        check(ask(http, **fields), 400, "invalid_value", param)
    completion = ask(http, store=True).json()["id"]
    check(http.post(f"{CHATS}/{completion}", json={}), 400, "missing_required_parameter", "metadata")
    check(http.post(f"{CHATS}/{completion}", json={"metadata": {}, "model": "x"}), 400, "unknown_parameter", "model")
    for way, path in (("GET", ""), ("GET", "/messages"), ("POST", ""), ("DELETE", "")):
        body: dict[str, Any] = {"json": {"metadata": {}}} if way == "POST" else {}
        check(http.request(way, f"{CHATS}/nobody{path}", **body), 404, "completion_not_found", "completion_id")
    check(http.get(CHATS, params={"after": "nobody"}), 400, "unknown_cursor", "after")
    check(http.get(CHATS, params={"order": "up"}), 400, "invalid_value", "order")
    check(http.get(CHATS, params={"metadata": "x"}), 400, "invalid_value", "metadata")
    check(http.get(f"{CHATS}/{completion}/messages", params={"after": "x"}), 400, "unknown_cursor", "after")


def test_a_key_that_may_chat_may_judge_and_not_read(api: RunningApi, http: httpx.Client):
    key = http.post("/v1/keys", json={"name": "app", "scopes": ["chat"]}).json()["key"]
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=30, trust_env=False) as app:
        completion = ask(app, store=True).json()["id"]
        made = app.post("/v1/feedback", json={"completion_id": completion, "rating": "up"})
        assert made.status_code == 201, made.text
        for path in (CHATS, f"{CHATS}/{completion}", "/v1/feedback", f"/v1/feedback/{made.json()['id']}"):
            check(app.get(path), 403, "missing_scope", None)
        assert app.delete(f"/v1/feedback/{made.json()['id']}").status_code == 200
    assert http.get(f"{CHATS}/{completion}").status_code == 200


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm, _valkey_server: str) -> Start:
    """Starts an API with settings of its own."""

    @contextmanager
    def start(**settings: str) -> Generator[tuple[RunningApi, httpx.Client]]:
        data, headers = tmp_path_factory.mktemp("another"), {"authorization": f"Bearer {KEY}"}
        with (
            running_api(data, METEOR_API_ENGINE_URL=engine.url, REDIS_URL=_valkey_server, **settings) as api,
            httpx.Client(base_url=api.url, headers=headers, timeout=30, trust_env=False) as http,
        ):
            yield api, http

    return start


@pytest.fixture(scope="module")
def small(another: Start) -> Iterator[tuple[RunningApi, httpx.Client]]:
    """An API with little room for chats."""
    with another(METEOR_API_STORE_CHAT_BYTES="1500", METEOR_API_STORE_PROJECT_BYTES="2000") as started:
        yield started


def test_long_chats_are_counted_and_the_oldest_make_room(small: tuple[RunningApi, httpx.Client]):
    _, http = small
    made = [ask(http, f"chat {n}", model=BASE, store=True).json()["id"] for n in range(12)]
    kept = [one["id"] for one in http.get(CHATS).json()["data"]]
    assert 0 < len(kept) < 12
    assert kept == made[-len(kept) :]
    for text in ("x" * 1490, "é" * 20_000):
        assert ask(http, text, model=BASE, store=True).status_code == 200
    assert [one["id"] for one in http.get(CHATS).json()["data"]] == kept
    assert counted(http, "too_long") == 2


def test_a_store_that_waits_delays_no_answer(small: tuple[RunningApi, httpx.Client]):
    api, http = small
    with api.stores.chats.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # nobody else can write now
        begun = time.monotonic()
        answers = [ask(http, "hello", model=BASE, store=True, stream=stream) for stream in (True, False)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert time.monotonic() - begun < 10, "SQLite would wait for 30 s"
        connection.exec_driver_sql("ROLLBACK")
    wait_until(lambda: newest(http) == answers[1].json()["id"], 40, "the store")


def test_a_store_that_fails_fails_no_answer_and_is_counted(another: Start):
    with another(METEOR_API_STORE_WAITING="1") as (api, http):
        with api.stores.chats.engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE chats RENAME TO elsewhere")
        assert ask(http, model=BASE, store=True).status_code == 200
        wait_until(lambda: counted(http, "error") == 1, 40, "the count")
        with api.stores.chats.engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO chats")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for _ in range(4):  # one is being written, one waits
                assert ask(http, model=BASE, store=True).status_code == 200
            connection.exec_driver_sql("ROLLBACK")
        assert counted(http, "queue_full") >= 1
        wait_until(lambda: newest(http) != "", 40, "the store")


def test_an_operator_may_store_nothing(another: Start):
    with another(METEOR_API_STORE_CHATS="false") as (api, http):
        answer = ask(http, model=BASE, store=True, metadata={"a": "b"})
        assert answer.headers["x-meteor-ignored"] == "metadata, store"
        assert http.get(CHATS).json()["data"] == []
        api.stores.catalog.serve(DEFAULT_PROJECT, publish_version(api, ALIAS, ADAPTER))
        check(http.post(CAPTURE, json={"percent": 1}), 409, "storing_is_off", "percent")
