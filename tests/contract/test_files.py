"""Files: raw material beside datasets, ranges, unread fields, and uploads in constant memory."""

import io
import json
import zipfile
from pathlib import Path
from threading import Thread

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.bench.upload import measured
from tests.contract.conftest import BASE, KEY, RunningApi, rows
from tests.contract.test_bad_input import check, upload
from tests.fakes.ports import wait_until


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
    content = b"".join(
        json.dumps({"question": f"q{n}", "answer": "a", "comment": "c"}).encode() + b"\n" for n in range(3)
    )
    verdict = http.post(f"/v1/files/{upload(http, content).json()['id']}/validate").json()
    assert (verdict["valid"], verdict["ignored_fields"]) == (True, {"comment": 3})


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
    assert refused.exit_code == 1
    assert "its first line is 'nonsense'" in str(refused.exception)
    path.write_text('{"question": "q"}\nnonsense\n')
    refused = CliRunner().invoke(cli, ["data", "upload", str(path)])
    assert (refused.exit_code, "line 2: not a JSON object" in " ".join(refused.output.split())) == (1, True)


def test_documents_are_zipped_posted_and_followed(api: RunningApi, http: httpx.Client, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.md").write_text("about bees")
    (folder / "secret.key").write_text("no document")

    def cancel_what_comes() -> None:
        wait_until(lambda: len(http.get("/v1/imports").json()["data"]) > before, 60, "the import")
        newest = http.get("/v1/imports").json()["data"][0]["id"]
        assert CliRunner().invoke(cli, ["data", "cancel", newest]).exit_code == 0

    before = len(http.get("/v1/imports").json()["data"])
    canceller = Thread(target=cancel_what_comes)
    canceller.start()
    arguments = ["data", "import", str(folder), "--upload", "--domain", "bees", "--usd", "2"]
    refused = CliRunner().invoke(cli, arguments)
    canceller.join()
    assert "cancelled" in str(refused.exception)
    made = json.loads(CliRunner().invoke(cli, ["data", "imports", "--json"]).stdout)["data"][0]
    assert (made["status"], made["budget"]["max_usd"], made["source"]["domain"]) == ("cancelled", 2.0, "bees")
    raw = http.get(f"/v1/files/{made['file']}/content").content
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.namelist() == ["deep/a.md"]
    again = {"source": made["source"], "file": made["file"]}
    waiting = http.post("/v1/imports", json=again)
    assert (waiting.status_code, waiting.headers["location"]) == (201, f"/v1/imports/{waiting.json()['id']}")
    check(http.delete(f"/v1/files/{made['file']}"), 409, "file_in_use", None)
    url = f"/v1/imports/{waiting.json()['id']}"
    assert http.patch(url, json={"budget": {"max_calls": 5}}).json()["budget"]["max_calls"] == 5
    check(http.post(f"{url}/resume"), 409, "job_queued", None)
    assert http.post(f"{url}/cancel").json()["status"] == "cancelled"
    assert http.delete(f"/v1/files/{made['file']}").status_code == 200
