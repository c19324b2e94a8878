"""Reading an upload line by line, in bounded memory."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.context import ApiContext, open_context
from services.api.features.files import service as files
from services.api.settings import ApiSettings
from shared.contracts.data import MAX_LINE_BYTES, SKIP_BYTES, bounded_lines
from shared.contracts.errors import UserError
from shared.datasets.splits import Splitter
from shared.importing import dataset
from shared.importing.dataset import DataFile
from shared.platform.settings import PlatformSettings


class CountingFile(io.BytesIO):
    """Notes the longest piece that was asked for or handed out."""

    longest = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size > 0
        line = super().readline(size)
        self.longest = max(self.longest, len(line))
        return line


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\n\r\nb", [b"a", b"", b"b"]),
        (b"x" * MAX_LINE_BYTES + b"\nb\n", [b"x" * MAX_LINE_BYTES, b"b"]),
        (b"x" * (MAX_LINE_BYTES + 1) + b"\nb\n", [b"x" * (MAX_LINE_BYTES + 1), b"b"]),
        (b"x" * (3 * MAX_LINE_BYTES) + b"\nb\n", [b"x" * (MAX_LINE_BYTES + 1), b"b"]),
        (b"x" * (3 * MAX_LINE_BYTES), [b"x" * (MAX_LINE_BYTES + 1)]),
    ],
    ids=["empty", "no_newline", "two", "crlf", "longest", "one_more", "far_too_long", "long_without_end"],
)
def test_bounded_lines(content: bytes, lines: list[bytes]):
    file = CountingFile(content)
    assert list(bounded_lines(file)) == lines
    assert file.longest <= max(MAX_LINE_BYTES + 1, SKIP_BYTES)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line and b"\r" not in line)))
def test_bounded_lines_are_the_file_s_lines(lines: list[bytes]):
    assert list(bounded_lines(io.BytesIO(b"".join(line + b"\n" for line in lines)))) == lines


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("rows.jsonl", "rows.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\rows.jsonl", "rows.jsonl"),
        ("a\x00b\nc.jsonl", "abc.jsonl"),
        ("..", ".."),
        ("", "upload.jsonl"),
        ("dir/", "upload.jsonl"),
        ("ü" * 300, "ü" * 255),
    ],
)
def test_clean_filename(given_name: str, kept: str):
    assert files.clean_filename(given_name) == kept


@pytest.fixture
def context(tmp_path: Path) -> ApiContext:
    return open_context(ApiSettings(max_rows=10), PlatformSettings(data=tmp_path))


def check(context: ApiContext, path: Path, most_errors: int) -> dataset.Checked:
    return dataset.check(DataFile.open(path), Splitter(0.15, 0.2), most_errors, context.settings.max_rows)


def test_too_many_rows_are_refused(context: ApiContext, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "a"}\n' * 11)
    with pytest.raises(UserError) as refused:
        check(context, path, 100)
    assert refused.value.code == "too_many_rows"


def test_check_counts_splits_and_stops_at_enough_errors(context: ApiContext, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "a"}\nx\ny\nz\n{"question": "b"}\n')
    every = check(context, path, 3)
    assert (every.n_rows, len(every.assigned.splits), len(every.errors), every.more) == (2, 2, 3, False)
    some = check(context, path, 2)
    assert ([error.line for error in some.errors], some.more) == ([2, 3], True)
