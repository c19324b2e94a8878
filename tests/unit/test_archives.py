"""Archives that are never written down: what tar reads of them, and any part of their bytes."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.responses.downloads import RangeNotSatisfiable, span
from shared.artifacts.archives import Member, archive, archive_of
from shared.artifacts.store import Artifacts
from shared.contracts.exports import ExportFormat, ExportIndex


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "weights"
    path.write_bytes(bytes(range(256)) * 5)
    return path


def test_tar_reads_what_went_in(file: Path):
    long = "folder/" + "n" * 180 + ".json"
    made = archive(
        [Member("a/README.md", b"hello"), Member("a/weights", file), Member(long, b""), Member("z", b"x" * 512)]
    )
    content = b"".join(made.read())
    assert len(content) == made.size
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        contents = {info.name: member.read() for info in tar if (member := tar.extractfile(info))}
        assert {(info.mtime, info.uid, info.uname, info.mode) for info in tar} == {(0, 0, "", 0o644)}
    assert contents == {"a/README.md": b"hello", "a/weights": file.read_bytes(), long: b"", "z": b"x" * 512}


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_any_part_is_that_part(file: Path, start: int, stop: int):
    made = archive([Member("a", b"hello"), Member("weights", file)])
    assert b"".join(made.read(start, stop)) == b"".join(made.read())[start:stop]


def test_equal_files_make_equal_archives_on_any_day(tmp_path: Path):
    made = []
    for number in (1, 2):
        source = tmp_path / f"source{number}"
        source.mkdir()
        for name in ("b.json", "a.safetensors") if number == 1 else ("a.safetensors", "b.json"):
            (source / name).write_text(name)
        artifacts = Artifacts(tmp_path / f"artifacts{number}")
        index = ExportIndex(
            top="expert-1",
            folders={ExportFormat.ADAPTER: artifacts.put_folder(source)},
            readme="card",
            manifest={"b": 1, "a": 2},
        )
        made.append(archive_of(index, ExportFormat.ADAPTER, artifacts))
    assert made[0].sha256() == made[1].sha256()
    with tarfile.open(fileobj=io.BytesIO(b"".join(made[0].read()))) as tar:
        top = "expert-1-adapter/"
        names = ["README.md", "manifest.json", "a.safetensors", "b.json"]
        assert tar.getnames() == [top + name for name in names]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=0-1,5-6", None),
        ("bytes=9-3", None),
        ("lines=0-1", None),
    ],
)
def test_ranges_as_the_standard_has_them(header: str, wanted: tuple[int, int] | None):
    assert span(header, 100) == wanted


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_that_holds_nothing_is_refused(header: str):
    with pytest.raises(RangeNotSatisfiable):
        span(header, 100)
