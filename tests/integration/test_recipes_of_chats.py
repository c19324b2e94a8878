"""Recipes that take stored chats, over the real API functions, orchestrator and database: what a run takes, and that it makes one job."""

import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from services.api.context import ApiContext
from services.api.features.imports import service as imports
from services.api.features.recipes import service as recipes_api
from services.api.features.recipes.runner import RecipeRunner
from shared.contracts.data import Question
from shared.contracts.errors import TransientError, UserError
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.imports import ImportObject, ImportRequest
from shared.contracts.jobs import JobKind
from shared.contracts.notices import NoticeKind
from shared.contracts.recipes import RecipeObject, RecipeRequest
from shared.datasets.files import rows_of
from shared.db.engine import reading, writing
from shared.importing import storing
from shared.importing.chats import HELD, LEARNED
from shared.jobs.chat_store import ChatStore
from shared.jobs.job_store import JobStore
from shared.jobs.recipe_store import RecipeStore
from shared.jobs.tables import DEFAULT_PROJECT, jobs, recipe_chats, recipes
from tests.fakes.simulated import BASE
from tests.fakes.system import System

WORDS = ["apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island", "jungle", "kettle"]
JOB: dict[str, Any] = {
    "model": BASE.base,
    "suffix": "looped",
    "distillation": {
        "domain": "d", "primary_metric": "string_check", "guidance": "none", "phases": ["distill"],
        "evaluation": {"baselines": [], "forgetting": 0},
    },
}  # fmt: skip


class Killed(BaseException):
    """Ends a process as a signal does: nothing catches it."""


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def asked(number: int) -> str:
    return f"Where does the {WORDS[number % 11]} stand in row {number} of the {WORDS[number // 11 % 11]} list?"


def serve(
    system: System,
    *numbers: int,
    again: str = "",
    alias: str = "simulated",
    version: int | None = None,
    many_users: bool = False,
    app: str | None = None,
) -> None:
    """Chats that were stored, each with a question of its own. again: part of the ids of chats that ask what others have asked. app: the
    application that they name in their metadata."""
    rows = [
        {
            "id": f"chatcmpl-{number:04}{again}", "project_id": DEFAULT_PROJECT, "alias": alias, "version": version,
            "model": alias, "user": f"user-{number if many_users else number % 7}", "safety_identifier": None, "bytes": 10,
            "metadata": {} if app is None else {"app": app},
            "request": {"messages": [{"role": "user", "content": asked(number)}]}, "masked": None, "request_id": "r",
            "answer": {"choices": [{"message": {"content": "There."}, "finish_reason": "stop"}]}, "created_at": time.time(),
        }
        for number in numbers
    ]  # fmt: skip
    system.stores.chats.add(rows)


def correct(system: System, *numbers: int, words: str = "In place") -> None:
    for number in numbers:
        name = f"chatcmpl-{number:04}"
        request = FeedbackRequest(completion_id=name, rating="down", correction=f"{words} {number}.")
        system.stores.feedback.put(system.stores.chats.get(DEFAULT_PROJECT, name), request)


def recipe(system: System, job: dict[str, Any] = JOB, **changes: Any) -> str:
    body = {"name": "weekly", "job": job, "source": {"type": "completions"}, "trigger": {"rows": 50}} | changes
    return recipes_api.create(system.context, RecipeRequest.model_validate(body)).id


def step(system: System, due: bool = True) -> None:
    """What a process does when it looks, with every lost lease at its end; due: with every recipe's time come."""
    if due:
        with writing(system.stores.jobs.engine) as connection:
            connection.execute(update(recipes).values(look_at=0.0))
    context = ApiContext(**{field.name: getattr(system.context, field.name) for field in fields(ApiContext)})
    while RecipeRunner(context, lease_s=-1).step():
        pass


async def until_made(system: System, recipe_id: str, run: int) -> RecipeObject:
    """Look until the run has ended."""
    deadline = time.monotonic() + 600
    while True:
        step(system)
        shown = recipes_api.get(system.context, recipe_id)
        if shown.runs == run and shown.last_run is not None and shown.last_run.status != "making":
            return shown
        assert time.monotonic() < deadline, shown
        waiting = shown.waits_for
        if waiting and waiting.startswith("import"):
            await ended(system, waiting)


async def ended(system: System, import_id: str) -> ImportObject:
    await system.until(import_id, "succeeded")
    return imports.lifecycle.get(system.context, import_id)


def rows(system: System, file_id: str | None) -> dict[str, Question]:
    assert file_id is not None
    file = system.context.file(file_id)
    return {row.id: row for row in rows_of(file, system.artifacts, system.stores.catalog)}


def ids_of_jobs(system: System, kind: JobKind) -> list[str]:
    with reading(system.stores.jobs.engine) as connection:
        return list(connection.execute(select(jobs.c.id).where(jobs.c.kind == kind)).scalars())


