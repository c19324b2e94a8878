"""Hostile requests, made for every route out of openapi.json: refused at once, in our form, without a word about our inside."""

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.api.openapi_document import operations
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.contract.hostile import BODIES, DOCUMENT, JSON, address, refused
from tests.fakes.vllm import FakeVllm

WITH_IDS = [(method, path) for path, method, _ in operations(DOCUMENT) if "{" in path]
TRAVERSALS = [
    "..",
    "../../../../etc/passwd",
    "..\\..\\windows",
    "....//....//etc/passwd",
    "/etc/passwd",
    "%2e%2e%2fetc%2fpasswd",
]
# Texts for the engine, which knows its own limit; here only the whole body is bounded.
FOR_THE_ENGINE = re.compile(
    r"\.(content|prompt|input|instructions|choice|stop|bad_words|tool_choice|metadata|source)(\.|$)"
)
LONG = "A" * 100_000
LONGER = {".context": 12, ".model_sample": 12}  # texts that may be so many times longer


@pytest.fixture(scope="module")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    """One client for all of this: making one takes longer than what it asks."""
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


WELL_FORMED = {"url": "https://example.org/hook"}  # what the schema cannot say of a text


def smallest(schema: dict[str, Any], text: str = "x") -> Any:
    """A value that the schema takes: what is required, what tells its kind, and nothing else."""
    schema = resolved(schema)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if either := schema.get("anyOf") or schema.get("oneOf"):
        return smallest(either[0], text)
    match schema.get("type"):
        case "object":
            fixed = [name for name, inner in schema.get("properties", {}).items() if "const" in inner]
            needed = {*schema.get("required", []), *fixed}
            return {name: WELL_FORMED.get(name) or smallest(schema["properties"][name], text) for name in needed}
        case "array":
            return [smallest(schema.get("items", {}), text)] * schema.get("minItems", 0)
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return True
        case _:
            return text


