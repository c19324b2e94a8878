"""Data files in every format: how they are recognised, what they hold, and what is said of those that cannot be read."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import tokenizers
import tokenizers.models
import tokenizers.pre_tokenizers
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from shared.artifacts.token_counts import token_counter
from shared.contracts.data import LineError, Question, Split
from shared.contracts.errors import UserError
from shared.contracts.file_reading import PreviewRequest, ReadOptions
from shared.contracts.unfolding import conversations, single_messages
from shared.datasets.splits import Assigned, Splitter
from shared.importing import dataset
from shared.importing.dataset import DataFile

ROWS = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
GERMAN = "Frage;Antwort\nWie heißt die größte Stadt?;Köln, natürlich\nWas ist schön?;Über den Dächern\n"
TABLE = pyarrow.Table.from_pylist(ROWS)


def written(path: Path, content: bytes | Callable[[Path], None]) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/rows.csv", "q,a\nq0,a0\nq1,a1\nq2,a2\n")
        archive.writestr("__MACOSX/rows.csv", "")


def _zstd(path: Path) -> None:
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as out:
        out.write(LINES.encode())


def _arrow(path: Path) -> None:
    with ipc.new_file(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


def _xlsx(path: Path) -> None:
    """A workbook with an empty first sheet, written by hand: strings inline, one number."""
    cells = [["q", "a"], ["q0", "a0"], ["q1", "a1"], ["q2", "a2"]]
    rows = "".join(
        f'<row r="{r}">'
        + "".join(f'<c r="{"AB"[c]}{r}" t="inlineStr"><is><t>{text}</t></is></c>' for c, text in enumerate(row))
        + "</row>"
        for r, row in enumerate(cells, start=1)
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/></Types>')  # fmt: skip
        book.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{rel}/officeDocument" Target="xl/workbook.xml"/></Relationships>')  # fmt: skip
        book.writestr("xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets><sheet name="notes" sheetId="1" r:id="r1"/><sheet name="rows" sheetId="2" r:id="r2"/></sheets></workbook>')  # fmt: skip
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{rel}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{rel}/worksheet" Target="worksheets/sheet2.xml"/></Relationships>')  # fmt: skip
        book.writestr("xl/worksheets/sheet1.xml", f'<worksheet xmlns="{main}"><sheetData/></worksheet>')
        book.writestr(
            "xl/worksheets/sheet2.xml", f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
        )


FILES: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "lines": (LINES.encode(), "JSONL, utf-8"),
    "lines with a mark": (b"\xef\xbb\xbf" + LINES.encode(), "JSONL, utf-8-sig"),
    "lines in utf-16": (LINES.encode("utf-16"), "JSONL, utf-16"),
    "array": (json.dumps(ROWS).encode(), "JSON, utf-8"),
    "array over lines": (json.dumps(ROWS, indent=2).encode(), "JSON, utf-8"),
    "objects over lines": ("\n".join(json.dumps(row, indent=1) for row in ROWS).encode(), "JSON, utf-8"),
    "wrapped array": (json.dumps({"version": 1, "data": ROWS}).encode(), "JSON, rows under 'data', utf-8"),
    "wrapped twice": (json.dumps({"a": {"rows": ROWS}}, indent=1).encode(), "JSON, rows under 'a.rows', utf-8"),
    "commas": (b"q,a\nq0,a0\nq1,a1\nq2,a2\n", 'CSV, separated by ",", utf-8'),
    "commas with a mark inside": (b"\n\xef\xbb\xbfq,a\nq0,a0\nq1,a1\nq2,a2\n", 'CSV, separated by ",", utf-8'),
    "semicolons": (b"q;a\r\nq0;a0\r\nq1;a1\r\nq2;a2\r\n", 'CSV, separated by ";", utf-8'),
    "said delimiter": (b"sep=;\nq;a\nq0;a0\nq1;a1\nq2;a2\n", 'CSV, separated by ";", utf-8'),
    "tabs": (b"q\ta\nq0\ta0\nq1\ta1\nq2\ta2\n", "CSV, separated by tabs, utf-8"),
    "bars": (b"q|a\nq0|a0\n\nq1|a1\nq2|a2", 'CSV, separated by "|", utf-8'),
    "gzip": (gzip.compress(LINES.encode()), "JSONL, utf-8, gzip"),
    "bzip2": (bz2.compress(LINES.encode()), "JSONL, utf-8, bzip2"),
    "xz": (lzma.compress(LINES.encode()), "JSONL, utf-8, xz"),
    "zstd": (_zstd, "JSONL, utf-8, zstd"),
    "zip": (_zip, 'CSV, separated by ",", utf-8, zip'),
    "parquet": (lambda path: parquet.write_table(TABLE, path), "Parquet"),
    "arrow": (_arrow, "Arrow"),
    "xlsx": (_xlsx, "XLSX"),
}


@pytest.mark.parametrize("name", FILES)
def test_each_format_holds_the_same_rows(tmp_path: Path, name: str):
    content, words = FILES[name]
    file = DataFile.open(written(tmp_path / "data", content))
    assert file.layout.words == words
    rows = [item for item in file.rows() if isinstance(item, Question)]
    assert [(row.question, row.reference) for row in rows] == [(f"q{n}", f"a{n}") for n in range(3)]


def _zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


PAIRS = '{"question": "q%s", "answer": "a"}\n{"question": "r%s", "answer": "a"}\n'
TALK = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
ZIPS: dict[str, tuple[dict[str, str], dict[str, Any], list[str] | str]] = {
    "in the order of names": ({"b.jsonl": PAIRS % (2, 2), "a.csv": "question,answer\nq1,a1\n"}, {}, ["q1", "q2", "r2"]),
    "more fields in one": ({"a.jsonl": PAIRS % (1, 1), "b.csv": "id,question,answer,url\nx,q2,a,u\n"}, {}, ["q1", "r1", "q2"]),
    "an empty one": ({"a.jsonl": PAIRS % (1, 1), "b.csv": "question,answer\n"}, {}, ["q1", "r1"]),
    "beside a README": ({"README.md": "# No data", "a.jsonl": PAIRS % (1, 1), "b.jsonl": PAIRS % (2, 2)}, {}, ["q1", "r1", "q2", "r2"]),
    "a named one": ({"x/a.jsonl": PAIRS % (1, 1), "b.jsonl": TALK}, {"member": "a.jsonl"}, ["q1", "r1"]),
    "with a mapping": ({"a.csv": "x,y\nq1,a1\n", "b.csv": "x,y,z\nq2,a2,z\n"}, {"mapping": {"question": "x", "reference": "y"}}, ["q1", "q2"]),
    "of two shapes": ({"a.jsonl": PAIRS % (1, 1), "b.jsonl": TALK + "\n" + TALK}, {}, "a.jsonl (question and answer), b.jsonl (chat messages)"),
    "with a wrong name": ({"a.jsonl": PAIRS % (1, 1), "b.jsonl": TALK}, {"member": "c.jsonl"}, "0 files named 'c.jsonl'; it has a.jsonl, b.jsonl"),
    "without data": ({"README.md": "# No data", "run.py": "pass"}, {}, "holds no data file, but README.md, run.py"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_of_several_files_is_one_dataset_or_is_refused(tmp_path: Path, name: str):
    files, options, expected = ZIPS[name]
    path, read = _zipped(tmp_path / "data.zip", files), ReadOptions.model_validate(options)
    if isinstance(expected, str):
        with pytest.raises(UserError) as refused:
            DataFile.open(path, read)
        assert expected in refused.value.message
        return
    rows = list(DataFile.open(path, read).rows())
    assert [row.question for row in rows if isinstance(row, Question)] == expected
    assert len({row.id for row in rows if isinstance(row, Question)}) == len(rows)


def test_the_files_of_a_zip_give_their_rows_splits_and_their_errors_places(tmp_path: Path):
    files = {"x/train-0.jsonl": PAIRS % (1, 1), "x/test.jsonl": PAIRS % (2, 2) + '{"question": ""}\n', "notes.txt": "n"}
    checked = dataset.check(DataFile.open(_zipped(tmp_path / "z", files), ReadOptions(skip_bad=True)), None, 9, 99)
    rows = DataFile.open(tmp_path / "z").rows()
    assert [row.split for row in rows if isinstance(row, Question)] == [Split.TEST] * 2 + [Split.TRAIN] * 2
    assert [error.message[:25] for error in checked.skipped] == ["x/test.jsonl, line 3: que"]
    assert "the zip's notes.txt is not read" in checked.reading.warnings
    assert checked.reading.format == "JSONL, utf-8, zip of 2 files"


def test_a_name_in_a_file_that_is_no_zip_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="the file is no zip"):
        DataFile.open(written(tmp_path / "data", LINES.encode()), ReadOptions(member="a.csv"))


def test_a_column_of_questions_is_a_table(tmp_path: Path):
    rows = list(DataFile.open(written(tmp_path / "data", b"question\nWhat?\nWho?\n")).rows())
    assert [row.question for row in rows if isinstance(row, Question)] == ["What?", "Who?"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp1250", "latin-1", "mac_roman"]
)
def test_a_german_table_in_any_encoding(tmp_path: Path, encoding: str):
    file = DataFile.open(written(tmp_path / "fragen.csv", GERMAN.encode(encoding)))
    first, second = file.rows()
    assert isinstance(first, Question)
    assert isinstance(second, Question)
    assert (first.question, first.reference) == ("Wie heißt die größte Stadt?", "Köln, natürlich")
    assert second.reference == "Über den Dächern"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "вопрос;ответ\nКак называется столица России?;Москва\n"),
        (
            "gb18030",
            "问题,答案\n中国的首都是哪里,北京是中国的首都\n意大利的首都是哪里,罗马\n这个问题怎么回答,我们可以这样回答它\n",
        ),
        ("cp932", "質問,回答\n日本の首都はどこですか,東京です\n"),
        ("euc_kr", "질문,답변\n한국의 수도는 어디입니까,서울입니다\n"),
        ("cp1254", "soru;cevap\nTürkiye'nin başkenti neresidir, ışık?;Ankara'dır şüphesiz\n"),
    ],
)
def test_a_table_in_another_script(tmp_path: Path, encoding: str, text: str):
    first = next(DataFile.open(written(tmp_path / "t.csv", text.encode(encoding))).rows())
    assert isinstance(first, Question)
    assert f"{first.question}" in text
    assert first.reference
    assert first.reference in text


def _book(sheets: dict[str, str], **more: str) -> bytes:
    """A workbook of sheets whose rows are given as XML."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    related = "".join(
        f'<Relationship Id="r{n}" Type="{rel}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r1" Type="{rel}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{rel}"><sheets>{listed}</sheets></workbook>'
        )
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}">{related}</Relationships>')
        for n, rows in enumerate(sheets.values(), 1):
            book.writestr(
                f"xl/worksheets/sheet{n}.xml", f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
            )
        for name, text in more.items():
            book.writestr(name, text)
    return out.getvalue()


