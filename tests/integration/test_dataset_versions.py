"""A dataset that grows and is corrected: each version is a file, its rows stay in their splits, and what differs can be read."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.context import ProjectContext
from services.api.features.files import service as files
from services.api.settings import ApiSettings
from shared.artifacts.store import ArtifactMissing
from shared.datasets.files import JobData, rows_of
from shared.datasets.rows import StoredRows
from shared.platform.settings import PlatformSettings

ROWS = [
    {"id": f"r{n}", "question": f"What does tool {n} do to a {n * 7} file?", "reference": f"answer {n}"}
    for n in range(60)
]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("versions")
    app = create_app(ApiSettings(gateway_url="http://127.0.0.1:1"), PlatformSettings(data=data))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        yield client


def context_of(http: TestClient) -> ProjectContext:
    assert isinstance(http.app, FastAPI)
    return http.app.state.context.of_project()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def upload(http: TestClient, rows: list[dict[str, Any]], purpose: str = "fine-tune") -> str:
    answer = http.post("/v1/files", files={"file": ("rows.jsonl", lines(rows))}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def stored(http: TestClient, file_id: str) -> StoredRows:
    context = context_of(http)
    return rows_of(context.file(file_id), context.artifacts, context.stores.catalog)


def version(http: TestClient, file_id: str, **change: Any) -> dict[str, Any]:
    answer = http.post(f"/v1/files/{file_id}/versions", json=change)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def first(http: TestClient) -> str:
    return upload(http, ROWS)


def test_rows_stay_in_their_splits_as_a_dataset_grows(http: TestClient, first: str):
    before = {row.id: row for row in stored(http, first)}
    twin = next(row for row in before.values() if row.split == "test")
    new = [{"question": f"Which colour has item {n} of list {n * 3}?", "reference": f"colour {n}"} for n in range(40)]
    made = version(http, first, append=[*new, {"question": twin.question.upper() + "!", "reference": "x y"}])
    assert (made["dataset"], made["version"], made["previous"], made["n_rows"]) == (first, 2, first, 101)
    after = {row.id: row for row in stored(http, made["id"])}
    assert {name: after[name] for name in before} == before
    assert after["row-41"].split == "test", "a twin stands with the question that it repeats"
    again = version(http, made["id"], append_file=upload(http, [*new[:1], {"question": "Anything else?"}], "user_data"))
    assert (again["version"], again["dataset"], again["n_rows"]) == (3, first, 103)
    ids = [row.id for row in stored(http, again["id"])]
    assert len(set(ids)) == len(ids), "numbers that the reader gives are given anew"
    assert {row.id: row.split for row in stored(http, again["id"]) if row.id in after} == {
        name: row.split for name, row in after.items()
    }


def test_what_differs_is_counted_and_listed(http: TestClient, first: str):
    change = {
        "append": [{"id": "new", "question": "A new one?", "reference": "yes it is"}],
        "edit": [{"id": "r5", "reference": "better"}, {"id": "r3", "category": "tools", "reference": None}],
        "remove": ["r9", "r0"],
    }
    made = version(http, first, **change)
    diff = http.get(f"/v1/files/{made['id']}/diff").json()
    assert {name: diff[name] for name in ("removed", "changed", "added", "unchanged", "against")} == {
        "removed": 2, "changed": 2, "added": 1, "unchanged": 56, "against": first,
    }  # fmt: skip
    assert [(row["change"], row["id"]) for row in diff["data"]] == [
        ("removed", "r0"), ("removed", "r9"), ("changed", "r3"), ("changed", "r5"), ("added", "new"),
    ]  # fmt: skip
    assert (diff["data"][3]["before"]["reference"], diff["data"][3]["after"]["reference"]) == ("answer 5", "better")
    pages, after = [], None
    while True:
        page = http.get(
            f"/v1/files/{made['id']}/diff", params={"limit": 2} | ({"after": after} if after else {})
        ).json()
        pages += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert pages == diff["data"]
    back = http.get(f"/v1/files/{first}/diff", params={"against": made["id"]}).json()
    assert (back["removed"], back["changed"], back["added"]) == (1, 2, 2)


def test_a_conversation_is_corrected_and_stays_one(http: TestClient):
    turns = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which tool lists files?"},
        {"role": "assistant", "content": "ls"}, {"role": "user", "content": "And hidden ones?"},
    ]  # fmt: skip
    talk = {"id": "talk", "messages": [*turns, {"role": "assistant", "content": "ls -a"}]}
    made = version(http, upload(http, [*ROWS[:20], talk]), edit=[{"id": "talk", "reference": "ls -A"}])
    row = next(row for row in stored(http, made["id"]) if row.id == "talk")
    assert (row.reference, row.messages) == ("ls -A", turns)
    copy = upload(http, [json.loads(line) for line in http.get(f"/v1/files/{made['id']}/content").text.splitlines()])
    assert [*stored(http, copy)] == [*stored(http, made["id"])]


def test_a_version_is_a_file_like_any_other(http: TestClient, first: str):
    made = version(http, first, remove=["r1"])
    content = http.get(f"/v1/files/{made['id']}/content").text.splitlines()
    assert len(content) == made["n_rows"] == 59
    assert http.post(f"/v1/files/{made['id']}/validate").json()["valid"]
    copy = upload(http, [json.loads(line) for line in content])
    assert {row.id: row.split for row in stored(http, copy)} == {row.id: row.split for row in stored(http, made["id"])}
    listed = http.get(f"/v1/files/{first}/versions").json()["data"]
    numbers = [file["version"] for file in listed]
    assert numbers == sorted(numbers, reverse=True)
    assert {first, made["id"]} <= {file["id"] for file in listed}
    assert http.delete(f"/v1/files/{made['id']}").status_code == 200
    assert made["id"] not in {file["id"] for file in http.get(f"/v1/files/{first}/versions").json()["data"]}
    assert version(http, first, remove=["r1"])["version"] > made["version"] or made["version"] > 2


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({}, None, "name some"),
        ({"remove": ["r1", "nobody"]}, "row_not_found", "'nobody'"),
        ({"edit": [{"id": "nobody", "reference": "x"}]}, "row_not_found", "'nobody'"),
        ({"edit": [{"reference": "x"}]}, "invalid_value", "edit.0"),
        ({"edit": [{"id": "r1", "question": " "}]}, "invalid_row", "question"),
        ({"edit": [{"id": "r1", "split": "test"}]}, "invalid_value", "stays in its split"),
        ({"edit": [{"id": "r1", "reference": "x"}], "remove": ["r1"]}, "invalid_value", "edited and removed"),
        ({"append": [{"id": "r1", "question": "again"}]}, "duplicate_id", "'r1'"),
        ({"append": [{"question": "fine"}, {"question": 7, "messages": 3}]}, "invalid_row", "append.1"),
        ({"append_file": "file-none"}, "file_not_found", "file-none"),
        ({"remove": [row["id"] for row in ROWS]}, "empty_file", "no row is left"),
    ],
)
def test_a_bad_change_says_what_is_wrong(http: TestClient, first: str, change: dict, code: str | None, words: str):
    answer = http.post(f"/v1/files/{first}/versions", json=change)
    assert answer.status_code in (400, 404, 422), answer.text
    error = answer.json()["error"]
    assert words in error["message"]
    assert code in (None, error["code"])


def test_a_long_file_is_read_in_a_process_of_its_own(http: TestClient, monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []
    aside = files.aside
    monkeypatch.setattr(files, "SHORT", 1000)
    monkeypatch.setattr(files, "aside", lambda work, *args: begun.append(work.__name__) or aside(work, *args))
    rows = [{"question": f"Is {n} odd?", "reference": "yes" if n % 2 else "no"} for n in range(60)]
    file_id = upload(http, rows)
    assert http.get(f"/v1/files/{file_id}").json()["n_rows"] == 60
    bad = http.post("/v1/files", files={"file": ("a", b"x" * 2000)}, data={"purpose": "fine-tune"})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_file_format"), bad.text
    assert begun == ["stored", "stored"]


def test_rows_from_before_there_were_columns_get_them(http: TestClient, first: str):
    context = context_of(http)
    rows = [*stored(http, first)]
    old = context.artifacts.put_json([row.model_dump(mode="json") for row in rows])
    record = context.stores.catalog.add_file(
        context.project, sha256="0" * 64, bytes=1, filename="old", purpose="fine-tune", status="processed", errors=[],
        n_rows=60, splits={}, rows_ref=old,
    )  # fmt: skip
    held = context.job_rows(JobData(record))
    assert [*held] == rows
    assert [row.id for row in held.read([59, 0, 1, 30])] == ["r59", "r0", "r1", "r30"]
    assert context.file(record.id).columns_ref is not None
    path = context.artifacts.file(old)
    path.write_bytes(path.read_bytes().replace(b"answer 30", b"answer 3X"))
    with pytest.raises(ArtifactMissing, match="changed on disk"):
        _ = [*held]
    assert next(held.read([0])) == rows[0]


def test_a_masked_dataset_stays_masked_as_it_grows(http: TestClient):
    content = lines([row | {"reference": "ask bob@example.com"} for row in ROWS])
    made = http.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "fine-tune", "mask": "true"})
    assert made.json()["reading"]["masked"] == {"email": 60}
    grown = version(http, made.json()["id"], append=[{"question": "Who is new?", "reference": "eve@example.com"}])
    assert (grown["reading"]["mask"], grown["reading"]["masked"]) == (True, {"email": 61})
    references = {row.reference for row in stored(http, grown["id"])}
    assert references == {"ask [EMAIL]", "[EMAIL]"}
    assert b"@example.com" not in http.get(f"/v1/files/{grown['id']}/content").content
