"""After a person was forgotten no byte of the data folder holds what they wrote: databases, their logs, artifacts, uploads, caches."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.api.features.files import service as files
from services.api.features.forgetting import service as forgetting
from services.api.features.jobs import forks
from services.api.features.models import service as versions
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.forgetting import ForgetRequest
from shared.contracts.imports import ImportRequest
from shared.contracts.jobs import ForkRequest
from shared.jobs import retention
from shared.jobs.answer_store import AnswerClaim
from shared.jobs.retention import collect
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.system import System
from tests.integration.test_recipes_of_chats import JOB, correct, imports, serve

MARKER, NAME = "marmalade-of-three", "user-3"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def places(folder: Path, *words: str) -> set[str]:
    """Files below a folder that hold one of these words."""
    wanted = [word.encode() for word in words]
    there = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)) for path in there if any(word in path.read_bytes() for word in wanted)}


def idempotent(system: System, completion_id: str) -> None:
    claim = system.stores.answers.begin(DEFAULT_PROJECT, "a key", "digest")
    assert isinstance(claim, AnswerClaim)
    body = f'{{"completion_id": "{completion_id}", "correction": "{MARKER}"}}'.encode()
    system.stores.answers.keep(claim, 201, {}, body)


async def test_nothing_that_a_person_wrote_stays(system: System, monkeypatch: pytest.MonkeyPatch):
    serve(system, *range(80))
    correct(system, *range(80))
    mine = [f"chatcmpl-{number:04}" for number in range(3, 80, 7)]
    for words in (f"{MARKER} at first", f"{MARKER}, or rather not"):  # what is replaced must not stay in a free page
        for name in mine:
            chat = system.stores.chats.get(DEFAULT_PROJECT, name)
            system.stores.feedback.put(chat, FeedbackRequest(completion_id=name, rating="down", correction=words))
    source: dict[str, Any] = {"type": "completions"}
    async with system.running():
        made = imports.create(system.context, ImportRequest.model_validate({"source": source}))
        await system.until(made.id, "succeeded")
        result = imports.lifecycle.get(system.context, made.id).result
        assert result is not None
        file = result.file
        job = system.post(file, suffix="looped", **JOB["distillation"] | {"phases": ["distill"]})
        await system.until(job, "succeeded")
        idempotent(system, mine[0])
        assert len(places(system.settings.data, MARKER)) > 3

        told = forgetting.forget(system.context, ForgetRequest(user=NAME))
        assert (told.completions, sorted(told.rows)) == (len(mine), mine)
        assert [one.model for one in told.models] == ["looped@1"]
        assert places(system.settings.data, NAME) == set(), "nothing connects the rows with their user"
        left = places(system.settings.data, MARKER)
        assert not [name for name in left if "sqlite3" in name], left

        (call,) = told.retrain
        fork = forks.fork(system.context, job, ForkRequest.model_validate(call.body)).id
        await system.until(fork, "succeeded")
    newest = next(model for model, _ in system.stores.catalog.models(DEFAULT_PROJECT) if model.job_id == fork)
    system.stores.catalog.serve(DEFAULT_PROJECT, newest)
    versions.delete(system.context, "looped@1")
    files.delete(system.context, file)
    monkeypatch.setattr(retention, "GRACE_S", -60.0)
    at_once = system.settings.model_copy(update={"retention": timedelta(microseconds=1)})
    assert collect(system.stores.retention, system.artifacts, at_once) is not None
    left = places(system.settings.data, MARKER)
    assert left == set(), left
    assert newest.version == 2
