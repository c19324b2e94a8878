"""Cause -> status, code, param; always in OpenAI's error shape, always with a request id."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from shared.contracts.data import MAX_LINE_BYTES
from tests.contract.conftest import BASE, LARGER, RunningApi, rows
from tests.fakes.vllm import FakeVllm

JOBS = "/v1/distillation/jobs"
CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "hello"}]
LONG_LINE = 200 * 2**20


def upload(http: httpx.Client, content: bytes, purpose: str = "fine-tune") -> httpx.Response:
    return http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": purpose})


def check(answer: httpx.Response, status: int, code: str, param: str | None) -> str:
    """The message, after the rest was found as expected."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), answer.text
    assert answer.headers["x-request-id"]
    return error["message"]


@pytest.fixture
def good_file(http: httpx.Client) -> str:
    return upload(http, rows(60)).json()["id"]


BAD_FILES = [
    ("not_json", b'{"question": "a"}\nquestion: b\n', 2, "invalid_json", None),
    ("a_list", b"[1]\n", 1, "invalid_json", None),
    ("no_question", b'{"question": "a"}\n\n{"txt": "b"}\n', 3, "no_question", "question"),
    ("blank_question", b'{"question": "  "}\n', 1, "invalid_row", "question"),
    ("wrong_type", b'{"question": {}}\n', 1, "invalid_row", "question"),
    ("lone_surrogate", b'{"question": "\\ud800"}\n', 1, "invalid_unicode", None),
    ("bad_utf8", b'{"question": "\xc3\xa9"}\n{"question": "\xff"}\n', 2, "invalid_utf8", None),
    ("twice_the_id", b'{"question": "a", "id": "x"}\n{"question": "b", "id": "x"}\n', 2, "duplicate_id", "id"),
    ("deep", b"[" * 100_000 + b"\n", 1, "invalid_json", None),
    ("long_line", b'{"question": "' + b"a" * MAX_LINE_BYTES + b'"}\n{"question": "b"}\n', 1, "line_too_long", None),
]


@pytest.mark.parametrize(("content", "line", "code", "param"), [pytest.param(*c[1:], id=c[0]) for c in BAD_FILES])
def test_a_bad_file_is_kept_with_its_errors_and_refused_by_jobs(
    http: httpx.Client, content: bytes, line: int, code: str, param: str | None
):
    answer = upload(http, content)
    assert answer.status_code == 200, answer.text
    file = answer.json()
    assert (file["status"], file["n_rows"]) == ("error", None)
    assert f"line {line}" in file["status_details"]
    verdict = http.post(f"/v1/files/{file['id']}/validate").json()
    assert verdict["valid"] is False
    assert [(e["line"], e["code"], e["param"]) for e in verdict["errors"]["data"]] == [(line, code, param)]
    body = {"model": BASE, "training_file": file["id"], "distillation": {"domain": "sums"}}
    message = check(http.post(JOBS, json=body), 400, "invalid_file_format", "training_file")
    assert f"line {line}" in message


def test_many_bad_lines_are_bounded(http: httpx.Client):
    file = upload(http, b'{"question": "a"}\n' + b"{x\n" * 5000).json()
    assert "at least 100 bad lines" in file["status_details"]
    errors = http.post(f"/v1/files/{file['id']}/validate").json()["errors"]
    assert (len(errors["data"]), errors["has_more"]) == (1000, True)


def test_a_good_file_is_valid(http: httpx.Client, good_file: str):
    verdict = http.post(f"/v1/files/{good_file}/validate").json()
    assert (verdict["valid"], verdict["n_rows"], verdict["errors"]["data"]) == (True, 60, [])


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_empty_file(http: httpx.Client, content: bytes):
    check(upload(http, content), 400, "empty_file", "file")


def test_empty_file_through_the_client(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("rows.jsonl", b""), purpose="fine-tune")
    assert (refused.value.code, refused.value.param) == ("empty_file", "file")


