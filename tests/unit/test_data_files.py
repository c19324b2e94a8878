"""What is said of a data file: what is not read, what cannot be read and the way out, and a preview."""

import contextlib
import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
import tokenizers
import tokenizers.models
import tokenizers.pre_tokenizers
from hypothesis import given
from hypothesis import strategies as st

from shared.artifacts.token_counts import token_counter
from shared.contracts.data import LineError, Question
from shared.contracts.errors import UserError
from shared.contracts.file_reading import PreviewRequest
from shared.importing import dataset
from shared.importing.dataset import DataFile
from tests.fakes.data_files import GERMAN, LINES, TURN, checked, written


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
    result = checked(tmp_path, book)
    assert (result.n_rows, result.reading.references) == (3, 2)
    said = " ".join(result.reading.warnings)
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
    reading = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (reading.references, sum(reading.notes.values()), len(reading.notes)) == (3, 3, 3)


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
    reading = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (reading.references, [*reading.notes.values()], "label" in reading.ignored_fields) == (5, [2], False)


def test_a_label_that_is_the_answer_itself_stays_one(tmp_path: Path):
    rows = [{"text": f"Is {n} even?", "label": n % 2 == 0} for n in range(4)]
    reading = checked(tmp_path, json.dumps(rows).encode()).reading
    assert (reading.references, reading.notes) == (4, {})


def test_what_of_a_tree_is_not_used_is_counted(tmp_path: Path):
    alone = {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "replies": []}]}
    reading = checked(tmp_path, json.dumps([{"prompt": TURN[0]}, {"prompt": alone}]).encode()).reading
    assert (reading.references, [*reading.notes.values()], reading.ignored_fields) == (2, [1], {})


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
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
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
