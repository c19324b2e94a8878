"""/v1/labels as clients see it."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.contract.conftest import KEY, RunningApi
from tests.contract.test_bad_input import check

LABELS = "/v1/labels"


def rows(prefix: str, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{prefix} {n}?", "first": "a", "second": "b", "preferred": ("first", "second", "tie")[n % 3]}
        for n in range(count)
    ]


def total(http: httpx.Client) -> int:
    count, after = 0, ""
    while True:
        page = http.get(f"{LABELS}?limit=100{after}").json()
        count += len(page["data"])
        if not page["has_more"]:
            return count
        after = f"&after={page['last_id']}"


def test_labels_are_added_once_and_listed(http: httpx.Client):
    before = total(http)
    answer = http.post(LABELS, json={"labels": rows("listed", 5)})
    assert answer.status_code == 201
    assert answer.json() == {"object": "label.batch", "added": 5, "known": 0, "total": before + 5}
    again = http.post(LABELS, json={"labels": rows("listed", 6)})
    assert again.json() == {"object": "label.batch", "added": 1, "known": 5, "total": before + 6}
    page = http.get(f"{LABELS}?limit=2").json()
    assert set(page) == {"object", "data", "first_id", "last_id", "has_more"}
    assert page["has_more"] is True
    assert [row["question"] for row in page["data"]] == ["listed 5?", "listed 4?"]
    assert set(page["data"][0]) == {
        "id", "object", "created_at", "question", "first", "second", "preferred", "reference"
    }  # fmt: skip
    rest = http.get(f"{LABELS}?limit=2&after={page['last_id']}").json()
    assert [row["question"] for row in rest["data"]] == ["listed 3?", "listed 2?"]


def test_the_openai_client_posts_them(client: openai.OpenAI):
    answer: Any = client.post("/labels", cast_to=object, body={"labels": rows("by the client", 2)})
    assert answer["added"] == 2


def test_every_bad_row_is_named_and_none_is_taken(http: httpx.Client):
    before = total(http)
    bad = rows("bad", 4)
    bad[1]["preferred"] = "left"
    del bad[3]["second"]
    message = check(http.post(LABELS, json={"labels": bad}), 400, "invalid_row", "labels.1.preferred")
    assert "2 of 4 rows are invalid, so none was stored" in message
    assert "row 2: preferred: Input should be 'first', 'second' or 'tie'" in message
    assert "row 4: second: Field required" in message
    same = rows("bad", 1)[0] | {"second": "a"}
    check(http.post(LABELS, json={"labels": [same]}), 400, "invalid_row", "labels.0")
    assert total(http) == before


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "labels"),
        ({"labels": []}, "invalid_value", "labels"),
        ({"labels": rows("many", 501)}, "invalid_value", "labels"),
        ({"labels": ["text"]}, "invalid_value", "labels.0"),
        ({"labels": rows("more", 1), "project": "x"}, "unknown_parameter", "project"),
    ],
)
def test_a_bad_body_is_refused(http: httpx.Client, body, code: str, param: str):
    check(http.post(LABELS, json=body), 400, code, param)


def test_an_unknown_cursor_and_a_missing_key(http: httpx.Client, api: RunningApi):
    check(http.get(f"{LABELS}?after=label-none"), 400, "unknown_cursor", "after")
    check(httpx.get(f"{api.url}{LABELS}", trust_env=False), 401, "invalid_api_key", None)


@pytest.fixture
def meteor(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    return CliRunner()


def test_the_command_adds_and_lists(meteor: CliRunner, http: httpx.Client, tmp_path: Path):
    before = total(http)
    path = tmp_path / "labels.jsonl"
    line = '{"question": "by the command?", "first": "a", "second": "%s", "preferred": "tie"}\n'
    path.write_text(line % "b" + line % "c")
    added = meteor.invoke(cli, ["labels", "add", str(path)], catch_exceptions=False)
    assert f"2 labels added, 0 were known; {before + 2} in all" in added.output
    shown = meteor.invoke(cli, ["labels", "list", "--limit", "1"], catch_exceptions=False)
    assert "by the command?" in shown.output
    assert "more: meteor labels list --after label-" in shown.output


def test_a_label_is_taken_back_by_api_and_command(http: httpx.Client, meteor: CliRunner):
    http.post(LABELS, json={"labels": rows("wrong", 2)})
    last, first = (row["id"] for row in http.get(f"{LABELS}?limit=2").json()["data"])
    left = total(http) - 2
    assert http.delete(f"{LABELS}/{first}").json() == {"id": first, "object": "label", "deleted": True}
    check(http.delete(f"{LABELS}/{first}"), 404, "label_not_found", "label_id")
    assert f"{last} deleted" in meteor.invoke(cli, ["labels", "delete", last], catch_exceptions=False).output
    assert total(http) == left