def _cells(number: int, *texts: str) -> str:
    cells = "".join(
        f'<c r="{"ABC"[n]}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for n, text in enumerate(texts)
    )
    return f'<row r="{number}">{cells}</row>'


Q, A = ["q0", "q1"], ["a0", "a1"]
TURN = [
    {
        "role": "prompter",
        "text": "q0",
        "replies": [{"role": "assistant", "text": "bad", "rank": 1}, {"role": "assistant", "text": "a0", "rank": 0}],
    }
]
HELD: dict[str, tuple[Any, list[tuple[str, str | None]], dict[str, Any]]] = {  # name: content, (question, reference), fields of the first
    "objects under keys": ({"x": {"question": "q0", "answer": "a0"}, "y": {"question": "q1", "answer": "a1"}}, [("q0", "a0"), ("q1", "a1")], {"id": "x"}),
    "columns of lists": ({"question": Q, "answer": A}, [("q0", "a0"), ("q1", "a1")], {}),
    "columns of objects": ({"question": {"0": "q0", "1": "q1"}, "answer": {"0": "a0", "1": "a1"}}, [("q0", "a0"), ("q1", "a1")], {}),
    "columns and data": ({"columns": ["question", "answer"], "index": [0, 1], "data": [["q0", "a0"], ["q1", "a1"]]}, [("q0", "a0"), ("q1", "a1")], {}),
    "lists with a header": ([["Question", "Answer"], ["q0", "a0"]], [("q0", "a0")], {}),
    "pairs": ([["q0", "a0"], ["q1", "a1"]], [("q0", "a0"), ("q1", "a1")], {}),
    "talks of unlike lengths": ([["q0", "a0"], ["x", "y", "q1", "a1"]], [("q0", "a0"), ("q1", "a1")], {}),
    "questions as keys": ({f"What is {n}?": f"a{n}" for n in range(3)}, [(f"What is {n}?", f"a{n}") for n in range(3)], {}),
    "splits as keys": ({"test": [["q0", "a0"]], "oos_train": [["q1", "a1"]]}, [("q0", "a0"), ("q1", "a1")], {"split": Split.TEST}),
    "categories as keys": ({"pay": [{"q": "q0", "a": "a0"}], "send": [{"q": "q1", "a": "a1"}]}, [("q0", "a0"), ("q1", "a1")], {"category": "pay"}),
    "passages": ({"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "q0", "answers": [{"text": "a0"}]}, {"id": "2", "question": "q1", "answers": []}]}]}]}, [("q0", "a0"), ("q1", None)], {"context": "c", "group": "T", "id": "1"}),
    "passages of a list": ([{"context_text": "c", "title": "T", "qas": [{"query_text": "q0", "query_id": "1", "answers": ["a0", "a"]}]}], [("q0", "a0")], {"context": "c"}),
    "seed tasks": ([{"id": "s", "instruction": "q0", "instances": [{"input": "", "output": "a0"}, {"input": "x", "output": "a1"}]}], [("q0", "a0"), ("q0\n\nx", "a1")], {}),
    "intents": ({"intents": [{"tag": "t", "patterns": Q, "responses": ["a0", "b"]}]}, [("q0", "a0"), ("q1", "a0")], {"group": "t"}),
    "a page of the viewer": ({"features": [], "rows": [{"row_idx": 0, "row": {"question": "q0", "answer": "a0"}, "truncated_cells": []}]}, [("q0", "a0")], {}),
    "labelled tasks": ([{"id": 1, "data": {"text": "q0"}, "annotations": [{"result": [{"value": {"choices": ["a0"]}}]}]}], [("q0", "a0")], {}),
    "a tree": ([{"message_tree_id": "t", "prompt": TURN[0]}], [("q0", "a0")], {"group": "t"}),
    "single messages": ([{"message_id": 1, "parent_id": None, "role": "prompter", "text": "q0"}, {"message_id": 2, "parent_id": 1, "role": "assistant", "text": "a0"}], [("q0", "a0")], {}),
    "a log of talks": ([{"conversation_id": "c", "speaker": "Customer", "text": "q0"}, {"conversation_id": "c", "speaker": "Agent", "text": "a0"}], [("q0", "a0")], {"group": "c"}),
    "one object over lines": ({"conversations": [{"from": "human", "value": "q0"}, {"from": "gpt", "value": "a0"}]}, [("q0", "a0")], {}),
    "sentences and queries": ([{"sentences": [{"text": "q0"}, {"text": "q1"}], "sql": ["a0"]}], [("q0", "a0"), ("q1", "a0")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_json_holds_rows_in_many_ways(tmp_path: Path, name: str):
    content, pairs, first = HELD[name]
    rows = list(DataFile.open(written(tmp_path / "data", json.dumps(content, indent=1).encode())).rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == pairs
    assert isinstance(rows[0], Question)
    assert rows[0].model_dump(include={*first}) == first


@given(st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 4), st.booleans()), min_size=1, max_size=8))
def test_messages_that_link_in_any_way_are_all_read(links: list[tuple[int, int | None, bool]]):
    messages = [
        {"id": own, "parent_id": link, "role": "assistant" if answer else "prompter", "text": f"<{place}>"}
        for place, (own, link, answer) in enumerate(links)
    ]
    named = single_messages(messages[0])
    assert named is not None
    talks = list(conversations(messages, named))
    assert len(talks) <= len(links)
    assert all(1 <= len(talk["conversation"]) <= len(links) for talk in talks)
    roots = {talk["conversation"][0]["text"] for talk in talks}
    assert roots >= {f"<{place}>" for place, (_, link, _) in enumerate(links) if link is None}


YAMLS = {
    "conversations": ("categories:\n- AI\nconversations:\n- - q0\n  - a0\n", [("q0", "a0", "AI")]),
    "intents": ("version: '3'\nnlu:\n- intent: a0\n  examples: |\n    - q0\n    - q1\n", [("q0", "a0", None), ("q1", "a0", None)]),
    "rows": ("- question: q0\n  answer: 5\n- question: q1\n  answer: 2024-01-02\n", [("q0", "5", None), ("q1", "2024-01-02", None)]),
}  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_holds_rows(tmp_path: Path, name: str):
    content, expected = YAMLS[name]
    file = DataFile.open(written(tmp_path / "data", content.encode()))
    assert file.layout.words == "YAML, utf-8"
    assert [(row.question, row.reference, row.category) for row in file.rows() if isinstance(row, Question)] == expected


@pytest.mark.parametrize(
    ("content", "mapping", "pairs"),
    [
        ('[{"x": {"t": "q0"}, "y": [{"z": "a0"}]}]', {"question": "x.t", "reference": "y.0.z"}, [("q0", "a0")]),
        ('[{"qs": [{"a": "q0", "b": "a0"}, {"a": "q1"}]}]', {"question": "qs.*.a", "reference": "qs.*.b"}, [("q0", "a0"), ("q1", None)]),
        ('[{"s": "p", "ps": [{"c": "x", "qs": [{"a": "q0"}]}]}]', {"question": "ps.*.qs.*.a", "reference": "s"}, [("q0", "p")]),
        ('[{"a": "q0", "b": "more", "c": "a0"}]', {"question": "a+b", "reference": "c"}, [("q0\n\nmore", "a0")]),
        ('[{"question": "q0", "kind": "x", "gold": "a0"}]', {"reference": "kind"}, [("q0", "x")]),
        ('[{"question": "q0", "answer": "a0"}]', {"reference": ""}, [("q0", None)]),
        ("q0,x,a0\nq1,x,a1\n", {"question": "column_1", "reference": "column_3"}, [("q0", "a0"), ("q1", "a1")]),
        ("What, now?\nWho\n", {"question": "column_1", "reference": ""}, [("What, now?", None), ("Who", None)]),
    ],
)  # fmt: skip
def test_a_mapping_reaches_everything(tmp_path: Path, content: str, mapping: dict, pairs: list):
    file = DataFile.open(written(tmp_path / "data", content.encode()), ReadOptions(mapping=mapping))
    rows = list(file.rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == pairs


def test_a_test_without_a_header_is_multiple_choice(tmp_path: Path):
    content = b'"Which, please?",w,x,y,z,C\nAnd which?,1,2,3,4,A\n'
    rows = list(DataFile.open(written(tmp_path / "data", content)).rows())
    assert [(row.question, row.reference) for row in rows if isinstance(row, Question)] == [
        ("Which, please?\nA. w\nB. x\nC. y\nD. z", "C. y"),
        ("And which?\nA. 1\nB. 2\nC. 3\nD. 4", "A. 1"),
    ]


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "x\\\\\\ud83d y", "\\uD83D\\u0041"])
@pytest.mark.parametrize("before", [0, 65_530, 65_534])
def test_half_of_a_pair_in_a_list_is_never_replaced(tmp_path: Path, escape: str, before: int):
    good = json.dumps({"question": "😀 \\ud800", "answer": "x" * before})
    file = DataFile.open(written(tmp_path / "data", f'[{good}, {{"question": "{escape}"}}]'.encode()))
    first, second = file.rows()
    assert isinstance(first, Question)
    assert first.question == "😀 \\ud800"
    assert isinstance(second, LineError)
    assert second.code == "invalid_unicode"


def test_what_of_a_file_is_not_read_is_said(tmp_path: Path):
    beside = json.dumps({"rows": [{"q": "q0", "a": "a0"}], "licences": [{"name": "x"}, {"name": "y"}]}).encode()
    assert "'licences' stands beside the rows and is not read" in checked(tmp_path, beside).reading.warnings
    never = '<c r="B2"><f>1+1</f><v></v></c>'
    first = (
        _cells(1, "q", "a")
        + f'<row r="2"><c r="A2" t="inlineStr"><is><t>q0</t></is></c>{never}</row>'
        + _cells(3, "q1", "a1")
    )
    book = _book(
        {"one": first, "two": _cells(1, "q", "a") + _cells(2, "q2", "a2"), "notes": _cells(1, "x") + _cells(2, "y")},
        **{"xl/externalLinks/externalLink1.xml": "<x/>"},
    )
    found = checked(tmp_path, book)
    assert (found.n_rows, found.reading.references) == (3, 2)
    said = " ".join(found.reading.warnings)
    assert "sheet 'notes' (2 rows) has another header" in said
    assert "links to other workbooks are not followed" in said
    assert "1 cells hold a formula that was never computed" in said


def test_unwanted_and_further_answers_are_counted(tmp_path: Path):
    talk = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    rows = [
        talk | {"label": True},
        talk | {"label": False},
        {"question": "q", "answer": ["a", "b"]},
        {"turns": ["q", "then?"], "reference": "a"},
    ]
    found = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (found.references, sum(found.notes.values()), len(found.notes)) == (3, 3, 3)


ASKED, SAID = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a"},
        {"prompt": ASKED, "completion": SAID},
        {"instruction": "q", "input": "x", "output": "a", "stars": 3},
        {"question": "q", "answer": "a", "system": "Be brief."},
        {"messages": ASKED + SAID},
    ],
)
def test_an_answer_that_is_marked_as_unwanted_is_not_learned(tmp_path: Path, row: dict):
    rows = [row | {"label": label} for label in (True, False, "True", "False", "billing", None, 0)]
    found = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (found.references, [*found.notes.values()], "label" in found.ignored_fields) == (5, [2], False)


