"""Files: raw material beside datasets, ranges, unread fields, and uploads in constant memory."""

import json
from pathlib import Path

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.local.main import cli
from tests.bench.upload import measured
from tests.contract.conftest import BASE, KEY, RunningApi, rows
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


def test_the_command_line_uploads_lists_and_deletes(api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    path = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    made = CliRunner().invoke(cli, ["data", "import", str(path), "--upload", "--json"])
    file = json.loads(made.stdout)["file"]
    assert (file["n_rows"], file["filename"]) == (1, "chat.jsonl")
    listed = json.loads(CliRunner().invoke(cli, ["data", "list", "--json"]).stdout)
    assert listed["data"][0]["id"] == file["id"]
    assert CliRunner().invoke(cli, ["data", "delete", file["id"]]).exit_code == 0
    path.write_text("nonsense\n")
    refused = CliRunner().invoke(cli, ["data", "upload", str(path)])
    assert (refused.exit_code, "line 1: not a JSON object" in " ".join(refused.output.split())) == (1, True)
