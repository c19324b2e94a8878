"""Imports as jobs: real API functions, orchestrator, database, readers, and for documents the real gateway before a fake examiner."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.api.features.files import service as files
from services.api.features.files.service import Received
from services.api.features.imports import service as imports
from services.api.paging import Paging
from services.orchestrator.jobs.coverage import planned
from services.orchestrator.jobs.imports import balanced
from services.strong_model.worker.imports import read_source
from services.strong_model.worker.proposals import propose
from services.strong_model.worker.question_lists import read_questions, read_topics, usable
from services.strong_model.worker.questions import write_questions
from shared.artifacts.opening import open_uploads
from shared.artifacts.uploads import Uploads
from shared.contracts.coverage import Proposal, ProposeParams
from shared.contracts.errors import Conflict, MeteorError, UserError
from shared.contracts.estimate import Spend
from shared.contracts.file_reading import PreviewRequest, ReadOptions
from shared.contracts.imports import (
    AskParams,
    GenerateOptions,
    ImportChange,
    ImportRequest,
    Passage,
    ReadParams,
    Written,
)
from shared.contracts.labels import Label
from shared.contracts.step_key import StepKey
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.datasets.files import add_made_file, rows_of
from shared.datasets.splits import Splitter
from shared.importing import dataset
from shared.importing.dataset import DataFile
from shared.importing.documents import choose
from shared.importing.passages import LONGEST, passages_of
from shared.jobs.tables import DEFAULT_PROJECT
from shared.platform.gateway_client import GatewayClient, origin_headers
from tests.fakes.dump import answer, posts_xml, question, zipped
from tests.fakes.gateway import KEY, PATIENT, TOKEN, Gateway, running_gateway
from tests.fakes.simulated import World
from tests.fakes.start import start_teacher
from tests.fakes.system import System

DUMP = posts_xml([question(n, n + 100, "nlp") for n in range(1, 31)] + [answer(n + 100, n) for n in range(1, 30)])


class Importing(World):
    """Reads as the worker does; asks by `gateway` where there is one."""

    def __init__(self, folder: Path, gateway: Gateway | None = None):
        super().__init__()
        self.folder, self.gateway = folder, gateway

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        if request.kind is StepKind.READ:
            params = ReadParams.model_validate(request.params)
            rows, left_out, masked = read_source(params, Uploads(self.folder / "files"), lambda done, total: None)
            return StepResult(rows=rows, metrics={"left_out": left_out, "masked": masked})
        assert self.gateway is not None
        async with GatewayClient(
            self.gateway.url, TOKEN, origin_headers(DEFAULT_PROJECT, "j", str(key), "ask")
        ) as client:
            if request.kind is StepKind.PROPOSE:
                wanted = [Proposal.model_validate(row) for row in request.rows]
                proposing = ProposeParams.model_validate(request.params)
                made, metrics = await propose(client, proposing, wanted, lambda done, total: None)
                return StepResult(rows=[item.model_dump(mode="json") for item in made], metrics=metrics)
            rows = [Passage.model_validate(row) for row in request.rows]
            params = AskParams.model_validate(request.params)
            written, metrics = await write_questions(client, params, rows, lambda done, total: None)
        return StepResult(rows=[item.model_dump(mode="json") for item in written], metrics=metrics)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch, Importing(tmp_path))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = start_teacher("--api-key", KEY, module="tests.fakes.examiner")
    with server as teacher, running_gateway(teacher, tmp_path_factory.mktemp("examiner"), **PATIENT) as made:
        yield made


def stored(system: System, content: bytes, name: str) -> str:
    path = system.settings.data / "files" / f".upload-{name}"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return files.add(system.context, Received(path, digest, len(content), name, "user_data")).id


def posted(system: System, file: str | None, **source: Any) -> str:
    request = ImportRequest.model_validate({"source": source, "file": file})
    return imports.create(system.context, request).id


async def test_a_dump_becomes_a_file_that_a_job_can_learn_from(system: System):
    raw = stored(system, DUMP, "Posts.xml")
    job = posted(system, raw, type="stackexchange", site="stackoverflow.com", preset="paper")
    with pytest.raises(Conflict, match="needed by import"):
        files.delete(system.context, raw)
    async with system.running():
        await system.until(job, "succeeded")
    ended = imports.lifecycle.get(system.context, job)
    assert ended.result is not None
    assert (ended.result.rows, ended.result.left_out) == (29, {"answer not in the file": 1})
    made = files.get(system.context, ended.result.file)
    assert (made.status, made.n_rows, made.filename, made.purpose) == ("processed", 29, "Posts.jsonl", "fine-tune")
    content = files.content(system.context, made.id)[0].read_bytes()
    assert next(json.loads(line)["id"] for line in content.splitlines()) == "stackoverflow.com/1"
    checked = dataset.check(DataFile.open(files.content(system.context, made.id)[0]), Splitter(0.15, 0.2), 10, 100)
    assert checked.assigned.counts == made.splits
    assert made.reading is not None
    assert (made.reading.linked, made.reading.references) == (checked.reading.linked, 29)
    files.delete(system.context, raw)


def test_what_imported_rows_share_is_recorded_as_an_uploads_is(system: System):
    rows = [
        {"question": f"Why is number {n}{mark}", "reference": f"because of {n}"} for n in range(20) for mark in "?!"
    ]
    about = {
        "id": "file-made",
        "filename": "made.jsonl",
        "dev": 0.15,
        "test": 0.2,
        "mask": True,
        "masked": {"email": 1},
    }
    add_made_file(
        system.stores.catalog, system.artifacts, open_uploads(system.settings), DEFAULT_PROJECT, rows, **about
    )
    reading = files.get(system.context, "file-made").reading
    assert reading is not None
    assert (reading.linked, reading.left, reading.references) == ({"question": 40}, {}, 40)
    assert (reading.mask, reading.masked) == (True, {"email": 1})
    assert reading.warnings == ["rows that stand on the side of others, since they share the words of the question: 40"]


async def test_a_source_without_a_row_fails_in_words(system: System):
    job = posted(system, stored(system, posts_xml([question(1, None)]), "serverfault.com.xml"), type="stackexchange")
    async with system.running():
        await system.until(job, "failed")
    error = imports.lifecycle.get(system.context, job).error
    assert error is not None
    assert "left out: no accepted answer 1" in error.message


def test_a_source_that_cannot_be_read_or_is_too_long(tmp_path: Path):
    source = ImportRequest.model_validate({"source": {"type": "stackexchange", "site": "x.org"}}).source
    for name, content in (("a", b"<posts><row"), ("b", DUMP)):
        (tmp_path / name).write_bytes(content)
    for sha256, words in (("a", "not well-formed XML"), ("b", "more than 5 rows"), ("c", "gone from the disk")):
        with pytest.raises(MeteorError, match=words):
            read_source(ReadParams(source=source, sha256=sha256), Uploads(tmp_path), lambda done, total: None, most=5)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"source": {"type": "chat"}}, "file"),
        ({"source": {"type": "chat"}, "file": "file-nobody"}, "file"),
        ({"source": {"type": "hub", "dataset": "o/n"}, "file": "file-nobody"}, "file"),
        ({"source": {"type": "stackexchange"}, "file": "Posts.xml"}, "source.site"),
    ],
)
def test_what_could_not_run_is_refused(system: System, body: dict, param: str):
    if body.get("file") == "Posts.xml":
        body = body | {"file": stored(system, DUMP, "Posts.xml")}
    with pytest.raises(UserError) as refused:
        imports.create(system.context, ImportRequest.model_validate(body))
    assert refused.value.param == param


def fact(number: int, what: str) -> str:
    return f"Fact {number} about {what} is told here at length. " + f"Much more is said on {what}. " * 10


def documents(tmp_path: Path) -> bytes:
    long = "# Bees\n\n" + "\n\n".join(fact(n, "bees") * 3 for n in range(12))
    short = "## Ants\n\n" + fact(90, "ants")
    odd = fact(70, "moths") + " UNREADABLE"
    contents = {"a/long.md": long, "b/short.txt": short, "copy.md": short, "odd.md": odd}
    zipped(tmp_path / "docs.zip", {name: text.encode() for name, text in contents.items()} | {"picture.png": b"\x89"})
    return (tmp_path / "docs.zip").read_bytes()


async def test_documents_become_questions_balanced_and_answerable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
):
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    raw = stored(system, documents(tmp_path), "docs.zip")
    job = posted(system, raw, type="documents", domain="insects", questions=8, per_passage=3)
    async with system.running():
        await system.until(job, "succeeded")
    ended = imports.lifecycle.get(system.context, job)
    assert ended.result is not None
    path = files.content(system.context, ended.result.file)[0]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == ended.result.rows
    assert {row["category"] for row in rows} == {"a/long.md", "b/short.txt"}
    assert not [row for row in rows if "passage" in row["question"] or "unanswerable" in row["question"]]
    for row in rows:
        number = row["question"].split()[3]
        assert f"Fact {number} about" in row["reference"]
        assert row["group"] == row["source"]
    left_out = ended.result.left_out
    assert (
        left_out["files that are not .md, .markdown, .txt, .rst, .text, .adoc, .org, .html, .htm, .xhtml, .pdf, .docx"]
        == 1
    )
    assert left_out["passage stands there twice"] == 1
    assert left_out["replies that could not be read"] == 1
    assert left_out["questions that the passage does not answer, or that point at it"] >= 2 * 2


@pytest.mark.parametrize(
    ("fault", "source", "words"),
    [
        ("empty", {}, ["empty replies 8", "raise source.max_tokens"]),
        ("refusal", {}, ["replies that could not be read 8", "name another source.provider"]),
        ("RAMBLING", {"max_tokens": 16}, ["replies cut off at source.max_tokens 8", "source.max_tokens is 16", "raise source.max"]),
    ],
)  # fmt: skip
async def test_replies_without_a_question_stop_the_import_at_the_first_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway, fault: str, source: dict, words: list[str]
):
    text = "\n\n".join(f"{fact(n, 'bees')} {fault} " * 5 for n in range(20))
    zipped(tmp_path / "docs.zip", {"long.md": text.encode()})
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    raw = stored(system, (tmp_path / "docs.zip").read_bytes(), "docs.zip")
    before = len(gateway.teacher.log())
    if fault != "RAMBLING":
        gateway.teacher.fault(fault)
    try:
        job = posted(system, raw, type="documents", domain="insects", questions=60, per_passage=3, **source)
        async with system.running():
            await system.until(job, "failed")
    finally:
        gateway.teacher.heal()
    error = imports.lifecycle.get(system.context, job).error
    assert error is not None
    assert error.code == "nothing_to_import"
    assert not [part for part in words if part not in error.message], error.message
    assert len(gateway.teacher.log()) - before == 8, "the other passages are not paid for"


def test_passages_are_whole_paragraphs_and_documents_take_turns(tmp_path: Path):
    text = "# One\n\n" + "\n\n".join(fact(n, "x") for n in range(20))
    parts = passages_of("d.md", text)
    assert all(200 <= len(part.text) <= 2 * LONGEST for part in parts)
    assert sum(part.text.count("Fact ") for part in parts) == 20
    path = tmp_path / "docs.zip"
    path.write_bytes(documents(tmp_path))
    chosen = choose(path, 3, 0, Counter())
    assert Counter(part.document for part in chosen)["a/long.md"] == 1
    again = choose(path, 3, 0, Counter())
    assert chosen == again


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('["a?", "b?"]', ["a?", "b?"]),
        ('```json\n["a?"]\n```', ["a?"]),
        ("1. What is it?\n2) Why?\nno question", ["What is it?", "Why?"]),
        ("<think>[1]</think>[\"a?\", 5]", ["a?"]),
        ("['a?', 'b?',]", ["a?", "b?"]),
        ("Here [are] two: [“a?”, “b?”] Enjoy!", ["a?", "b?"]),
        ('{"questions": [{"question": "a?", "answer": "x"}, {"question": "b?"}]}', ["a?", "b?"]),
        ('Of course!\n\n1. **What is it?**\nQ2: Why?', ["What is it?", "Why?"]),
        ('["a?", "b', ["a?"]),
        ("[" * 5000, None),
        ("", None),
    ],
)  # fmt: skip
def test_replies_are_read(reply: str, expected: list[str] | None):
    assert read_questions(reply, cut_off=reply.endswith('"b')) == expected


def test_questions_that_point_at_a_text_are_not_asked():
    assert usable("How long does a bee live in summer?")
    assert not usable("What does the passage say about bees?")
    assert not usable("According to the author, what is a bee?")
    assert not usable("Why?")


def test_documents_take_turns_and_no_two_questions_are_alike():
    passages = [Passage(id=f"{name}#1", document=name, text="t") for name in ("a", "b")]
    asked = (["How far does a bee fly?", "Far does how a bee fly?", "Why 5?", "Why 6?"], ["What does an ant eat?"])
    written = [Written(id=one.id, questions=given) for one, given in zip(passages, asked, strict=True)]
    left_out: Counter[str] = Counter()
    rows = balanced(3, passages, written, left_out)
    assert [row["question"] for row in rows] == ["How far does a bee fly?", "What does an ant eat?", "Why 5?"]
    assert left_out == {"question like another one": 1, "over the limit": 1}


async def test_one_sentence_becomes_two_hundred_distinct_questions_in_balance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
):
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    job = posted(system, None, type="generate", domain="bee keeping", count=200, review=True)
    before = len(gateway.rows())
    async with system.running():
        await system.until(job, "paused")
        waiting = imports.lifecycle.get(system.context, job)
        assert isinstance(waiting.source, GenerateOptions)
        assert waiting.source.coverage is not None
        assert sum(cell.questions for cell in waiting.source.coverage) == 200
        assert waiting.estimate is not None
        assert waiting.estimate.calls.low >= len(waiting.source.coverage)
        assert "coverage map" in str(waiting.status_reason)
        imports.lifecycle.resume(system.context, job)
        await system.until_ran(job, 4)
    system.expire_leases()
    async with system.running():  # another orchestrator goes on where the first one was ended
        await system.until(job, "succeeded", within_s=60)
    result = imports.lifecycle.get(system.context, job).result
    assert result is not None
    rows = [json.loads(line) for line in files.content(system.context, result.file)[0].read_text().splitlines()]
    assert len({" ".join(row["question"].casefold().split()) for row in rows}) == len(rows) == 200
    counts = [cell.made for cell in result.coverage]
    assert (result.shortfall, sum(counts), len(counts)) == (0, 200, 36)
    assert max(counts) <= 2 * min(counts)
    assert Counter(row["category"] for row in rows) == Counter(
        {
            topic: sum(cell.made for cell in result.coverage if cell.topic == topic)
            for topic in {c.topic for c in result.coverage}
        }
    )
    assert all(row["source"].startswith(f"generated by default: topic {row['category']}, ") for row in rows)
    assert result.left_out["question like another one"] > 0
    assert result.left_out["questions that point at a text, or are too short or too long"] > 0
    asked = [row.request_hash for row in gateway.rows()[before:] if row.outcome == "ok" and not row.cached]
    assert len(asked) >= 36
    assert len(set(asked)) == len(asked), "no request was paid for twice"


def test_an_estimate_is_told_before_an_import_is_posted(system: System):
    def told(**source: Any) -> Spend | None:
        return imports.estimate(system.context, ImportRequest.model_validate({"source": source})).strong_model

    few, many = (told(type="generate", domain="bees", count=count) for count in (20, 2000))
    assert few is not None
    assert many is not None
    assert 0 < few.calls.low <= few.calls.high < many.calls.low
    assert told(type="hub", dataset="org/name") == Spend()
    with pytest.raises(UserError, match="upload it"):
        told(type="documents", domain="bees")
    assert imports.lifecycle.page(system.context, Paging(None, 10)).data == []


async def test_a_changed_map_is_what_is_asked_for_and_a_shortfall_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
):
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    job = posted(system, None, type="generate", domain="bees REPEATING", topics=["Hives", "Wax"], count=60, review=True)
    cells = [{"topic": "Hives", "level": "basic", "questions": 9}, {"topic": "Law", "level": "how-to", "questions": 5}]
    async with system.running():
        await system.until(job, "paused")
        imports.change(system.context, job, ImportChange.model_validate({"coverage": cells}))
        imports.lifecycle.resume(system.context, job)
        await system.until(job, "succeeded")
    result = imports.lifecycle.get(system.context, job).result
    assert result is not None
    assert [(cell.topic, cell.level, cell.questions, cell.made) for cell in result.coverage] == [
        ("Hives", "basic", 9, 3),
        ("Law", "how-to", 5, 0),
    ]
    assert (result.rows, result.shortfall) == (3, 11)
    assert result.left_out["questions that the map wants and the strong model did not write"] == 11
    with pytest.raises(Conflict, match="while the import waits with it"):
        imports.change(system.context, job, ImportChange.model_validate({"coverage": cells}))


async def test_questions_are_made_from_documents_and_from_what_was_answered_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
):
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    log = "\n".join(json.dumps({"question": f"How do I find robber bees number {n}?"}) for n in range(4)).encode()
    whole = [
        Label.model_validate({"question": "Why do bees dance?", "first": "a", "second": "b", "preferred": "first"})
    ]
    system.stores.labels.add(DEFAULT_PROJECT, whole)
    of_documents = posted(
        system, stored(system, documents(tmp_path), "docs.zip"), type="generate", domain="insects", count=12
    )
    of_log = posted(system, stored(system, log, "log.jsonl"), type="generate", domain="bees", count=12, material="log", labels=True)  # fmt: skip
    async with system.running():
        await system.until(of_documents, "succeeded")
        await system.until(of_log, "succeeded")
    for job, origins in ((of_documents, {"a/long.md", "b/short.txt", "odd.md"}), (of_log, {"log"})):
        result = imports.lifecycle.get(system.context, job).result
        assert result is not None
        rows = [json.loads(line) for line in files.content(system.context, result.file)[0].read_text().splitlines()]
        assert len(rows) == 12
        assert all(row["source"].endswith(f"from {row['group']}") for row in rows)
        groups = {row["group"].partition("#")[0] for row in rows}
        assert groups & origins
        assert not [row for row in rows if "robber bees number" in row["question"]]
    assert any(group.startswith("label-") for group in groups)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("empty", ["empty replies", "raise source.max_tokens"]), ("refusal", ["replies that could not be read", "another source.provider"])],
)  # fmt: skip
async def test_a_teacher_that_proposes_nothing_ends_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway, fault: str, words: list[str]
):
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    before = len(gateway.teacher.log())
    gateway.teacher.fault(fault)
    try:
        job = posted(system, None, type="generate", domain=f"bees {fault}", count=50)
        async with system.running():
            await system.until(job, "failed")
    finally:
        gateway.teacher.heal()
    error = imports.lifecycle.get(system.context, job).error
    assert error is not None
    assert not [part for part in words if part not in error.message], error.message
    assert len(gateway.teacher.log()) - before == 3


@pytest.mark.parametrize("count", [1, 5, 36, 200, 1000])
@pytest.mark.parametrize("topics", [1, 7, 40])
def test_a_planned_map_is_in_balance(count: int, topics: int):
    cells = planned([f"topic {n}" for n in range(topics)], ["basic", "advanced", "odd"], count)
    counts = [cell.questions for cell in cells]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coverage": [{"topic": "a", "level": "b", "questions": 0}]}, "asks for 1 to 5000 questions"),
        ({"coverage": [{"topic": "a", "level": "b", "questions": 1}] * 2}, "names a topic twice"),
        ({}, "name what changes"),
    ],
)
def test_maps_that_cannot_be(change: dict, words: str):
    with pytest.raises(ValueError, match=words):
        ImportChange.model_validate(change)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('["Hives", "Queen rearing"]', ["Hives", "Queen rearing"]),
        ('{"topics": [{"topic": "Hives", "why": "x"}, {"name": "Wax"}]}', ["Hives", "Wax"]),
        ("Sure!\n1. **Hives** - where bees live\n2. Wax: what combs are made of\n", ["Hives", "Wax"]),
        ("I would rather not.", None),
        ('["Hives", "Wa', ["Hives"]),
        ("", None),
    ],
)  # fmt: skip
def test_topics_are_read(reply: str, expected: list[str] | None):
    assert read_topics(reply, cut_off=reply.endswith("Wa")) == expected


SECRETS = ("bob@example.com", "+49 30 901820")


async def test_masked_documents_reach_neither_the_teacher_nor_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway, capfd: pytest.CaptureFixture[str]
):
    text = "\n\n".join(f"{fact(n, 'masks')} Write to {SECRETS[0]}, or call {SECRETS[1]}." for n in range(6))
    zipped(tmp_path / "docs.zip", {"bob@example.com.md": text.encode()})
    system = System(tmp_path, monkeypatch, Importing(tmp_path, gateway))
    before = len(gateway.teacher.log())
    made = []
    for source in (
        {"type": "documents", "domain": "insects", "questions": 6},
        {"type": "generate", "domain": "insects", "count": 6, "topics": ["Masks"]},
    ):
        raw = stored(system, (tmp_path / "docs.zip").read_bytes(), "docs.zip")
        body = {"source": source, "file": raw, "mask": True}
        made.append(imports.create(system.context, ImportRequest.model_validate(body)).id)
    async with system.running():
        for job in made:
            await system.until(job, "succeeded")
    for job in made:
        result = imports.lifecycle.get(system.context, job).result
        assert result is not None
        assert result.masked["phone"] == 6
        reading = files.get(system.context, result.file).reading
        assert reading is not None
        assert reading.mask, "a new version of it is masked too"
        assert reading.masked == result.masked
        assert result.masked["email"] >= 6
        content = files.content(system.context, result.file)[0].read_text()
        assert not [secret for secret in SECRETS if secret in content]
    asked = json.dumps([entry["messages"] for entry in gateway.teacher.log()[before:]])
    assert "[EMAIL]" in asked
    assert not [secret for secret in SECRETS if secret in asked]
    assert not [secret for secret in SECRETS if secret in "".join(capfd.readouterr())]


def test_an_upload_is_masked_when_it_is_asked_for(system: System):
    line = json.dumps({"question": f"Who is {SECRETS[0]}?", "reference": f"call {SECRETS[1]}", "comment": "x"})
    content = "".join(line.replace("Who", f"Who {n}") + "\n" for n in range(12)).encode()
    path = system.settings.files / ".upload-masked"
    for options, counts, shown in (
        (ReadOptions(mask=True), {"email": 12, "phone": 12}, "Who 0 is [EMAIL]?"),
        (ReadOptions(), {}, f"Who 0 is {SECRETS[0]}?"),
    ):
        path.write_bytes(content)
        upload = Received(path, hashlib.sha256(content).hexdigest(), len(content), "a.jsonl", "fine-tune", options)
        made = files.add(system.context, upload)
        assert made.reading is not None
        assert (made.reading.mask, made.reading.masked) == (options.mask, counts)
        record = system.context.file(made.id)
        rows = list(rows_of(record, system.artifacts, system.stores.catalog).read([0]))
        assert rows[0].question == shown
        preview = files.preview(system.context, made.id, PreviewRequest(rows=1))
        assert preview.rows[0].after is not None
        assert preview.rows[0].after.question == shown
        assert files.preview(system.context, made.id, PreviewRequest(mask=True)).reading.masked == {
            "email": 12,
            "phone": 12,
        }
    path.write_bytes(content)
    raw = Received(path, "0" * 64, len(content), "a.jsonl", "user_data", ReadOptions(mask=True))
    with pytest.raises(UserError, match="masking is an option of its import"):
        files.add(system.context, raw)