def test_a_label_that_is_the_answer_itself_stays_one(tmp_path: Path):
    rows = [{"text": f"Is {n} even?", "label": n % 2 == 0} for n in range(4)]
    found = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (found.references, found.notes) == (4, {})


def test_what_of_a_tree_is_not_used_is_counted(tmp_path: Path):
    alone = {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "replies": []}]}
    found = checked(tmp_path, json.dumps([{"prompt": TURN[0]}, {"prompt": alone}]).encode()).reading
    assert (found.references, [*found.notes.values()], found.ignored_fields) == (2, [1], {})


def test_nested_answers_are_never_dropped(tmp_path: Path):
    content = json.dumps([{"prompt": f"p{n}", "results": [{"outputs": ["a"]}]} for n in range(3)]).encode()
    assert [error.code for error in checked(tmp_path, content).errors] == ["answers_not_read"]


BAD: dict[str, tuple[bytes, str]] = {
    "pdf": (b"%PDF-1.7 ...", "is a PDF"),
    "old office": (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as XLSX or CSV"),
    "sqlite": (b"SQLite format 3\x00", "export the table as CSV"),
    "html": (b"<!DOCTYPE html><html>", "an HTML page"),
    "prose": (b"Dear all\nplease find attached\n", "first line is 'Dear all'"),
    "binary": (bytes(range(256)) * 20, "the file is binary"),
    "7z": (b"7z\xbc\xaf\x27\x1c....", "unpack it first: 7z x FILE"),
    "gzip that is cut": (gzip.compress(LINES.encode() * 100)[:-40], "damaged"),
    "gzip bomb": (gzip.compress(b"a" * 60_000_000), "more than 100 times its size"),
    "endless line": (b"q,a\n" + b"a" * 3_000_000, "longer than 1000000 bytes"),
    "endless line alone": (b"a" * 3_000_000, "neither JSON nor a table"),
    "parquet with a lying footer": (b"PAR1" + b"x" * 100 + b"\xff\xff\xff\x7fPAR1", "Parquet file cannot be read"),
    "tar": (b"x" * 257 + b"ustar" + b"x" * 250, "unpack it first: tar -xf FILE"),
    "prose with commas": (
        b"Once, upon, a time there was " + b"a long story, " * 60 + b"\nand, then\n",
        "imported as a document",
    ),
    "zip that is none": (b"PK\x03\x04" + b"x" * 100, "not a readable zip"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_said_with_the_way_out(tmp_path: Path, name: str):
    content, words = BAD[name]
    with pytest.raises(UserError, match=words):
        list(DataFile.open(written(tmp_path / "data", content)).rows())


ROW_ERRORS: dict[str, tuple[bytes, int, str]] = {
    "a row that is too long": (b"q,a\n1,2\n1,2,3\n", 3, "3 cells, and the header has 2"),
    "an open quote": (b'q,a\n"x,y\n' + b"z,w\n" * 300_000, 250_002, "a quote is opened and never closed"),
    "two encodings": ("q,a\né,b\n".encode() + "ü,b\n".encode("cp1252"), 3, "not UTF-8, while other rows are"),
    "a header in another encoding": (
        b"q,gr" + b"\xdf" + "\né,b\nü\n".encode() + b"\xfc,b\n",
        4,
        "not UTF-8, while other rows are",
    ),
    "an array that is cut": (b'[{"q": "1"}, {"q":', 2, "not JSON after 1 rows"),
    "a comma too many": (b'[{"q": "1"},]', 2, "not JSON after 1 rows"),
    "a hundred thousand brackets": (b"[" * 100_000, 1, "nested deeper than 100 levels"),
    "brackets in an object": (b'{"data": ' + b"[" * 100_000, 1, "nested deeper than 100 levels"),
    "an alias in YAML": (b"a: &x [1]\nrows:\n- *x\n", 3, "an alias (*x) is not read"),
    "broken YAML": (b"- question: q\n - x: [\n", 2, "not YAML"),
    "a number in an array": (b'[{"q": "1"}, 5]', 2, "an object is expected"),
    "a broken first line": (b'{oops\n{"q": "1"}\n', 1, "not a JSON object"),
    "a foreign first line": (b'# rows\n{"q": "1"}\n', 1, "not a JSON object"),
}


@pytest.mark.parametrize("name", ROW_ERRORS)
def test_a_bad_row_is_named_by_its_place(tmp_path: Path, name: str):
    content, line, words = ROW_ERRORS[name]
    errors = [item for item in DataFile.open(written(tmp_path / "data", content)).rows() if isinstance(item, LineError)]
    assert [error.line for error in errors] == [line]
    assert words in errors[0].message


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"{", b"[", b"PAR1", b"PK\x03\x04", b"\x1f\x8b\x08", b"q,a\n", b"ARROW1\x00\x00"]),
)
def test_no_bytes_do_more_than_refuse(tmp_path_factory: pytest.TempPathFactory, content: bytes, start: bytes):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(start + content)
    with contextlib.suppress(UserError):
        for item in DataFile.open(path).rows():
            assert isinstance(item, Question | LineError)


