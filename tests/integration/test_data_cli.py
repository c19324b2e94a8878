"""`meteor data` as people run it: conversion, checks and upload, each as a process of its own."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from services.meteor.main import cli
from tests.fakes.dump import answer, posts_xml, question
from tests.fakes.hub import running_hub
from tests.fakes.ports import free_port


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["data", *arguments])


def meteor(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "services.local", "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)


def parquet_bytes(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def test_a_dump_becomes_rows(tmp_path: Path):
    source, out = tmp_path / "Posts.xml", tmp_path / "rows.jsonl"
    source.write_bytes(posts_xml([question(1, 2), answer(2, 1), question(3, None)]))
    done = run("import", str(source), "--out", str(out), "--site", "stackoverflow.com", "--preset", "paper", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "rows": 1,
        "references": 1,
        "left_out": {"no accepted answer": 1},
        "out": str(out),
        "file": None,
    }
    assert json.loads(out.read_text())["reference"] == "Answer 2."
    verdict = run("validate", str(out), "--json")
    assert (verdict.exit_code, json.loads(verdict.stdout)["valid"]) == (0, True)


def test_a_failed_import_leaves_what_was_there(tmp_path: Path):
    out = tmp_path / "rows.jsonl"
    out.write_text("old")
    bad = tmp_path / "chat.jsonl"
    bad.write_text('{"messages": [{"role": "user", "content": "q"}]}\n{"messages": 5}\n')
    done = meteor("import", str(bad), "--out", str(out))
    assert done.returncode == 1
    assert "line 2: messages: a list" in done.stderr
    assert (out.read_text(), [path.name for path in tmp_path.glob("*.part")]) == ("old", [])


def test_validate_names_bad_lines_and_unread_fields(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a", "answer": "b", "comment": "c"}\nnonsense\n')
    done = run("validate", str(path))
    assert done.exit_code == 1
    assert "1 good rows, 1 bad lines" in done.output
    assert "line 2: not a JSON object" in done.output
    assert "'comment' stands in 1 rows and is not read" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/where/at/all", "--out", "x"], "neither a file nor a hub id"),
        (["Posts.xml", "--out", "x"], "there is no file"),
        (["o/n", "--out", "x", "--tag", "a"], "no option --tag"),
        (["o/n", "--out", "x", "--map", "question"], "FIELD=COLUMN"),
        (["o/n", "--out", "x", "--map", "answer=b"], "columns.answer"),
        (["superuser.com/Posts.xml", "--out", "x"], "there is no file"),
        (["o/n", "--out", "x", "--kind", "csv"], "--kind must be one of"),
        (["o/n"], "--out FILE, or --upload"),
    ],
)
def test_options_that_cannot_be(arguments: list[str], words: str):
    assert words in str(run("import", *arguments).exception)


def test_a_dataset_of_a_hub_and_none_without_one(tmp_path: Path):
    files = {
        "data/train-00000-of-00001.parquet": parquet_bytes(
            [{"q": f"q{n}", "a": {"text": [f"a{n}"]}} for n in range(5)]
        ),
        "extra/test.jsonl": b'{"q": "other"}\n',
        "loader.py": b"raise SystemExit('this must never run')",
    }
    out = tmp_path / "rows.jsonl"
    arguments = ["import", "org/name", "--out", str(out), "--map", "question=q", "--map", "reference=a.text.0"]
    with running_hub("org/name", files) as url:
        done = meteor(*arguments, "--limit", "3", HF_ENDPOINT=url, HF_HOME=str(tmp_path / "hf"))
        seen = meteor("preview", "org/name", *arguments[4:], HF_ENDPOINT=url, HF_HOME=str(tmp_path / "hf"))
        unmapped = meteor(
            "import",
            "org/name",
            "--out",
            str(tmp_path / "no"),
            "--map",
            "question=q",
            HF_ENDPOINT=url,
            HF_HOME=str(tmp_path / "hf"),
        )
        unknown = meteor("import", "org/other", "--out", "x", HF_ENDPOINT=url, HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    source = "https://huggingface.co/datasets/org/name at cccccccccccc, licence cc0-1.0"
    assert rows == [{"question": f"q{n}", "reference": f"a{n}", "source": source} for n in range(3)]
    assert "the first file of the dataset: data/train-00000-of-00001.parquet" in seen.stderr + seen.stdout
    assert "5 with a reference, 0 bad" in seen.stderr + seen.stdout
    assert "reference=a" in unmapped.stderr  # nothing of the answers is dropped without a word
    assert unmapped.returncode == 1
    assert "the hub has no dataset 'org/other'" in unknown.stderr
    away = meteor(*arguments, HF_ENDPOINT=f"http://127.0.0.1:{free_port()}", HF_HOME=str(tmp_path / "new"))
    assert "the model hub does not answer" in away.stderr
    offline = meteor(*arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "new"))
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    assert [done.returncode for done in (unknown, away, offline)] == [1, 1, 1]
