"""A zip of documents that was made to do harm: refused early, and its names lead nowhere."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from shared.contracts.errors import UserError
from shared.importing.archive import DIRECTORY_BYTES
from shared.importing.documents import DOCUMENT_BYTES, documents


def zipped(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


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