# what is seen of a file


def checked(path: Path, content: bytes, **options: Any) -> dataset.Checked:
    file = DataFile.open(written(path / "data", content), ReadOptions(**options))
    return dataset.check(file, Splitter(0.15, 0.2), 20, 10**6, whole=True)


def test_answers_under_an_unknown_name_are_never_dropped(tmp_path: Path):
    content = "".join(json.dumps({"question": f"q{n}", "verdict": "yes"}) + "\n" for n in range(5)).encode()
    refused = checked(tmp_path, content)
    assert [error.code for error in refused.errors] == ["answers_not_read"]
    assert "reference=verdict" in refused.errors[0].message
    assert checked(tmp_path, content, mapping={"question": "question", "reference": "verdict"}).reading.references == 5
    without = checked(tmp_path, content, mapping={"question": "question", "reference": ""})
    assert not without.errors
    assert "no row has a reference answer" in without.reading.warnings


def test_a_mapped_field_that_no_row_has_is_named(tmp_path: Path):
    refused = checked(tmp_path, b"frag,antw\nx,y\n", mapping={"question": "frag", "reference": "antwort"})
    assert [(error.code, error.param) for error in refused.errors] == [("unknown_field", "mapping")]
    assert "there are antw, frag" in refused.errors[0].message


def test_rows_of_one_unknown_shape_are_one_error(tmp_path: Path):
    refused = checked(tmp_path, json.dumps([{"foo": 1, "bar": 2}] * 50).encode())
    assert [error.code for error in refused.errors] == ["no_question"]
    assert refused.n_bad == 50


