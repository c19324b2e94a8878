"""Data files in every format, archive and encoding hold the same rows."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import ipc, parquet

from shared.contracts.data import Question, Split
from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions
from shared.importing import dataset
from shared.importing.dataset import DataFile
from tests.fakes.data_files import GERMAN, LINES, ROWS, written

TABLE = pyarrow.Table.from_pylist(ROWS)


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
