"""From use to data, through the public API alone: chats with feedback become a dataset that a job takes, and a person is forgotten.

API, orchestrator and gateway are real processes; engine and teacher are fakes.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, BASE, KEY, TOKEN, RunningApi, api_environment, publish_version, running_api
from tests.contract.test_bad_input import check
from tests.fakes.gateway import running_gateway
from tests.fakes.ports import wait_until
from tests.fakes.start import start_teacher
from tests.fakes.vllm import FakeVllm

WORDS = [
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island", "jungle", "kettle", "ladder",
    "mirror", "needle", "orange",
]  # fmt: skip


class Use(NamedTuple):
    api: RunningApi
    http: httpx.Client
    client: openai.OpenAI


@pytest.fixture(scope="module")
def use(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm, _valkey_server: str) -> Iterator[Use]:
    folder: Path = tmp_path_factory.mktemp("use")
    settings = {"METEOR_API_ENGINE_URL": engine.url, "REDIS_URL": _valkey_server, "METEOR_KEY_PREFIX": "use:"}
    with contextlib.ExitStack() as stack:
        teacher = stack.enter_context(start_teacher())
        gateway = stack.enter_context(running_gateway(teacher, folder, METEOR_INTERNAL_TOKEN=TOKEN))
        api = stack.enter_context(running_api(folder / "api", METEOR_API_GATEWAY_URL=gateway.url, **settings))
        environment = api_environment(folder / "api", 0, **settings)
        orchestrator = subprocess.Popen([sys.executable, "-m", "services.orchestrator"], env=environment)
        stack.callback(orchestrator.wait, 20)
        stack.callback(orchestrator.terminate)
        headers = {"authorization": f"Bearer {KEY}"}
        http = stack.enter_context(httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False))
        client = stack.enter_context(openai.OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0))
        api.stores.catalog.serve(DEFAULT_PROJECT, publish_version(api, "helper", ADAPTER))
        yield Use(api, http, client)


@pytest.fixture(scope="module")
def chats(use: Use) -> list[str]:
    """60 different questions of five users, a third of them streamed, and the first one asked again by another user."""
    ids = [chat(use, n, f"user-{n % 5}", stream=n % 3 == 0) for n in range(60)]
    for n in range(0, 60, 2):
        say(use, ids[n], rating="down", correction=f"The {WORDS[n % 15]} is number {n}.")
    for n in range(1, 20, 2):
        say(use, ids[n], rating="up", author="somebody")
    say(use, ids[21], rating="down", comment="no")
    return [*ids, chat(use, 0, "user-1")]


def chat(use: Use, number: int, user: str, stream: bool = False) -> str:
    text = f"Where does the {WORDS[number % 15]} stand in row {number} of the {WORDS[number // 4]} list?"
    asked: Any = {"model": "helper", "messages": [{"role": "user", "content": text}], "store": True, "user": user}
    asked |= {"metadata": {"page": "help" if number % 2 else "start"}}
    if stream:
        return next(iter({part.id for part in use.client.chat.completions.create(**asked, stream=True)}))
    return use.client.chat.completions.create(**asked).id


def say(use: Use, completion: str, **said: Any) -> None:
    answer = use.http.post("/v1/feedback", json={"completion_id": completion} | said)
    assert answer.status_code == 201, answer.text


def imported(use: Use, mask: bool = False, **source: Any) -> dict[str, Any]:
    body = {"source": {"type": "completions"} | source, "mask": mask}
    assert use.http.post("/v1/imports/estimate", json=body).json()["strong_model"]["calls"]["high"] == 0
    made = use.http.post("/v1/imports", json=body)
    assert made.status_code == 201, made.text
    path = made.headers["location"]

    def ended() -> bool:
        return use.http.get(path).json()["status"] in ("succeeded", "failed")

    wait_until(ended, 120, "the import")
    return use.http.get(path).json()


def rows_of(use: Use, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in use.http.get(f"/v1/files/{file}/content").text.splitlines()]


def test_chats_with_feedback_become_a_dataset_that_a_job_takes(use: Use, chats: list[str]):
    done = imported(use, model="helper@1", approved=True)
    assert done["status"] == "succeeded", done["error"]
    result = done["result"]
    assert result["left_out"] == {"chats that ask the same as another one": 1}
    rows = {row["id"]: row for row in rows_of(use, result["file"])}
    assert sorted(rows) == sorted(chats[:60]), "the corrected one of the two that ask the same"
    assert rows[chats[2]]["reference"] == "The candle is number 2."
    assert rows[chats[2]]["rejected"] == rows[chats[2]]["question"], "the fake engine echoes"
    assert rows[chats[1]]["reference"] == rows[chats[1]]["question"], "approved"
    assert [key for key in ("reference", "rejected") if key in rows[chats[21]]] == []
    assert rows[chats[0]]["source"] == "answered by helper@1"
    file = use.http.get(f"/v1/files/{result['file']}").json()
    assert (file["status"], file["purpose"], file["n_rows"], file["filename"]) == (
        "processed", "fine-tune", 60, "chats of helper@1.jsonl"
    )  # fmt: skip
    assert file["reading"]["references"] == result["references"] == 40
    assert file["reading"]["left"] == {}, "nothing in dev or test that train has too"
    job = {"model": BASE, "training_file": result["file"], "distillation": {"domain": "lists"}}
    checked = use.http.post("/v1/distillation/jobs/check", json=job).json()
    assert (checked["ok"], checked["errors"]) == (True, [])
    assert checked["estimate"]["total"]["calls"]["high"] > 0, "the teacher answers what has no reference"


def test_filters_choose_and_what_is_left_out_is_counted(use: Use, chats: list[str]):
    corrected = imported(use, feedback=["corrected"], limit=10)["result"]
    assert corrected["rows"] == corrected["references"] == 10
    assert corrected["left_out"] == {
        "chats before the newest ones that the limit allows": 20, "feedback of another kind": 31
    }  # fmt: skip
    assert {row["id"] for row in rows_of(use, corrected["file"])} == {chats[n] for n in range(40, 60, 2)}
    help_page = imported(use, metadata={"page": "help"}, feedback=["none"])["result"]
    assert help_page["rows"] == 19, "30 of the page less ten thumbs up and one down"
    nothing = imported(use, model="nobody")
    assert nothing["status"] == "failed"
    assert nothing["error"]["code"] == "nothing_to_import"
    past = imported(use, until=1)
    assert past["status"] == "failed"


def test_personal_data_is_masked_in_the_rows_if_that_is_asked(use: Use, chats: list[str]):
    asked: Any = [{"role": "user", "content": "Write to ann@example.org, please."}]
    made = use.client.chat.completions.create(model="helper", messages=asked, store=True, metadata={"page": "mail"})
    result = imported(use, mask=True, metadata={"page": "mail"})["result"]
    (row,) = rows_of(use, result["file"])
    assert (row["id"], row["question"], result["masked"]) == (made.id, "Write to [EMAIL], please.", {"email": 1})
    use.client.chat.completions.delete(made.id)


@pytest.mark.parametrize(
    ("source", "param"),
    [
        ({"feedback": ["left"]}, "source.feedback.0"),
        ({"since": 5, "until": 5}, "source"),
        ({"limit": 0}, "source.limit"),
        ({"models": "x"}, "source.models"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(use: Use, source: dict[str, Any], param: str):
    answer = use.http.post("/v1/imports", json={"source": {"type": "completions"} | source})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").replace(".completions", "") == param
    check(
        use.http.post("/v1/imports", json={"source": {"type": "completions"}, "file": "file-1"}),
        400,
        "invalid_value",
        "file",
    )


def test_the_commands_do_the_same(use: Use, chats: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("METEOR_URL", use.api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)

    def run(*line: str) -> str:
        result = CliRunner().invoke(cli, list(line), env={"COLUMNS": "200"}, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    listed = run("completions", "list", "--model", "helper@1", "--metadata", "page=help", "--limit", "2")
    assert chats[59] in listed
    assert "more: meteor completions list --model helper@1 --metadata page=help --after chatcmpl-" in listed
    shown = run("completions", "show", chats[1])
    assert "helper@1" in shown
    assert "user: Where does the bridge stand" in shown
    assert json.loads(run("completions", "show", chats[1], "--json"))["id"] == chats[1]
    assert "page=shop" in run("completions", "set", chats[59], "page=shop")
    added = run("feedback", "add", chats[59], "--down", "--correction", "There.", "--author", "me").strip()
    assert chats[59] in run("feedback", "list", "--completion", chats[59], "--rating", "down", "--model", "helper")
    assert '"correction": "There."' in run("feedback", "show", added)
    assert f"{added} deleted" in run("feedback", "delete", added)
    out = tmp_path / "rows.jsonl"
    told = run(
        "completions", "dataset", "--model", "helper", "--feedback", "corrected", "--since", "2020-01-01", "--limit", "9",
        "--out", str(out),
    )  # fmt: skip
    assert "9 rows, 9 with a reference" in told
    assert len(out.read_text().splitlines()) == 9
    assert "5 % of the chats with helper are stored, masked" in run("capture", "set", "helper", "5", "--mask")
    assert "5 %" in run("capture", "show", "helper")
    run("capture", "end", "helper")
    assert "stored chats" in run("completions", "forget", "--user", "user-4", "--dry-run")


def test_a_person_is_forgotten_and_what_learned_from_them_is_named(use: Use, chats: list[str]):
    mine = [chats[n] for n in range(3, 60, 5)]
    file = imported(use, feedback=["corrected"])["result"]["file"]
    held = sorted(row["id"] for row in rows_of(use, file) if row["id"] in mine)
    assert held
    say(use, chats[4], rating="down", author="user-3")
    for dry_run in (True, False):
        told = use.http.post("/v1/forget", json={"user": "user-3", "dry_run": dry_run}).json()
        assert (told["dry_run"], told["completions"], told["models"], told["retrain"]) == (dry_run, 12, [], [])
        assert sorted(told["rows"]) == sorted(mine)
        by_file = {one["file"]: one for one in told["datasets"]}
        assert sorted(by_file[file]["rows"]) == held
    assert told["feedback"] >= len(held) + 1
    left = list(use.client.chat.completions.list(limit=100))
    assert not {one.id for one in left} & set(mine)
    assert {getattr(one, "input_user", None) for one in left} == {"user-0", "user-1", "user-2", "user-4"}
    call = by_file[file]["remove"]
    made = use.http.post(call["path"], json=call["body"])
    assert made.status_code == 201, made.text
    assert not {row["id"] for row in rows_of(use, made.json()["id"])} & set(mine)
    again = use.http.post("/v1/forget", json={"user": "user-3"}).json()
    assert (again["completions"], again["feedback"], again["rows"], again["datasets"]) == (0, 0, [], [])
    by_row = use.http.post("/v1/forget", json={"completions": held[:1], "dry_run": True}).json()
    assert file in [one["file"] for one in by_row["datasets"]], "their ids still find them"
    check(
        use.http.post("/v1/forget", json={"completions": [held[0], "nobody"]}), 404, "nothing_to_forget", "completions"
    )
    check(use.http.post("/v1/forget", json={"file": file, "rows": ["nobody"]}), 404, "nothing_to_forget", "rows")
    check(use.http.post("/v1/forget", json={}), 400, "invalid_value", None)
