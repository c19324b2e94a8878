"""Files: raw material beside datasets, ranges, unread fields, and uploads in constant memory."""

import json

import httpx
import openai

from tests.bench.upload import measured
from tests.contract.conftest import BASE, RunningApi, rows
from tests.contract.test_bad_input import check, upload


def test_raw_material_is_kept_as_it_is_and_is_no_dataset(client: openai.OpenAI, http: httpx.Client):
    content = b"<posts>\n</posts>"
    made = client.files.create(file=("Posts.xml", content), purpose="user_data")
    assert (made.status, made.bytes) == ("processed", len(content))
    assert client.files.content(made.id).read() == content
    check(http.post(f"/v1/files/{made.id}/validate"), 400, "invalid_request", "file_id")
    body = {"model": BASE, "training_file": made.id, "distillation": {"domain": "d"}}
    message = check(http.post("/v1/distillation/jobs", json=body), 400, "invalid_file_format", "training_file")
    assert "import" in message
    check(upload(http, b"", "user_data"), 400, "empty_file", "file")


def test_content_comes_in_ranges(http: httpx.Client):
    content = rows(30)
    url = f"/v1/files/{upload(http, content).json()['id']}/content"
    part = http.get(url, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert http.get(url, headers={"range": "bytes=-5"}).content == content[-5:]
    assert http.get(url, headers={"range": f"bytes={len(content)}-"}).status_code == 416


def test_fields_that_are_not_read_are_named(http: httpx.Client):
    content = b"".join(json.dumps({"question": f"q{n}", "answer": "a"}).encode() + b"\n" for n in range(3))
    verdict = http.post(f"/v1/files/{upload(http, content).json()['id']}/validate").json()
    assert (verdict["valid"], verdict["ignored_fields"]) == (True, {"answer": 3})


def test_an_upload_of_64_mb_does_not_fill_the_memory(api: RunningApi, http: httpx.Client):
    figures = measured(http, api.process.pid, 64_000_000)
    assert figures["bytes"] >= 64_000_000
    assert figures["grown_mb"] < 32, figures
    http.delete(f"/v1/files/{figures['file']}").raise_for_status()
