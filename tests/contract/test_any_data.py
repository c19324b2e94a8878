"""Data files through the public door: upload with a mapping, preview, and the two commands from a table to a dataset."""

import json
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.contract.conftest import KEY, RunningApi
from tests.contract.test_bad_input import check

GERMAN = "Thema;Frage;Antwort\n" + "".join(
    f'{"Küche" if n % 2 else "Straße"};"Was heißt Nummer {n}, bitte?";Größe {n}\n' for n in range(30)
)
GERMAN_BYTES = GERMAN.encode("cp1252")


def test_a_german_table_becomes_a_dataset(http: httpx.Client):
    answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("fragen.csv", GERMAN_BYTES)}).json()
    assert (answer["status"], answer["n_rows"], sum(answer["splits"].values())) == ("processed", 30, 30)
    reading = answer["reading"]
    assert (reading["format"], reading["references"]) == ('CSV, separated by ";", cp1252', 30)
    assert reading["shapes"] == {"Frage and Antwort": 30}
    assert reading["ignored_fields"] == {"Thema": 30}
    assert http.get(f"/v1/files/{answer['id']}").json()["reading"] == reading
    shown = http.post(
        f"/v1/files/{answer['id']}/preview",
        json={"mapping": {"question": "Frage", "category": "Thema", "reference": ""}},
    ).json()
    assert shown["categories"] == {"Straße": 15, "Küche": 15}
    assert (shown["valid"], shown["reading"]["references"]) == (True, 0)
    assert shown["rows"][0]["before"] == {
        "Thema": "Straße",
        "Frage": "Was heißt Nummer 0, bitte?",
        "Antwort": "Größe 0",
    }
    assert shown["rows"][0]["after"]["question"] == "Was heißt Nummer 0, bitte?"


def test_a_mapping_through_the_stock_client(client: OpenAI, tmp_path: Path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"x": {"ask": f"q{n}"}, "y": n} for n in range(12)]))
    with path.open("rb") as file:
        made = client.files.create(
            file=file, purpose="fine-tune", extra_body={"mapping": {"question": "x.ask", "reference": "y"}}
        )
    assert made.model_extra is not None
    assert made.model_extra["reading"]["references"] == 12
    assert made.model_extra["reading"]["mapping"] == {"question": "x.ask", "reference": "y"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mapping": "{"}, "mapping"),
        ({"mapping": '{"answer": "y"}'}, "mapping.answer"),
        ({"mapping[answer]": "y"}, "mapping.answer"),
        ({"skip_bad": "perhaps"}, "skip_bad"),
    ],
)
def test_options_that_cannot_be_meant_are_named(http: httpx.Client, fields: dict[str, str], param: str):
    refused = http.post("/v1/files", data={"purpose": "fine-tune"} | fields, files={"file": ("a.csv", b"q,a\n1,2\n")})
    check(refused, 400, "invalid_value", param)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"%PDF-1.7", "invalid_file_format", "a PDF"),
        (b"PK\x03\x04xx", "invalid_archive", "not a readable zip"),
        (b"[]", "empty_file", "no rows"),
        (b"question\n", "empty_file", "no rows"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(http: httpx.Client, content: bytes, code: str, words: str):
    refused = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a", content)})
    check(refused, 400, code, "file")
    assert words in refused.json()["error"]["message"]


def test_bad_rows_are_left_out_only_on_request(http: httpx.Client):
    content = b'{"question": "q", "answer": "a"}\n{oops\n{"question": "r", "answer": "b"}\n'
    refused = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a", content)}).json()
    assert refused["status"] == "error"
    taken = http.post(
        "/v1/files", data={"purpose": "fine-tune", "skip_bad": "true"}, files={"file": ("a", content)}
    ).json()
    assert (taken["status"], taken["n_rows"], taken["reading"]["skipped"]) == ("processed", 2, {"row: invalid_json": 1})
    verdict = http.post(f"/v1/files/{taken['id']}/validate").json()
    assert (verdict["valid"], verdict["errors"]["data"][0]["line"]) == (True, 2)


def test_answers_that_would_be_dropped_refuse_the_file(http: httpx.Client):
    content = "".join(json.dumps({"question": f"q{n}", "verdict": "yes"}) + "\n" for n in range(10)).encode()
    refused = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a", content)}).json()
    assert refused["status"] == "error"
    assert "reference=verdict" in refused["status_details"]


def test_two_commands_from_a_table_to_a_dataset(api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    path = tmp_path / "fragen.csv"
    path.write_bytes(GERMAN_BYTES)
    maps = ["--map", "question=Frage", "--map", "reference=Antwort", "--map", "category=Thema"]
    shown = CliRunner().invoke(cli, ["data", "preview", str(path), *maps])
    words = " ".join(shown.output.split())
    assert shown.exit_code == 0, shown.output
    assert "30 rows" in words
    assert "30 with a reference, 0 bad" in words
    assert "categories: Straße 15, Küche 15" in words
    assert 'read as CSV, separated by ";", cp1252; mapped by hand (30 rows)' in words
    made = json.loads(CliRunner().invoke(cli, ["data", "upload", str(path), *maps, "--json"]).stdout)
    assert made["reading"]["mapping"] == {"question": "Frage", "reference": "Antwort", "category": "Thema"}
    again = json.loads(CliRunner().invoke(cli, ["data", "preview", made["id"], "--json"]).stdout)
    assert again["reading"]["mapping"] == made["reading"]["mapping"]
    assert again["splits"] == made["splits"]
    wrong = CliRunner().invoke(cli, ["data", "preview", str(path), "--map", "question=Fragen"])
    assert wrong.exit_code == 1
    assert "no such field; it has Thema, Frage, Antwort" in " ".join(wrong.output.split())
