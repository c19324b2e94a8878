"""What every route owes to any client: nothing is ignored in silence, HEAD is GET, refusals name what there is instead."""

import inspect
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi.routing import APIRoute
from openai import resources

from services.api.app import create_app
from services.api.features.files import upload
from services.api.known_query import query_names
from services.api.settings import ApiSettings
from shared.artifacts.opening import open_uploads
from shared.datasets.files import remove_expired
from shared.db.engine import writing
from shared.jobs.tables import files
from shared.platform.settings import PlatformSettings
from tests.contract.conftest import BASE, RunningApi, rows, running_api
from tests.contract.test_bad_input import check, good_file
from tests.fakes.vllm import FakeVllm

__all__ = ["good_file"]
DOCUMENT = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
GETS = sorted(path for path, item in DOCUMENT["paths"].items() if "get" in item)
JOBS = "/v1/distillation/jobs"


def filled(path: str) -> str:
    return re.sub(r"\{[a-z_]+\}", "x", path)


@pytest.mark.parametrize("path", [path for path in GETS if path.startswith("/v1/")])
def test_an_unknown_query_parameter_is_named(http: httpx.Client, path: str):
    message = check(http.get(filled(path), params={"befor": "x"}), 400, "unknown_parameter", "befor")
    known = [one["name"] for one in DOCUMENT["paths"][path]["get"].get("parameters", []) if one["in"] == "query"]
    assert all(name in message for name in known)
    assert known or message.endswith("takes none")


@pytest.mark.parametrize("query", ["limit=1&limit=2", "order=up", "purpose=%00", "limit=10001", "limit=0"])
def test_a_wrong_query_of_files_is_refused(http: httpx.Client, query: str):
    check(http.get(f"/v1/files?{query}"), 400, "invalid_value", query.partition("=")[0])


@pytest.mark.parametrize("path", GETS)
def test_head_answers_as_get_without_a_body(http: httpx.Client, path: str):
    got, headed = http.get(filled(path)), http.head(filled(path))
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    own = {"date", "x-request-id", "content-length", "content-encoding", "etag"}
    assert set(headed.headers) - own == set(got.headers) - own
    assert headed.headers["content-type"] == got.headers["content-type"]


def test_head_of_a_stream_ends(http: httpx.Client, good_file: str):
    job = http.post(JOBS, json={"model": BASE, "training_file": good_file, "distillation": {"domain": "d"}}).json()[
        "id"
    ]
    began = time.monotonic()
    for _ in range(3):  # one connection, so each must have ended cleanly
        headed = http.head(f"{JOBS}/{job}/events", headers={"accept": "text/event-stream"})
        assert headed.headers["content-type"].startswith("text/event-stream")
    assert time.monotonic() - began < 30  # a stream that did not end would keep the client for a minute
    assert http.head(f"/v1/files/{good_file}/content").headers["content-length"] == str(len(rows(60)))


# What OpenAI's stock client may send -> where it goes. Its signatures are the table: a new parameter fails here first.
OF_THE_CLIENT: list[tuple[Callable[..., Any], str, str]] = [
    (resources.Files.list, "GET", "/v1/files"),
    (resources.Files.retrieve, "GET", "/v1/files/{file_id}"),
    (resources.fine_tuning.jobs.Jobs.list, "GET", "/v1/fine_tuning/jobs"),
    (resources.fine_tuning.jobs.Jobs.list_events, "GET", "/v1/fine_tuning/jobs/{job_id}/events"),
    (resources.fine_tuning.jobs.Checkpoints.list, "GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"),
    (resources.fine_tuning.jobs.Jobs.retrieve, "GET", "/v1/fine_tuning/jobs/{job_id}"),
    (resources.Models.list, "GET", "/v1/models"),
]
OF_EVERY_CALL = {"self", "extra_headers", "extra_query", "extra_body", "timeout", "file_id", "fine_tuning_job_id"}


def parameters_of(call: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(call).parameters) - OF_EVERY_CALL


@pytest.mark.parametrize(
    ("call", "method", "path"), OF_THE_CLIENT, ids=lambda value: getattr(value, "__qualname__", value)
)
def test_every_parameter_of_the_clients_lists_is_one_of_ours(call: Callable[..., Any], method: str, path: str):
    app = create_app(ApiSettings(), PlatformSettings())
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path == path]
    known = query_names(next(route for route in routes if method in route.methods))
    assert parameters_of(call) <= set(known)