def told(system: System, recipe_id: str) -> list[str]:
    notices, _ = system.stores.notices.page(DEFAULT_PROJECT, NoticeKind.RECIPE, recipe_id, None, 100)
    return [one.type for one in reversed(notices)]


async def test_new_chats_grow_the_dataset_and_make_the_next_job(system: System):
    """Of the application that the recipe names. Others in the same project store corrected chats as well."""
    made = recipe(system, source={"type": "completions", "metadata": {"app": "shop"}})
    serve(system, *range(60), app="shop")
    serve(system, 300)
    serve(system, 301, app="help")
    correct(system, *range(60), 300, 301)
    async with system.running():
        assert recipes_api.get(system.context, made).new_rows == 60
        first = await until_made(system, made, 1)
        assert first.last_run is not None
        assert (first.last_run.status, first.last_run.rows, first.new_rows) == ("made", 60, 0)
        before = rows(system, first.dataset)
        assert {row.reference for row in before.values()} == {f"In place {number}." for number in range(60)}
        job = system.row(first.last_run.job_id or "")
        assert (job.file_id, job.request["metadata"]) == (first.dataset, {"recipe": made, "recipe_run": "1"})
        await system.until(job.id, "succeeded")

        serve(system, *range(100, 130), app="shop")  # are new
        serve(system, *range(5), again="-again", app="shop")  # were asked before
        correct(system, 7, 8, words="Not there, but in")
        step(system)
        waiting = recipes_api.get(system.context, made)
        assert (waiting.runs, waiting.new_rows) == (1, 37)
        serve(system, *range(130, 150), app="shop")
        second = await until_made(system, made, 2)
        assert second.last_run is not None
        assert second.last_run.import_id is not None
        result = (await ended(system, second.last_run.import_id)).result
        assert result is not None
        assert (result.rows, result.added, result.replaced, result.left_out) == (110, 50, 2, {HELD: 5})
        after = rows(system, second.dataset)
        assert {name: row.split for name, row in before.items()} == {name: after[name].split for name in before}
        assert after["chatcmpl-0007"].reference == "Not there, but in 7."
        assert system.context.file(second.dataset or "").previous_id == first.dataset
        await system.until(second.last_run.job_id or "", "running", "succeeded")
    assert told(system, made) == ["created", "made", "made"]
    assert len(ids_of_jobs(system, JobKind.DISTILLATION)) == 2


async def test_what_the_model_has_learned_elsewhere_is_left_out_unless_it_was_wrong(system: System):
    serve(system, *range(60))
    correct(system, *range(60))
    other = recipe(system)
    async with system.running():
        first = await until_made(system, other, 1)
        assert first.last_run is not None
        await system.until(first.last_run.job_id or "", "succeeded")
        serve(system, *range(4), again="-again", alias="looped")
        serve(system, *range(200, 240), alias="looped")
        wrong = FeedbackRequest(completion_id="chatcmpl-0003-again", correction="Elsewhere.")
        system.stores.feedback.put(system.stores.chats.get(DEFAULT_PROJECT, wrong.completion_id), wrong)
        correct(system, *range(200, 240))
        source = {"type": "completions", "model": "looped"}
        made = recipe(system, JOB | {"model": "looped"}, source=source, trigger={"every": "P1D"})
        second = await until_made(system, made, 1)
        assert second.last_run is not None
        result = (await ended(system, second.last_run.import_id or "")).result
        assert result is not None
        assert (result.rows, result.left_out) == (41, {LEARNED: 3})
        assert rows(system, second.dataset)["chatcmpl-0003-again"].reference == "Elsewhere."
        assert system.row(second.last_run.job_id or "").request["model"] == "looped@1"


async def test_a_period_without_new_chats_makes_no_job_and_says_so(system: System):
    made = recipe(system, trigger={"every": "P1D"})
    async with system.running():
        shown = await until_ended_without_a_job(system, made)
    assert shown.last_run is not None
    assert (shown.last_run.status, shown.last_run.job_id, shown.last_run.error) == ("nothing_new", None, None)
    assert told(system, made) == ["created", "nothing_new"]
    assert ids_of_jobs(system, JobKind.DISTILLATION) == []


async def until_ended_without_a_job(system: System, recipe_id: str) -> RecipeObject:
    """One run, not the one that a further period would begin."""
    deadline, due = time.monotonic() + 60, True
    while True:
        step(system, due)
        due = False
        shown = recipes_api.get(system.context, recipe_id)
        if shown.last_run is not None and shown.last_run.status != "making":
            return shown
        assert time.monotonic() < deadline, shown
        if shown.waits_for:
            await until_final(system, shown.waits_for)


async def until_final(system: System, job_id: str) -> None:
    await system.until(job_id, "succeeded", "failed")


async def test_a_job_that_is_refused_leaves_its_rows_to_the_next_run(system: System):
    """Too few chats for a job: they are in the dataset, and count as new until a job learns them."""
    made = recipe(system, trigger={"rows": 2})
    serve(system, 1, 2)
    async with system.running():
        first = await until_made(system, made, 1)
        assert first.last_run is not None
        assert (first.last_run.status, first.new_rows) == ("failed", 2)
        serve(system, *range(100, 160))
        correct(system, *range(100, 160))
        second = await until_made(system, made, 2)
        assert second.last_run is not None
        assert (second.last_run.status, second.last_run.rows) == ("made", 62)