def with_long_text(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) for every text in a schema: a smallest value in which just that text is long."""
    schema = resolved(schema)
    if either := schema.get("anyOf") or schema.get("oneOf"):
        for part in either:
            yield from with_long_text(part, place)
    elif schema.get("type") == "string":
        yield place, LONG * next((times for end, times in LONGER.items() if place.endswith(end)), 1)
    elif schema.get("type") == "array":
        for where, value in with_long_text(schema.get("items", {}), place):
            yield where, [value]
    elif "properties" in schema:
        for name, inner in schema["properties"].items():
            for where, value in with_long_text(inner, f"{place}.{name}"):
                yield where, smallest(schema) | {name: value}


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
def test_every_text_has_a_limit(http: httpx.Client, method: str, path: str, schema: dict[str, Any]):
    for where, body in with_long_text(schema):
        if not FOR_THE_ENGINE.search(where):
            answer = http.request(method, address(path), json=body)
            name = where.rpartition(".")[2]
            if path.endswith("/check"):  # it says what is wrong, and is not itself refused
                assert not answer.json().get("ok")
                assert name in answer.text
                continue
            assert answer.status_code == 400, f"{where}: {answer.text[:300]}"
            error = refused(answer, 400)
            assert name in (error["param"] or "").split(".") or name in error["message"], f"{where}: {error}"


@pytest.mark.parametrize("path", ["/v1/distillation/jobs", "/v1/chat/completions", "/v1/labels"])
def test_every_body_has_a_limit(http: httpx.Client, path: str):
    refused(http.post(path, json={"model": "A" * 9 * 2**20}), 413)


HOSTILE = {
    "deep lists": b"[" * 100_000,
    "deep closed lists": b"[" * 20_000 + b"]" * 20_000,
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "a number of 10,000 digits": b'{"model": ' + b"9" * 10_000 + b"}",
    "half a surrogate pair": b'{"\\ud800": "\\udfff"}',
    "no value": b"NaN",
    "a text": b'"text"',
    "UTF-16": '{"model": "x"}'.encode("utf-16"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json(http: httpx.Client, content: bytes):
    for method, path, _ in BODIES:
        refused(http.request(method, address(path), content=content, headers={"content-type": JSON}), 400, 413)


FREE = [  # where any value may stand, deep inside
    ("/v1/experiments", '{"job": %s, "preset": "ablation"}'),
    ("/v1/experiments", '{"job": {}, "variants": [{"name": "a", "changes": %s}]}'),
    ("/v1/labels", '{"labels": [%s]}'),
    ("/v1/chat/completions", '{"model": "x", "messages": [{"role": "user", "content": "a", "tool_calls": %s}]}'),
    (
        "/v1/chat/completions",
        '{"model": "x", "messages": [{"role": "user"}], "tools": [{"type": "function", "a": %s}]}',
    ),
]


@pytest.mark.parametrize("depth", [100, 900, 5000])
@pytest.mark.parametrize(("path", "body"), FREE)
def test_deep_values_where_any_may_stand(http: httpx.Client, path: str, body: str, depth: int):
    content = body % ('{"a":' * depth + "1" + "}" * depth)
    refused(http.post(path, content=content, headers={"content-type": JSON}), 400, 404)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "true", '"1"', "1e308", "9" * 400])
@pytest.mark.parametrize(
    "body",
    [
        '{"model": "x", "training_file": "x", "seed": %s, "distillation": {"domain": "d"}}',
        '{"model": "x", "training_file": "x", "distillation": {"domain": "d", "budget": {"max_usd": %s}}}',
        '{"model": "x", "training_file": "x", "distillation": {"domain": "d", "evolve": {"beta": %s}}}',
    ],
)
def test_odd_numbers(http: httpx.Client, body: str, number: str):
    refused(http.post("/v1/distillation/jobs", content=body % number, headers={"content-type": JSON}), 400)


@pytest.mark.parametrize("name", ["model", "training_file", "suffix"])
def test_nul_in_a_name(http: httpx.Client, name: str):
    body = {"model": BASE, "training_file": "file-x", "distillation": {"domain": "d"}} | {name: "a\0b"}
    refused(http.post("/v1/distillation/jobs", json=body), 400)


@pytest.mark.parametrize("value", [*TRAVERSALS, "a\0b", "a\nb", "a\r\nx-evil: 1", "A" * 5000, "' OR 1=1 --", "\u202e"])
def test_ids_are_looked_up_and_nothing_else(http: httpx.Client, value: str):
    for method, path in WITH_IDS:
        answer = http.request(method, address(path, value), json=None if method in ("get", "delete") else {})
        error = refused(answer, 400, 404, 405, *([503] if "/providers/" in path else []))  # no gateway runs here
        assert "root:" not in error["message"]
        assert "x-evil" not in answer.headers


@pytest.mark.parametrize("value", [*TRAVERSALS, "a@../../x", "../serving/" + "a" * 64])
def test_names_of_models_reach_no_path(http: httpx.Client, engine: FakeVllm, value: str):
    asked = len(engine.asked)
    chat = {"model": value, "messages": [{"role": "user", "content": "hi"}]}
    refused(http.post("/v1/chat/completions", json=chat), 400, 404)
    job = {"model": BASE, "training_file": "file-x", "distillation": {"domain": "d"}, "suffix": value}
    refused(http.post("/v1/distillation/jobs", json=job), 400)
    assert len(engine.asked) == asked


@pytest.mark.parametrize(
    "name", [*TRAVERSALS, 'a"; filename="b', "a\r\nset-cookie: x=1", "a\0b", "\u202egpj.exe", "A" * 3000]
)
def test_a_file_name_is_a_label(api: RunningApi, http: httpx.Client, name: str):
    before = {path.name for path in api.platform.data.parent.iterdir()}
    form = {"files": {"file": (name, rows(4))}, "data": {"purpose": "fine-tune"}}
    made = http.post("/v1/files", **form)
    assert made.status_code == 200, made.text
    got = http.get(f"/v1/files/{made.json()['id']}/content")
    assert got.content == rows(4)
    assert "set-cookie" not in got.headers
    assert re.fullmatch(r"[\x20-\x7e]{1,1200}", got.headers["content-disposition"])
    assert {path.name for path in api.platform.data.parent.iterdir()} == before
    assert all(re.fullmatch("[0-9a-f]{64}|[.][a-z]+", path.name) for path in (api.platform.data / "files").iterdir())


@pytest.mark.parametrize("given", ["a b", "a;b", "a\tb", "x" * 129, "{}", "\u00e9", "%0d%0aset-cookie: x=1"])
def test_a_strange_request_id_is_not_repeated(http: httpx.Client, given: str):
    answer = http.get("/healthz", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert re.fullmatch("req-[0-9a-f]+", answer.headers["x-request-id"])


MANY = {  # few bytes, and an error with place and words for each value
    "numbers in a list": b'{"messages": [' + b"1," * 60_000 + b"1]}",
    "lists in a list": b'{"messages": [' + b"[]," * 30_000 + b"[[]]]}",
    "texts in a list": b'{"messages": [' + b'",",' * 60_000 + b'""]}',
    "fields that nobody knows": b"{" + b",".join(b'"%d": 0' % n for n in range(60_000)) + b"}",
}


@pytest.mark.parametrize("content", MANY.values(), ids=MANY)
def test_a_body_of_very_many_values_is_refused_before_it_is_looked_at(
    api: RunningApi, http: httpx.Client, content: bytes
):
    before = api.peak_bytes()
    for method, path, _ in BODIES:
        refused(http.request(method, address(path), content=content, headers={"content-type": JSON}), 413)
    assert api.peak_bytes() - before < 32 * 2**20


def test_a_long_text_is_not_taken_for_many_values(http: httpx.Client):
    message = {"role": "user", "content": '{"a": [1, 2, "\\"]}, ' * 50_000}
    assert http.post("/v1/chat/completions", json={"model": BASE, "messages": [message]}).status_code == 200


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00", "\\ud83d x", "\\ude00\\ud83d", "\\\\\\ud800"])
def test_half_a_character_reaches_no_engine(http: httpx.Client, engine: FakeVllm, text: str):
    asked = len(engine.asked)
    body = '{"model": "%s", "messages": [{"role": "user", "content": "%s"}]}' % (BASE, text)  # noqa: UP031
    refused(http.post("/v1/chat/completions", content=body, headers={"content-type": JSON}), 400)
    assert len(engine.asked) == asked


@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\\\\ud800"])
def test_whole_characters_and_backslashes_do(http: httpx.Client, engine: FakeVllm, text: str):
    body = '{"model": "%s", "messages": [{"role": "user", "content": "%s"}]}' % (BASE, text)  # noqa: UP031
    assert http.post("/v1/chat/completions", content=body, headers={"content-type": JSON}).status_code == 200
    assert engine.last["messages"][-1]["content"] == json.loads(f'"{text}"')


def test_a_compressed_body_is_not_unpacked(http: httpx.Client):
    headers = {"content-type": JSON, "content-encoding": "gzip"}
    error = refused(http.post("/v1/labels", content=gzip.compress(b" " * 2**22), headers=headers), 400)
    assert "not compressed" in error["message"]


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("x" * 300, b"--x"),
        ("x", b"".join(b'--x\r\ncontent-disposition: form-data; name="f%d"\r\n\r\na\r\n' % n for n in range(30_000)) + b"--x--"),
        ("x", b'--x\r\ncontent-disposition: form-data; name="' + b"a" * 2**20),
        ("x", b"--x\r\n" + b"a: b\r\n" * 2**17),
        ("x", b"\r\n" * 2**20),
    ],
    ids=["long boundary", "many fields", "long header", "many headers", "nothing"],
)  # fmt: skip
def test_a_form_that_goes_on_and_on(http: httpx.Client, boundary: str, body: bytes):
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    error = refused(http.post("/v1/files", content=body, headers=headers), 400)
    assert (error["code"], "METEOR_API_UPLOAD_BYTES" in error["message"]) == ("invalid_form", False)


@pytest.mark.parametrize("asked", ["a", "bytes=0-0,-1", "bytes=5-2", "bytes=", "items=0-5", "bytes=\u0661-"])
def test_a_range_that_is_none_gets_the_whole_file(http: httpx.Client, asked: str):
    form = {"files": {"file": ("r.jsonl", rows(4))}, "data": {"purpose": "fine-tune"}}
    path = f"/v1/files/{http.post('/v1/files', **form).json()['id']}/content"
    answer = http.get(path, headers=[(b"range", asked.encode())])
    assert (answer.status_code, answer.content) == (200, rows(4))
    assert refused(http.get(path, headers={"range": "bytes=99999-"}), 416)["param"] == "range"
    refused(http.get(path, headers={"range": "bytes=" + "0-0," * 8000}), 400)