def test_bad_rows_are_left_out_and_counted(tmp_path: Path):
    content = LINES.encode() + b"{oops\n" + b'{"question": " "}\n'
    refused, taken = checked(tmp_path, content), checked(tmp_path, content, skip_bad=True)
    assert len(refused.errors) == 2
    assert not taken.errors
    assert taken.n_rows == 3
    assert taken.reading.skipped == {"row: invalid_json": 1, "question: invalid_row": 1}


def test_a_preview_shows_rows_before_and_after(tmp_path: Path):
    file = DataFile.open(written(tmp_path / "fragen.csv", GERMAN.encode("cp1252") + b"zu viel;x;y\n"))
    shown = dataset.preview(file, PreviewRequest(rows=3), 0.15, 0.2, 10**6)
    assert (shown.valid, shown.n_rows, shown.n_bad) == (False, 2, 1)
    assert shown.reading.shapes == {"Frage and Antwort": 2}
    assert shown.rows[0].before == {"Frage": "Wie heißt die größte Stadt?", "Antwort": "Köln, natürlich"}
    assert shown.rows[0].after is not None
    assert shown.rows[0].after.reference == "Köln, natürlich"
    assert shown.rows[2].error is not None
    assert shown.question_length is not None
    assert shown.question_length.longest == 27