BAD_FORMS: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("no_file", {"files": {"purpose": (None, "fine-tune")}}, "missing_required_parameter", "file"),
    ("no_purpose", {"files": {"file": ("a", b"{}")}}, "missing_required_parameter", "purpose"),
    ("purpose", {"files": {"file": ("a", b"{}")}, "data": {"purpose": "batch"}}, "invalid_value", "purpose"),
    ("two_files", {"files": [("file", ("a", b"1")), ("file", ("b", b"2"))]}, "invalid_form", "file"),
    ("json", {"json": {"purpose": "fine-tune"}}, "invalid_form", None),
    ("garbage", {"content": b"hello", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "invalid_form", None),
    ("cut_off", {"content": b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nabc', "headers": {"content-type": "multipart/form-data; boundary=x"}}, "invalid_form", None),
]  # fmt: skip


@pytest.mark.parametrize(("options", "code", "param"), [pytest.param(*c[1:], id=c[0]) for c in BAD_FORMS])
def test_bad_form(http: httpx.Client, options: dict[str, Any], code: str, param: str | None):
    check(http.post("/v1/files", **options), 400, code, param)


def one_line_form(size: int) -> Iterator[bytes]:
    yield b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="long.jsonl"\r\n\r\n'
    block = b"a" * 2**20
    for _ in range(size // len(block)):
        yield block
    yield b"\r\n--x--\r\n"


def test_200_mb_of_one_line_in_bounded_memory(api: RunningApi, http: httpx.Client):
    upload(http, rows(4))  # warm
    before = api.peak_bytes()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = http.post("/v1/files", content=one_line_form(LONG_LINE), headers=headers)
    check(answer, 400, "invalid_file_format", "file")
    assert api.peak_bytes() - before < 60 * 2**20
    assert not list((api.platform.data / "files").glob(".upload-*"))


def a_job(**changes: Any) -> dict[str, Any]:
    return {"model": BASE, "training_file": "GOOD", "distillation": {"domain": "sums"}} | changes


BAD_JOBS = [
    ("unknown_model", a_job(model="gpt-7"), "model_not_found", "model"),
    ("path_as_model", a_job(model="../../etc/passwd"), "model_not_found", "model"),
    (
        "rank_above_the_engines",
        a_job(distillation={"domain": "sums", "adapter": {"rank": 32}}),
        "rank_too_large",
        "distillation.adapter.rank",
    ),
    ("student_not_served", a_job(model=LARGER), "model_not_found", "model"),
    (
        "full_not_served",
        a_job(distillation={"domain": "sums", "adapter": {"method": "full"}}),
        "method_not_served",
        "distillation.adapter.method",
    ),
    ("unknown_method", a_job(distillation={"domain": "d", "adapter": {"method": "half"}}), "invalid_value", "distillation.adapter.method"),
    ("unknown_phase", a_job(distillation={"domain": "d", "phases": ["sleep"]}), "invalid_value", "distillation.phases.0"),
    ("phases_in_disorder", a_job(distillation={"domain": "d", "phases": ["evolve", "distill"]}), "invalid_value", "distillation"),
    ("no_domain", a_job(distillation={}), "missing_required_parameter", "distillation.domain"),
    ("unknown_field", a_job(colour="red"), "unknown_parameter", "colour"),
    ("unknown_inner_field", a_job(distillation={"domain": "d", "iterate": {"trys": 3}}), "unknown_parameter", "distillation.iterate.trys"),
    ("no_such_file", a_job(training_file="file-nobody"), "file_not_found", "training_file"),
    ("path_as_file", a_job(training_file="../../etc/passwd"), "file_not_found", "training_file"),
    ("too_many_questions", a_job(distillation={"domain": "d", "distill": {"questions": 30}, "iterate": {"questions": 30}}), "too_many_questions", "distillation.distill.questions"),
    ("suffix_as_path", a_job(suffix="../x"), "invalid_value", "suffix"),
    ("one_of_two_kinds", a_job(hyperparameters={"n_epochs": {}}), "invalid_value", "hyperparameters.n_epochs"),
    ("negative_tries", a_job(distillation={"domain": "d", "iterate": {"tries": -1}}), "invalid_value", "distillation.iterate.tries"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "param"), [pytest.param(*c[1:], id=c[0]) for c in BAD_JOBS])
def test_bad_job(http: httpx.Client, good_file: str, body: dict[str, Any], code: str, param: str):
    if body["training_file"] == "GOOD":
        body = body | {"training_file": good_file}
    check(http.post(JOBS, json=body), 400, code, param)


def test_a_budget_that_cannot_hold_the_judges_measuring_is_refused(http: httpx.Client, good_file: str):
    """Without references the judge measures; what it needs at most is named, and with that the job is taken."""
    content = b"".join(b'{"question": "What is %d plus %d?"}\n' % (n, n) for n in range(60))
    bare = upload(http, content).json()["id"]

    def body(file: str, **evaluation: Any) -> dict[str, Any]:
        return a_job(training_file=file, distillation={"domain": "d", "evaluation": evaluation})

    param = "distillation.evaluation.max_judge_calls"
    few = body(bare, max_judge_calls=8, dev_questions=2, test_questions=2)
    message = check(http.post(JOBS, json=few), 400, "max_judge_calls_too_small", param)
    # four calls a comparison; dev: each phase against the one before, the last against the served version; test: each phase against
    # the base, and the final model against each phase
    need = (2 * (3 + 1) + 2 * 3 + 2 * 3) * 4
    assert f"can take {need} calls" in message
    assert http.post(JOBS, json=body(bare, max_judge_calls=need, dev_questions=2, test_questions=2)).status_code == 201
    judged = {"max_judge_calls": need + 7, "dev_questions": 2, "test_questions": 2, "judged_questions": 2}
    check(http.post(JOBS, json=body(bare, **judged)), 400, "max_judge_calls_too_small", param)
    assert http.post(JOBS, json=body(good_file, max_judge_calls=8, judged_questions=2)).status_code == 201


@pytest.mark.parametrize("count", [1, 3, 5])
def test_too_few_rows_says_how_many(http: httpx.Client, count: int):
    file = upload(http, rows(count)).json()
    body = a_job(training_file=file["id"])
    message = check(http.post(JOBS, json=body), 400, "too_few_rows", "training_file")
    for split, count in file["splits"].items():
        assert f"{split} {count}" in message


def test_a_phase_that_would_have_no_question_is_refused(http: httpx.Client, good_file: str):
    train = http.get(f"/v1/files/{good_file}").json()["splits"]["train"]
    body = a_job(training_file=good_file, distillation={"domain": "d", "distill": {"questions": train}})
    message = check(http.post(JOBS, json=body), 400, "too_few_rows", "distillation.iterate.questions")
    assert "leave none for iterate" in message


def test_body_that_is_not_json(http: httpx.Client):
    answer = http.post(JOBS, content=b'{"model": ', headers={"content-type": "application/json"})
    check(answer, 400, "invalid_json", None)


def test_a_long_body_is_refused(http: httpx.Client):
    answer = http.post(CHAT, json={"model": BASE, "messages": [{"role": "user", "content": "a" * 9 * 2**20}]})
    check(answer, 413, "invalid_request", None)


BAD_CHATS = [
    ("unknown_field", {"model": BASE, "messages": ASK, "chat_template": "x"}, 400, "unknown_parameter", "chat_template"),
    ("vllm_xargs", {"model": BASE, "messages": ASK, "vllm_xargs": {}}, 400, "unknown_parameter", "vllm_xargs"),
    ("unknown_model", {"model": "nobody", "messages": ASK}, 404, "model_not_found", "model"),
    ("path_as_model", {"model": "../adapters/job-9-v1", "messages": ASK}, 404, "model_not_found", "model"),
    ("hash_as_model", {"model": "a" * 64, "messages": ASK}, 404, "model_not_found", "model"),
    ("nul_as_model", {"model": "a\0b", "messages": ASK}, 400, "invalid_value", "model"),
    ("surrogate_as_model", {"model": "\ud800", "messages": ASK}, 400, "invalid_request", None),
    ("no_messages", {"model": BASE}, 400, "missing_required_parameter", "messages"),
    ("empty_messages", {"model": BASE, "messages": []}, 400, "invalid_value", "messages"),
    ("odd_message", {"model": BASE, "messages": [*ASK, "hi"]}, 400, "invalid_value", "messages.1"),
    ("stream_word", {"model": BASE, "messages": ASK, "stream": "yes"}, 400, "invalid_value", "stream"),
    ("engine_refuses", {"model": BASE, "messages": [{"role": "user", "content": "refuse"}]}, 400, "invalid_request", None),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("body", "status", "code", "param"), [pytest.param(*c[1:], id=c[0]) for c in BAD_CHATS])
def test_bad_chat(http: httpx.Client, body: dict, status: int, code: str, param: str | None, stream: bool):
    body = {"stream": stream} | body if stream else body
    answer = http.post(CHAT, content=json.dumps(body), headers={"content-type": "application/json"})
    check(answer, status, code, param)


def test_only_names_from_the_database_reach_the_engine(engine: FakeVllm):
    assert {body["model"] for body, _ in engine.asked} <= engine.models


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", f"{JOBS}/ftjob-nobody", 404, "job_not_found", "job_id"),
        ("POST", f"{JOBS}/ftjob-nobody/cancel", 404, "job_not_found", "job_id"),
        ("GET", f"{JOBS}/ftjob-nobody/events", 404, "job_not_found", "job_id"),
        ("GET", f"{JOBS}/ftjob-nobody/report", 404, "job_not_found", "job_id"),
        ("GET", f"{JOBS}/ftjob-nobody/usage", 404, "job_not_found", "job_id"),
        ("GET", f"{JOBS}/ftjob-nobody/steps", 404, "job_not_found", "job_id"),
        ("GET", "/v1/files/%2e%2e", 404, "file_not_found", "file_id"),
        ("GET", "/v1/files/..%2F..%2Fetc%2Fpasswd", 404, "not_found", None),
        ("GET", "/v1/files/..%2f..%2fetc%2fpasswd/content", 404, "not_found", None),
        ("DELETE", "/v1/files/file-nobody", 404, "file_not_found", "file_id"),
        ("GET", "/v1/models/..%2F..%2Fetc", 404, "model_not_found", "model"),
        ("GET", "/v1/nothing", 404, "not_found", None),
        ("PUT", "/v1/fine_tuning/jobs", 405, "method_not_allowed", None),
        ("DELETE", "/v1/models/an-alias/canary/events?limit=20", 405, "method_not_allowed", None),
        ("GET", f"{JOBS}?limit=0", 400, "invalid_value", "limit"),
        ("GET", f"{JOBS}?limit=101", 400, "invalid_value", "limit"),
        ("GET", f"{JOBS}?after=ftjob-nobody", 400, "unknown_cursor", "after"),
        ("GET", f"{JOBS}?status=asleep", 400, "invalid_value", "status"),
        ("GET", f"{JOBS}?metadata=x", 400, "invalid_value", "metadata"),
        ("GET", "/v1/files?after=file-nobody", 400, "unknown_cursor", "after"),
    ],
)
def test_bad_path_or_query(http: httpx.Client, method: str, path: str, status: int, code: str, param: str | None):
    check(http.request(method, path), status, code, param)


@pytest.mark.parametrize("after", ["nonsense", "ftevent-999999", "ftevent-0"])
def test_unknown_event_cursor(http: httpx.Client, good_file: str, after: str):
    job = http.post(JOBS, json=a_job(training_file=good_file)).json()["id"]
    check(http.get(f"{JOBS}/{job}/events", params={"after": after}), 400, "unknown_cursor", "after")
