"""Data files through the public door: upload with a mapping, preview, and the two commands from a table to a dataset."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from openai import OpenAI
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.contract.conftest import BASE, KEY, RunningApi
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


TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello", "weight": 0},
]
SHAPES: dict[str, Callable[[int], dict]] = {  # row N of ten
    "alpaca": lambda n: {"instruction": "Add.", "input": f"{n} 3", "output": str(n + 3)},
    "question and answer": lambda n: {"question": f"{n}+2?", "answer": n + 2},
    "prompt and completion": lambda n: {"prompt": f"{n}+2?", "completion": str(n + 2)},
    "query and response": lambda n: {"query": f"{n}+2?", "response": str(n + 2)},
    "request and response": lambda n: {"request": f"{n}+2?", "response": str(n + 2)},
    "input and ideal": lambda n: {"input": f"{n}+2?", "ideal": str(n + 2)},
    "q and a": lambda n: {"q": f"{n}+2?", "a": str(n + 2)},
    "text and label": lambda n: {"text": f"the film {n}", "label": n % 2},
    "chosen and rejected": lambda n: {"prompt": f"{n}+2?", "chosen": str(n + 2), "rejected": str(n)},
    "ShareGPT": lambda n: {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": f"Hi {n}"}, {"from": "gpt", "value": "Hello"}]},
    "chat": lambda n: {"messages": [*TURNS, {"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "a"}]},
    "stored completion": lambda n: {"id": f"c{n}", "object": "chat.completion", "messages": [{"role": "user", "content": f"{n}?"}], "choices": [{"message": {"role": "assistant", "content": "a"}}]},
    "trace of Langfuse": lambda n: {"id": f"t{n}", "input": [{"role": "user", "content": f"{n}?"}], "output": {"role": "assistant", "content": "a"}, "metadata": {}},
    "run of LangSmith": lambda n: {"inputs": {"question": f"{n}?"}, "outputs": {"answer": "a"}},
    "number": lambda n: {"id": n, "question": f"{n}+2?", "reference": n + 2},
    "own split": lambda n: {"question": f"{n}+2?", "answer": "a", "split": ["train", "validation", "test", "train"][n % 4]},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("written", ["a JSON list", "lines"])
def test_ten_rows_of_every_shape_come_through_whole(http: httpx.Client, name: str, written: str):
    rows = [SHAPES[name](n) for n in range(10)]
    content = json.dumps(rows) if written == "a JSON list" else "".join(json.dumps(row) + "\n" for row in rows)
    made = http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a", content.encode())}).json()
    assert (made["status"], made["n_rows"], made["reading"]["references"]) == ("processed", 10, 10)
    assert made["splits"]["train"] >= 4
    assert min(made["splits"].values()) >= 2
    assert (made["reading"]["split_by"] == "file") == (name == "own split")


TICKETS = "Kundenanliegen;Bearbeitung;Größe\n" + "".join(
    f'"Wo bleibt Paket {n}, bitte?";Wir prüfen Straße {n};{n}\n' for n in range(10)
)


def test_a_german_table_becomes_a_job_in_two_commands(api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Headers that nobody knows, Windows' encoding, as few rows as OpenAI takes."""
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    table, body = tmp_path / "tickets.csv", tmp_path / "job.json"
    table.write_bytes(TICKETS.encode("cp1252"))
    body.write_text(json.dumps({"model": BASE, "distillation": {"domain": "Pakete"}}))
    first = CliRunner().invoke(cli, ["data", "preview", str(table)])
    assert first.exit_code == 1
    advice = re.search(r"--map question=\S+ --map reference=\S+", " ".join(first.output.split()))
    assert advice is not None
    maps = advice[0].split()
    assert maps[1::2] == ["question=Kundenanliegen", "reference=Bearbeitung"]
    shown = CliRunner().invoke(cli, ["data", "preview", str(table), *maps])
    words = " ".join(shown.output.split())
    assert shown.exit_code == 0, shown.output
    assert "10 with a reference, 0 bad" in words
    assert "languages, guessed: de 10" in words
    assert "'Größe' stands in 10 rows and is not read" in words
    made = CliRunner().invoke(cli, ["jobs", "create", str(body), "--rows", str(table), *maps, "--json"])
    assert made.exit_code == 0, made.output
    job = json.loads(made.stdout)
    assert job["status"] in ("queued", "validating_files", "running")
    file = json.loads(CliRunner().invoke(cli, ["data", "show", job["training_file"], "--json"]).stdout)
    assert (file["n_rows"], file["reading"]["references"]) == (10, 10)


def test_a_preview_names_students_that_there_are(http: httpx.Client):
    made = http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"q,a\n1,2\n")}).json()
    refused = http.post(f"/v1/files/{made['id']}/preview", json={"student": "nobody"})
    assert refused.status_code == 404
    assert "no student is called 'nobody'" in refused.json()["error"]["message"]


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


def test_a_zip_of_files_is_one_dataset_and_one_of_its_files_can_be_named(http: httpx.Client):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, start in (("train.csv", 0), ("dev.csv", 20), ("test.csv", 30)):
            lines = "".join(f"Why number {n}?,since {n}\n" for n in range(start, start + 10))
            archive.writestr(f"faq/{name}", "question,answer\n" + lines)
        archive.writestr("faq/talk.jsonl", json.dumps({"messages": [{"role": "user", "content": "q"}]}))

    def uploaded(**fields: str) -> dict:
        file = {"file": ("faq.zip", packed.getvalue())}
        return http.post("/v1/files", data={"purpose": "fine-tune"} | fields, files=file).json()

    refused = uploaded()["error"]
    assert (refused["param"], refused["code"]) == ("member", "invalid_file_format")
    assert "faq/talk.jsonl (chat messages)" in refused["message"]
    made = uploaded(member="train.csv")
    assert (made["status"], made["n_rows"], made["reading"]["member"]) == ("processed", 10, "train.csv")
    assert "the zip's faq/dev.csv, faq/talk.jsonl, faq/test.csv is not read" in made["reading"]["warnings"]
    assert http.post(f"/v1/files/{made['id']}/validate").json()["n_rows"] == 10
    shown = http.post(f"/v1/files/{made['id']}/preview", json={"member": "dev.csv", "rows": 1}).json()
    assert shown["rows"][0]["after"]["question"] == "Why number 20?"
    whole = uploaded(**{"mapping[question]": "question", "mapping[reference]": "answer", "skip_bad": "true"})
    assert (whole["n_rows"], whole["reading"]["split_by"], sum(whole["reading"]["skipped"].values())) == (
        30,
        "question",
        1,
    )


def test_generated_questions_are_estimated_from_a_terminal(api: RunningApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", api.url)
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    told = CliRunner().invoke(cli, ["data", "generate", "bees", "--questions", "20", "--estimate", "--json"])
    assert told.exit_code == 0, told.output
    estimate = json.loads(told.stdout)
    assert (estimate["object"], estimate["strong_model"]["calls"]["low"] > 0) == ("import.estimate", True)