def test_a_preview_counts_the_tokens_of_a_student(tmp_path: Path):
    words = {"[UNK]": 0} | {word: n for n, word in enumerate(["What", "is", "Nothing"], 1)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 4}')
    rows = [("What is", "Nothing"), ("What is it", "Nothing at all"), ("What is it for", "x"), ("What", "")]
    content = json.dumps([{"question": asked, "answer": told} for asked, told in rows]).encode()
    file = DataFile.open(written(tmp_path / "rows.json", content))
    tokens = token_counter("small", tmp_path)
    fit = dataset.preview(file, PreviewRequest(student="small"), 0.15, 0.2, 10**6, tokens).student
    assert fit is not None
    assert (fit.context, fit.rows, fit.too_long, fit.cut) == (4, 4, 1, 1)
    assert fit.question is not None
    assert fit.reference is not None
    assert (fit.question.longest, fit.reference.longest) == (4, 3)
    with pytest.raises(UserError, match="is not known here"):
        token_counter("other", tmp_path / "none")


def test_a_preview_guesses_languages(tmp_path: Path):
    texts = ["Wie heißt die größte Stadt?", "Wo wohnen die meisten Menschen?", "列出所有文件", "2+2?"]
    file = DataFile.open(written(tmp_path / "rows", json.dumps([{"question": text} for text in texts]).encode()))
    assert dataset.preview(file, PreviewRequest(), 0.15, 0.2, 10**6).languages == {"de": 2, "zh": 1, "unknown": 1}


