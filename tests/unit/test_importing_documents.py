"""Documents of every kind as text, and those that were made to do harm: refused early, and their names lead nowhere."""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.errors import Cancelled, UserError
from shared.importing import conversion
from shared.importing.archive import DIRECTORY_BYTES, MOST_RATIO
from shared.importing.conversion import OFFICE, kind_of, text_of
from shared.importing.documents import DOCUMENT_BYTES, choose, documents
from shared.importing.extract import BadDocument
from shared.importing.passages import LONGEST, SHORTEST
from tests.fakes.dump import zipped
from tests.fakes.papers import docx, encrypted_pdf, paragraph, pdf, table


def read(path: Path) -> list[tuple[str, str]]:
    return list(documents(path, Counter()))


def test_a_bomb_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="more than"):
        read(zipped(tmp_path / "bomb.zip", {"a.md": b" " * (DOCUMENT_BYTES + 1)}))


def test_a_zip_of_very_many_names_is_refused_before_they_are_read(tmp_path: Path):
    path = zipped(tmp_path / "many.zip", {"a.md": b"text"})
    content = path.read_bytes()
    begin = content.index(b"PK\x01\x02")
    entry, end = content[begin : content.index(b"PK\x05\x06")], bytearray(content[content.index(b"PK\x05\x06") :])
    count = DIRECTORY_BYTES // len(entry) + 1
    end[12:16] = (count * len(entry)).to_bytes(
        4, "little"
    )  # the directory's length; the number of files is not looked at
    path.write_bytes(content[:begin] + entry * count + bytes(end))
    with pytest.raises(UserError, match="lists too many"):
        read(path)


def test_names_are_labels(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"../../etc/cron.md": b"a", "/root/b.txt": b"b", "c\r\n\u202e.md": b"c"})
    before = set(tmp_path.parent.rglob("*"))
    assert read(path) == [("../../etc/cron.md", "a"), ("/root/b.txt", "b"), ("c.md", "c")]
    assert set(tmp_path.parent.rglob("*")) == before


PAPERS = {
    "pdf": (pdf([["Bees dance.", "They tell the way."], [], ["Page three."]]), "Bees dance.\nThey tell the way.\n\n\n\n\nPage three.\n"),
    "docx": (
        docx(paragraph("Bees &amp; ants", "Heading1") + paragraph("Bees dance.") + table([["who", "what"], ["bee", "dances"]]) + paragraph("End.")),
        "# Bees & ants\n\nBees dance.\n\nwho | what\n--- | ---\nbee | dances\n\nEnd.",
    ),
    "html": (
        '<html><head><meta charset="iso-8859-1"></head><body><h2>K\xe4se</h2><p>a</p><table><tr><th>who<th>what<tr><td>bee<td>dances</table><pre>x = 1\n  y</pre></body></html>'.encode("latin-1"),
        "## Käse\n\na\n\nwho | what\n--- | ---\nbee | dances\n\n```\nx = 1\n  y\n```",
    ),
    "text": ("Grüße,\nBienen tanzen über Äcker.".encode("cp1252"), "Grüße,\nBienen tanzen über Äcker."),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAPERS)
def test_every_kind_becomes_text_by_its_content_whatever_its_name(tmp_path: Path, kind: str):
    content, text = PAPERS[kind]
    assert kind_of("wrong.txt", content) == kind
    assert read(zipped(tmp_path / "a.zip", {"wrong.txt": content})) == [("wrong.txt", text)]


def test_one_document_needs_no_zip(tmp_path: Path):
    content, text = PAPERS["docx"]
    (tmp_path / "alone").write_bytes(content)
    assert list(documents(tmp_path / "alone", Counter(), name="handbook")) == [("handbook", text)]


BAD = [
    ("encrypted.pdf", encrypted_pdf(["secret"]), "encrypted PDF"),
    ("scanned.pdf", pdf([[], []]), "PDF without text"),
    ("broken.pdf", b"%PDF-1.4\nnothing", "damaged PDF"),
    ("wrong.pdf", b"no PDF at all", "no PDF, whatever its name says"),
    ("old.docx", OFFICE + b"x" * 100, "old or encrypted Office file"),
    ("bomb.docx", docx(paragraph("a" * (MOST_RATIO * 200_000))), "cannot be unpacked"),
    ("cut.docx", docx("")[:-30], "damaged ZIP or DOCX"),
    ("binary.txt", bytes(range(256)) * 20, ""),
    ("deep.docx", docx("<w:p>" * 30_000 + "</w:p>" * 30_000), "DOCX"),
]


@pytest.mark.parametrize(("name", "content", "words"), [pytest.param(*case, id=case[0]) for case in BAD])
def test_a_bad_document_is_counted(tmp_path: Path, name: str, content: bytes, words: str):
    left_out: Counter[str] = Counter()
    path = zipped(tmp_path / "a.zip", {name: content, "good.md": b"good"})
    assert list(documents(path, left_out)) == [("good.md", "good")]
    (reason,) = left_out
    assert words in reason
    assert left_out[reason] == 1


def test_one_bad_document_is_refused(tmp_path: Path):
    (tmp_path / "alone").write_bytes(BAD[0][1])
    with pytest.raises(UserError, match=r"cannot be read: encrypted PDF; save it without a password"):
        list(documents(tmp_path / "alone", Counter(), name="alone"))


def test_a_conversion_ends_at_its_limits_and_when_nobody_waits(monkeypatch: pytest.MonkeyPatch):
    page = b"<p>" + b"word " * 100_000
    monkeypatch.setattr(conversion, "WALL_S", 0.0)
    with pytest.raises(BadDocument, match="too much time or memory"):
        text_of("html", page)
    monkeypatch.undo()

    def stop() -> None:
        raise Cancelled("stopped")

    monkeypatch.setattr(conversion, "LOOK_S", 0.001)
    with pytest.raises(Cancelled):
        text_of("html", page, stop)


def test_the_process_that_converts_sees_no_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_INTERNAL_TOKEN", "secret")
    seen: list[dict[str, str]] = []
    real = subprocess.Popen

    def noted(*args: Any, **options: Any) -> Any:
        seen.append(options["env"])
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", noted)
    assert text_of("html", b"<p>a") == "a"
    assert set(seen[0]) <= {*conversion.PASSED_ON, "PYTHONPATH"}


def test_html_of_one_element_is_cut_into_passages(tmp_path: Path):
    text = " ".join(f"Sentence {number} ends here." for number in range(3000))
    path = zipped(tmp_path / "a.zip", {"one.html": f"<html><body><div>{text}".encode()})
    chosen = choose(path, 2500, 0, Counter())
    assert sorted(" ".join(passage.text for passage in chosen).split()) == sorted(text.split())
    assert max(len(passage.text) for passage in chosen) <= LONGEST + SHORTEST


def test_what_is_too_short_for_a_passage_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"documents shorter than 200 characters 1"):
        choose(zipped(tmp_path / "a.zip", {"a.md": b"short"}), 1, 0, Counter())