def test_every_parameter_of_the_clients_upload_is_honoured_or_refused(http: httpx.Client):
    assert parameters_of(resources.Files.create) <= set(upload.FIELDS)
    for name, code, param in (
        ("expires_after[anchor]", "invalid_value", "expires_after"),
        ("expires_after", "invalid_value", "expires_after"),
        ("purpos", "unknown_parameter", "purpos"),
    ):
        form = {"purpose": "fine-tune", name: "created_at"}
        answer = http.post("/v1/files", files={"file": ("rows.jsonl", rows(4))}, data=form)
        check(answer, 400, code, param)
    for seconds in ("3599", "2592001", "1e4", "-3600", "x"):
        form = {"purpose": "user_data", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
        answer = http.post("/v1/files", files={"file": ("a.txt", b"x")}, data=form)
        assert "an hour" in check(answer, 400, "invalid_value", "expires_after.seconds")


def test_a_file_is_gone_from_the_time_that_it_was_given(api: RunningApi, client: openai.OpenAI):
    made = [
        client.files.create(
            file=("a.txt", b"the same"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": seconds}
        )
        for seconds in (3600, 7200)
    ]
    assert [file.expires_at for file in made] == [
        file.created_at + s for file, s in zip(made, (3600, 7200), strict=True)
    ]
    past, kept = made
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(files.update().where(files.c.id == past.id).values(expires_at=time.time() - 1))
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(past.id)
    listed = [file.id for file in client.files.list(purpose="user_data", limit=20)]
    assert (past.id in listed, kept.id in listed) == (False, True)
    folder, catalog, uploads = api.platform.files, api.stores.catalog, open_uploads(api.platform)
    assert (remove_expired(catalog, uploads, dry_run=True), remove_expired(catalog, uploads)) == (1, 1)
    assert client.files.content(kept.id).read() == b"the same", "another file with the same bytes is left"
    with writing(api.stores.jobs.engine) as connection:
        connection.execute(files.update().where(files.c.id == kept.id).values(expires_at=time.time() - 1))
    before = set(folder.iterdir())
    assert remove_expired(catalog, uploads) == 1
    assert len(before - set(folder.iterdir())) == 1
    assert remove_expired(catalog, uploads) == 0


def test_every_parameter_of_the_clients_job_is_a_field():
    fields = DOCUMENT["components"]["schemas"]["FineTuningRequest"]["properties"]
    assert parameters_of(resources.fine_tuning.jobs.Jobs.create) <= set(fields)


def test_files_are_listed_by_purpose_in_the_order_that_is_asked_for(client: openai.OpenAI):
    made = [
        client.files.create(file=("a.jsonl", rows(4)), purpose=purpose).id for purpose in ("fine-tune", "user_data") * 2
    ]
    own = set(made)
    raw = [file.id for file in client.files.list(purpose="user_data", order="asc", limit=1) if file.id in own]
    assert raw == made[1::2]
    assert [file.id for file in client.files.list(order="desc", limit=3) if file.id in own] == made[::-1]
    assert client.files.list(purpose="fine-tune", after=made[3], limit=1).data[0].id == made[2]
    assert client.files.list(purpose="batch").data == []


def test_jobs_without_metadata_are_listed(client: openai.OpenAI, http: httpx.Client, good_file: str):
    body = {"model": BASE, "training_file": good_file, "distillation": {"domain": "d"}}
    bare = http.post(JOBS, json=body).json()["id"]
    marked = http.post(JOBS, json=body | {"metadata": {"a": "b"}}).json()["id"]
    listed = [job["id"] for job in http.get(f"{JOBS}?metadata=null&limit=100").json()["data"]]
    assert bare in listed
    assert marked not in listed
    assert next(job.id for job in client.fine_tuning.jobs.list(metadata={"a": "b"})) == marked


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/uploads", "POST /v1/files"),
        ("/v1/uploads/u-1/parts", "POST /v1/files"),
        ("/v1/fine_tuning/alpha/graders/list", "/v1/fine_tuning/alpha/graders/validate"),
        ("/v1/fine_tuning/checkpoints/x/permissions", "project"),
        ("/v1/embeddings", "/v1/chat/completions"),
        ("/v1/audio/speech", "not offered"),
        ("/v1/vector_stores", "not offered"),
        ("/chat/completions", "/v1/chat/completions is offered"),
        ("/v1/v1/chat/completions", "/v1/chat/completions is offered"),
        ("/v1/files/", "/v1/files is offered"),
        ("//v1//models", "/v1/models is offered"),
        ("/v1/jobs", "/v1/fine_tuning/jobs"),
        ("/v1/distilation/jobs", "near it: /v1/distillation/jobs"),
        ("/nobody", "GET /docs"),
    ],
)
def test_an_unknown_path_says_what_there_is(api: RunningApi, path: str, says: str):
    with httpx.Client(trust_env=False) as anybody:
        answer = anybody.post(api.url + path, json={})
    message = check(answer, 404, "not_found", None)
    assert says in message
    assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/fine_tuning/jobs", "GET, HEAD, POST"),
        ("PATCH", "/v1/files", "GET, HEAD, POST"),
        ("POST", "/v1/files/file-1", "DELETE, GET, HEAD"),
        ("OPTIONS", "/v1/chat/completions", "GET, HEAD, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_names_the_right_ones(http: httpx.Client, method: str, path: str, allowed: str):
    answer = http.request(method, path)
    assert check(answer, 405, "method_not_allowed", None).endswith(allowed)
    assert answer.headers["allow"] == allowed


JOB = {"model": BASE, "training_file": "GOOD"}
UNKNOWN_FIELDS = [
    (JOBS, JOB | {"distillation": {"domain": "d"}, "sufix": "x"}, "sufix", "suffix"),
    (JOBS, JOB | {"distillation": {"domain": "d", "iterate": {"trys": 3}}}, "distillation.iterate.trys", "tries"),
    (
        JOBS,
        JOB | {"distillation": {"domain": "d", "teacher": {"provder": "x"}}},
        "distillation.teacher.provder",
        "provider",
    ),
    ("/v1/fine_tuning/jobs", JOB | {"hyperparameters": {"epochs": 1}}, "hyperparameters.epochs", "n_epochs"),
    (f"{JOBS}/JOB/fork", {"change": {}}, "change", "changes"),
    (f"{JOBS}/JOB/fork", {"from": {"phase": "iterate", "rounds": 1}}, "from.rounds", "round"),
    (f"{JOBS}/JOB/fork", {"changes": {"distillation": {"judg": {}}}}, "distillation.judg", "judge"),
    ("/v1/experiments", {"job": JOB, "variant": []}, "variant", "variants"),
    ("/v1/labels", {"lables": []}, "lables", "labels"),
    ("/v1/webhooks", {"url": "http://x", "event": []}, "event", "event_types"),
    ("/v1/keys", {"name": "x", "scope": []}, "scope", "scopes"),
]


@pytest.mark.parametrize(("path", "body", "param", "near"), UNKNOWN_FIELDS, ids=[case[2] for case in UNKNOWN_FIELDS])
def test_an_unknown_field_is_named_with_the_nearest(
    http: httpx.Client, good_file: str, path: str, body: dict, param: str, near: str
):
    if "training_file" in body:
        body = body | {"training_file": good_file}
    if "JOB" in path:
        job = {"model": BASE, "training_file": good_file, "distillation": {"domain": "d"}}
        path = path.replace("JOB", http.post(JOBS, json=job).json()["id"])
    assert f"did you mean {near!r}?" in check(http.post(path, json=body), 400, "unknown_parameter", param)


BAD_BODIES = [
    ("text", b'{"model": "x"}', "text/plain", "its content type is text/plain"),
    ("form", b"a=1", "application/x-www-form-urlencoded", "send Content-Type: application/json"),
    ("empty", b"", "application/json", "the body must be a JSON object, not empty"),
    ("list", b"[]", "application/json", "the body must be a JSON object, not list"),
    ("utf16", '{"model": "x"}'.encode("utf-16"), "application/json", "UTF-8"),
    ("nan", b'{"model": NaN}', "application/json", "NaN is no number"),
    ("infinity", b'{"model": -Infinity}', "application/json", "Infinity is no number"),
    ("deep", b'{"model":' * 20_000 + b"1" + b"}" * 20_000, "application/json", "nested too deeply"),
    ("cut", b'{"model": ', "application/json", "not JSON"),
]


@pytest.mark.parametrize("path", [JOBS, "/v1/chat/completions", "/v1/labels"])
@pytest.mark.parametrize(("content", "kind", "says"), [pytest.param(*case[1:], id=case[0]) for case in BAD_BODIES])
def test_a_body_that_is_no_json_object_is_told(http: httpx.Client, path: str, content: bytes, kind: str, says: str):
    answer = http.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]


def test_a_text_may_speak_of_nan(http: httpx.Client):
    ask = {"model": BASE, "messages": [{"role": "user", "content": 'is "NaN" less than -Infinity?'}]}
    assert http.post("/v1/chat/completions", json=ask).status_code == 200


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm) -> Iterator[RunningApi]:
    with running_api(
        tmp_path_factory.mktemp("brief"), METEOR_API_ENGINE_URL=engine.url, METEOR_API_KEEP_ALIVE_S="6"
    ) as running:
        yield running


def test_a_connection_stays_open_as_long_as_the_settings_say(brief: RunningApi, http: httpx.Client):
    assert http.get("/healthz").headers["keep-alive"] == "timeout=75"
    host, port = brief.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for _ in range(2):  # the second request within the time is answered on the same connection
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            time.sleep(3.5)
            answer = connection.recv(65536)
            assert b"keep-alive: timeout=6" in answer
        began = time.monotonic()
        assert connection.recv(65536) == b""  # closed in order, not reset
        assert time.monotonic() - began < 30
