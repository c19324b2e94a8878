"""Exports over HTTP and from a terminal: objects, lists, ranges, and downloads that break off."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.cli.client import ApiClient, Refused
from services.cli.commands import exports as exports_cli
from services.cli.downloads import download
from services.meteor.main import cli
from shared.contracts.errors import FatalError
from shared.contracts.exports import ExportFile
from shared.contracts.jobs import JobKind
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import KEY, RunningApi, rows
from tests.contract.everything import PARITY, adapter_version, end_export, job_on
from tests.fakes.ports import wait_until


@pytest.fixture
def version(api: RunningApi, client: openai.OpenAI, http: httpx.Client, tmp_path: Path) -> str:
    """A version whose adapter is there as an artifact."""
    file = client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune").id
    job = http.post("/v1/distillation/jobs", json=job_on(file)).json()["id"]
    http.post(f"/v1/distillation/jobs/{job}/cancel")
    return adapter_version(api, DEFAULT_PROJECT, job, "taken-away", tmp_path / "adapter")


@pytest.fixture
def finished(api: RunningApi, http: httpx.Client, version: str) -> dict[str, Any]:
    made = http.post(f"/v1/models/{version.replace('@', '%40')}/export", json={"formats": ["adapter"]})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/v1/exports/{made.json()['id']}"
    assert (made.json()["object"], made.json()["status"], made.json()["result"]) == ("model.export", "queued", None)
    end_export(api, made.json()["id"])
    return http.get(made.headers["location"]).json()


def test_an_export_is_listed_read_and_cancelled_and_no_distillation(api: RunningApi, http: httpx.Client, version: str):
    first, second = (
        http.post(f"/v1/models/{version}/export", json={"formats": ["merged", "adapter"]}).json() for _ in range(2)
    )
    assert (first["model"], first["formats"]) == (version, ["merged", "adapter"])
    page = http.get("/v1/exports", params={"limit": 1}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([second["id"]], True)
    after = http.get("/v1/exports", params={"limit": 1, "after": second["id"]}).json()
    assert after["data"][0]["id"] == first["id"]
    for made in (first, second):
        assert http.post(f"/v1/exports/{made['id']}/cancel").json()["status"] == "cancelled"
    again = http.post(f"/v1/exports/{first['id']}/cancel")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    assert http.get(f"/v1/distillation/jobs/{first['id']}").status_code == 404
    listed = http.get("/v1/fine_tuning/jobs", params={"limit": 100}).json()["data"]
    assert first["id"] not in [job["id"] for job in listed]
    content = http.get(f"/v1/exports/{first['id']}/content/manifest.json")
    assert (content.status_code, content.json()["error"]["code"]) == (404, "export_not_ready")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "formats"),
        ({"formats": []}, "formats"),
        ({"formats": ["onnx"]}, "formats.0"),
        ({"formats": ["adapter", "adapter"]}, "formats"),
        ({"formats": ["adapter"], "push": {"repo": "../etc"}}, "push.repo"),
    ],
)
def test_bad_wishes_are_told_where(http: httpx.Client, version: str, body: dict, param: str):
    answer = http.post(f"/v1/models/{version}/export", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_ranges(http: httpx.Client, finished: dict[str, Any]):
    file = next(one for one in finished["result"] if one["name"] == "adapter.tar")
    whole = http.get(file["url"])
    assert hashlib.sha256(whole.content).hexdigest() == file["sha256"]
    assert whole.headers["etag"] == f'"{file["sha256"]}"'
    size = len(whole.content)
    part = http.get(file["url"], headers={"range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, whole.content[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{size}"
    last = http.get(file["url"], headers={"range": "bytes=-10", "if-range": whole.headers["etag"]})
    assert (last.status_code, last.content) == (206, whole.content[-10:])
    stale = http.get(file["url"], headers={"range": "bytes=-10", "if-range": '"another"'})
    assert (stale.status_code, stale.content) == (200, whole.content)
    beyond = http.get(file["url"], headers={"range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    for name in ("..%2f..%2fmeteor.sqlite3", "merged.tar"):
        missing = http.get(f"/v1/exports/{finished['id']}/content/{name}")
        assert missing.status_code == 404
    manifest = http.get(f"/v1/exports/{finished['id']}/content/manifest.json")
    assert (manifest.headers["content-type"], manifest.json()) == ("application/json", {"parity": PARITY})


def test_the_command_fetches_checks_and_unpacks(
    api: RunningApi, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exports_cli, "LOOK_S", 0.05)

    def orchestrate() -> None:
        page = api.stores.jobs.page
        wait_until(
            lambda: any(r.status == "queued" for r in page(DEFAULT_PROJECT, None, 1, kind=JobKind.EXPORT)[0]), 20, "it"
        )
        end_export(api, page(DEFAULT_PROJECT, None, 1, kind=JobKind.EXPORT)[0][0].id)

    worker = threading.Thread(target=orchestrate)
    worker.start()
    there = {"METEOR_API_URL": api.url, "METEOR_API_KEY": KEY, "COLUMNS": "300"}
    argv = ["models", "export", version, "--format", "adapter", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, argv, env=there, catch_exceptions=False)
    worker.join()
    assert done.exit_code == 0, done.output
    assert "agree on 75%" in done.output
    folder = tmp_path / "out" / "taken-away-1-adapter"
    assert str(folder) in done.output
    assert json.loads((folder / "manifest.json").read_text()) == {"parity": PARITY}
    assert (folder / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 200
    assert list((tmp_path / "out").iterdir()) == [folder], "nothing is left of the archive"


def test_a_download_goes_on_where_it_broke_off_and_a_spoiled_one_is_thrown_away(
    http: httpx.Client, finished: dict[str, Any], tmp_path: Path
):
    file = ExportFile.model_validate(finished["result"][-1])
    content = http.get(file.url).content
    part = tmp_path / f".{file.sha256[:16]}-adapter.tar.part"
    part.write_bytes(content[:5000])
    assert download(ApiClient(http), file, tmp_path).read_bytes() == content
    part.write_bytes(b"x" * 5000)
    with pytest.raises(FatalError, match="SHA-256"):
        download(ApiClient(http), file, tmp_path)
    assert not part.exists()
    with pytest.raises(Refused, match="404"):
        download(ApiClient(http), file.model_copy(update={"url": file.url + "x"}), tmp_path)