Where = tuple[type | Any, str, bool]  # whose function, its name, whether it has done its work when the process ends
IN_THE_API: dict[str, Where] = {
    "before the import is posted": (JobStore, "create", False),
    "after the import was posted": (JobStore, "create", True),
    "after the run was given back": (RecipeStore, "wait", True),
    "before the version is noted": (RecipeStore, "learn_from", False),
    "after the version was noted": (RecipeStore, "learn_from", True),
    "before the run ends": (RecipeStore, "end", False),
}
IN_THE_ORCHESTRATOR: dict[str, Where] = {
    "before chats are taken": (ChatStore, "take", False),
    "after chats were taken": (ChatStore, "take", True),
    "before the version is kept": (storing, "keep_version", False),
    "after the version was kept": (storing, "keep_version", True),
}


def break_once(monkeypatch: pytest.MonkeyPatch, where: Where, error: BaseException) -> Callable[[], bool]:
    """Returns whether it broke."""
    owner, name, after = where
    real, broke = getattr(owner, name), [False]

    def breaking(*given: Any, **named: Any) -> Any:
        if broke[0]:
            return real(*given, **named)
        broke[0] = True
        if after:
            real(*given, **named)
        raise error

    monkeypatch.setattr(owner, name, breaking)
    return lambda: broke[0]


@pytest.mark.parametrize("place", IN_THE_API | IN_THE_ORCHESTRATOR)
async def test_wherever_a_process_ends_a_run_makes_one_version_and_one_job(
    system: System, monkeypatch: pytest.MonkeyPatch, place: str
):
    with monkeypatch.context() as changes:
        dataset = system.file(train=40)
        serve(system, *range(20))
        correct(system, *range(20))
        source = {"type": "completions", "dataset": dataset}
        made = recipe(system, source=source, trigger={"rows": 90})
        where = (IN_THE_API | IN_THE_ORCHESTRATOR)[place]
        broke = break_once(changes, where, Killed() if place in IN_THE_API else TransientError("the process ended"))
        deadline = time.monotonic() + 600
        async with system.running():
            while True:
                try:
                    shown = await until_made(system, made, 1)
                    break
                except Killed:
                    assert time.monotonic() < deadline
            assert broke()
            step(system)
            assert shown.last_run is not None
            assert (shown.last_run.status, shown.last_run.rows, shown.runs) == ("made", 100, 1)
    assert ids_of_jobs(system, JobKind.IMPORT) == [shown.last_run.import_id]
    assert ids_of_jobs(system, JobKind.DISTILLATION) == [shown.last_run.job_id]
    assert [file.version for file in system.stores.catalog.versions(DEFAULT_PROJECT, dataset)] == [2, None]
    assert len(rows(system, shown.dataset)) == 100
    with reading(system.stores.jobs.engine) as connection:
        taken = connection.execute(select(recipe_chats.c.run)).scalars().all()
    assert taken == [1] * 20


def test_an_import_names_a_dataset_that_there_is(system: System):
    for source in ({"type": "completions", "dataset": "file-nobody"}, {"type": "completions", "agreement_below": 2}):
        with pytest.raises((ValueError, UserError), match=r"file-nobody|agreement_below"):
            imports.create(system.context, ImportRequest.model_validate({"source": source}))


@pytest.mark.parametrize("grows", [True, False])
async def test_a_chat_that_is_forgotten_while_its_row_is_stored_is_in_no_dataset(
    system: System, monkeypatch: pytest.MonkeyPatch, grows: bool
):
    """grows: the import adds to a dataset, or makes one. It has looked for deleted chats before."""
    serve(system, *range(20))
    correct(system, *range(20))
    source: dict[str, Any] = {"type": "completions"} | ({"dataset": system.file(train=40)} if grows else {})
    real, forgotten = ChatStore.note_origins, []

    def noted(store: ChatStore, origins: Any) -> set[str]:
        gone = real(store, origins)
        if not forgotten:
            forgotten.extend(store.forget(DEFAULT_PROJECT, ["user-3"]).completions)
        return gone

    monkeypatch.setattr(ChatStore, "note_origins", noted)
    async with system.running():
        made = imports.create(system.context, ImportRequest.model_validate({"source": source}))
        result = (await ended(system, made.id)).result
    assert forgotten == ["chatcmpl-0003", "chatcmpl-0010", "chatcmpl-0017"]
    assert result is not None
    held = rows(system, result.file)
    assert len(held) == 17 + 80 * grows
    assert not held.keys() & set(forgotten)
    uploaded = [
        path.read_text() for path in system.context.files.iterdir() if path.is_file() and path.suffix != ".lock"
    ]
    assert not [text for text in uploaded if any(name in text for name in forgotten)]
