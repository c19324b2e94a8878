"""A file of its own for validation: its rows are dev, and nothing in it is learned from or reported."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.contract.conftest import BASE, KEY, RunningApi, rows


def upload(client: openai.OpenAI, content: bytes, purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("rows.jsonl", content), purpose=purpose).id


@pytest.fixture
def files(client: openai.OpenAI) -> tuple[str, str]:
    return upload(client, rows(60)), upload(client, rows(7, start=1000))


@pytest.fixture
def job(client: openai.OpenAI, files: tuple[str, str]) -> Any:
    made = client.fine_tuning.jobs.create(model=BASE, training_file=files[0], validation_file=files[1])
    yield made
    if client.fine_tuning.jobs.retrieve(made.id).status != "cancelled":
        client.fine_tuning.jobs.cancel(made.id)


def examples(http: httpx.Client, job: str, **query: Any) -> list[dict[str, Any]]:
    return http.get(f"/v1/fine_tuning/jobs/{job}/examples", params={"limit": 100} | query).json()["data"]


def test_its_rows_are_dev_and_the_other_files_dev_rows_are_learned_from(
    http: httpx.Client, files: tuple[str, str], job: Any
):
    assert job.validation_file == files[1]
    split = http.get(f"/v1/files/{files[0]}").json()["splits"]
    assert split["dev"] > 0
    counts = Counter(row["split"] for row in examples(http, job.id))
    assert counts == {"train": split["train"] + split["dev"], "dev": 7, "test": split["test"]}
    dev = examples(http, job.id, split="dev")
    assert [row["id"] for row in dev] == [f"validation-row-{n}" for n in range(1, 8)]
    assert dev[0]["question"] == "What is 1000 plus 1000?"


def test_the_job_is_read_back_posted_again_and_forked_with_it(http: httpx.Client, files: tuple[str, str], job: Any):
    for route in ("distillation", "fine_tuning"):
        shown = http.get(f"/v1/{route}/jobs/{job.id}").json()
        again = http.post(f"/v1/{route}/jobs", json=shown)
        assert (again.status_code, again.json()["validation_file"]) == (201, files[1])
        http.post(f"/v1/{route}/jobs/{again.json()['id']}/cancel")
    fork = http.post(f"/v1/fine_tuning/jobs/{job.id}/fork", json={"changes": {"seed": 5}}).json()
    assert fork["validation_file"] == files[1]
    without = http.post(f"/v1/fine_tuning/jobs/{job.id}/fork", json={"changes": {"validation_file": None}}).json()
    assert without["validation_file"] is None
    for made in (fork, without):
        http.post(f"/v1/fine_tuning/jobs/{made['id']}/cancel")


def test_it_stays_while_a_job_needs_it(client: openai.OpenAI, files: tuple[str, str], job: Any):
    for file in files:
        with pytest.raises(openai.ConflictError, match=job.id):
            client.files.delete(file)
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(files[1]).deleted


@pytest.mark.parametrize(
    ("content", "purpose", "code", "says"),
    [
        (None, None, "file_not_found", "file-nobody"),
        (rows(9, start=1000), "user_data", "invalid_file_format", "import"),
        (b"{}\n", "fine-tune", "invalid_file_format", "bad line"),
        (rows(1, start=1000), "fine-tune", "too_few_rows", "dev 1"),
        (rows(9, start=58), "fine-tune", "rows_in_both_files", r"2 rows of the validation file \(row-1, row-2\)"),
    ],
)
def test_what_cannot_be_used_is_told(
    client: openai.OpenAI, files: tuple[str, str], content: bytes | None, purpose: Any, code: str, says: str
):
    file = "file-nobody" if content is None else upload(client, content, purpose)
    spec = {"distillation": {"domain": "sums"}}
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        client.fine_tuning.jobs.create(model=BASE, training_file=files[0], validation_file=file, extra_body=spec)
    assert (caught.value.code, caught.value.param) == (code, "validation_file")


def test_near_twins_in_it_are_told_when_a_job_is_checked(client: openai.OpenAI, http: httpx.Client):
    lines = [
        {"question": f"How is the {name} of a bee hive built and kept warm in winter?", "reference": name}
        for name in "abcdefghijkl"
    ]
    mine, others = (
        upload(
            client, "".join(json.dumps(line | {"question": line["question"] + more}) + "\n" for line in lines).encode()
        )
        for more in ("", " Tell")
    )
    body = {"model": BASE, "training_file": mine, "validation_file": others, "distillation": {"domain": "bees"}}
    told = http.post("/v1/distillation/jobs/check", json=body).json()
    (warning,) = [item for item in told["warnings"] if item["code"] == "rows_alike_in_both_files"]
    assert warning["param"] == "validation_file"
    assert "nearly the question" in warning["message"]


def test_plain_training_needs_answers_in_it_too(client: openai.OpenAI, files: tuple[str, str]):
    bare = upload(client, b"".join(b'{"question": "Why %d?"}\n' % n for n in range(9)))
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model=BASE, training_file=files[0], validation_file=bare)
    assert (caught.value.code, caught.value.param) == ("no_references", "training_file")


def test_from_a_terminal(api: RunningApi, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    for name, content in (("rows", rows(60)), ("other", rows(5, start=1000))):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "job").write_text(json.dumps({"model": BASE, "distillation": {"domain": "sums"}}))
    given = [str(tmp_path / "job"), "--rows", str(tmp_path / "rows"), "--validation", str(tmp_path / "other")]
    job = CliRunner().invoke(cli, ["jobs", "create", *given], catch_exceptions=False).output.strip()
    assert len(examples(http, job, split="dev")) == 5
    http.post(f"/v1/fine_tuning/jobs/{job}/cancel")


def test_another_projects_file_is_none(client: openai.OpenAI, http: httpx.Client, files: tuple[str, str]):
    project = http.post("/v1/projects", json={"name": "other"}).json()["id"]
    key = http.post("/v1/keys", json={"name": "k", "project": project, "scopes": ["jobs", "files"]}).json()["key"]
    theirs = client.with_options(api_key=key)
    mine = upload(theirs, rows(60))
    refusals = []
    for file in (files[1], "file-nobody"):
        with pytest.raises(openai.BadRequestError) as caught:
            theirs.fine_tuning.jobs.create(model=BASE, training_file=mine, validation_file=file)
        refusals.append(caught.value.message.replace(file, ""))
    assert refusals[0] == refusals[1]