@pytest.mark.parametrize("change", [b"", LINES.encode() * 2])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: bytes):
    path = written(tmp_path / "rows", LINES.encode())
    rows = DataFile.open(path).rows()
    next(rows)
    path.write_bytes(change)
    with pytest.raises(UserError, match="changed while it was read"):
        list(rows)


# splits


def assigned(rows: list[Question]) -> Assigned:
    splitter = Splitter(0.15, 0.2)
    for row in rows:
        splitter.add(row)
    return splitter.assign()


def question(text: str, **more: Any) -> Question:
    return Question(id=text, question=text, **more)


@given(st.integers(10, 60), st.integers(0, 10**6))
def test_small_files_have_enough_of_each_split(size: int, start: int):
    splits = assigned([question(f"question {start + n}") for n in range(size)]).splits
    assert splits.count(Split.TEST) >= 2
    assert splits.count(Split.DEV) >= 2
    assert splits.count(Split.TRAIN) >= 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is it", "What is it?"),
        ("café au lait", "cafe\u0301 au lait"),
        ("it's here", "it\u2019s here"),
        ("Full width", "Ｆｕｌｌ width"),
    ],
)
def test_twins_stand_on_one_side(one: str, other: str):
    rows = [question(f"filler {n}") for n in range(300)]
    for number in range(40):
        pair = assigned([question(f"{one} {number}"), question(f"{other} {number}"), *rows])
        assert pair.splits[0] == pair.splits[1]
        assert pair.linked["question"] >= 2


def test_the_split_of_a_file_is_used_when_every_row_names_one():
    rows = [question(f"q {n}", split=Split.TEST if n % 2 else Split.TRAIN) for n in range(100)]
    splits, by = assigned(rows).splits, assigned(rows).by
    assert by == "file"
    assert all(split is Split.TEST for split in splits[1::2])
    assert {*splits[::2]} == {Split.TRAIN, Split.DEV}  # dev comes out of train
    assert assigned([*rows, question("one without")]).by != "file"
