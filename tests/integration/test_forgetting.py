"""The right to be forgotten, over a real orchestration with pretended workers: what is named, and a fork without it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from services.api.features.files import service as files
from services.api.features.forgetting import service as forgetting
from services.api.features.jobs import forks
from shared.contracts.data import Split
from shared.contracts.errors import NotFound, UserError
from shared.contracts.forgetting import ForgetRequest, ForgetResult
from shared.contracts.jobs import ForkRequest
from shared.datasets.files import JobData
from shared.db.engine import writing
from shared.jobs.tables import steps
from tests.fakes.system import System


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def forget(system: System, **named: Any) -> ForgetResult:
    return forgetting.forget(system.context, ForgetRequest.model_validate(named))


def row_of(system: System, file: str, split: Split) -> list[str]:
    rows = system.context.job_rows(JobData(system.context.file(file)))
    return [row.id for row in rows.read(rows.places(split))]


async def finished(system: System, *jobs: str) -> None:
    async with system.running():
        for job in jobs:
            await system.until(job, "succeeded", within_s=120)


SMALL: dict[str, Any] = {"phases": ["distill"]}


async def test_versions_that_learned_are_named_and_a_fork_learns_again_without_the_row(system: System):
    file = system.file()
    job = system.post(file, **SMALL)
    await finished(system, job)
    learned, unused = row_of(system, file, Split.TRAIN)[0], row_of(system, file, Split.TEST)[0]
    told = forget(system, file=file, rows=[learned], dry_run=True)
    assert (told.dry_run, told.completions, told.rows) == (True, 0, [learned])
    (held,) = told.datasets
    assert (held.file, held.version, held.deleted, held.rows) == (file, 1, False, [learned])
    assert held.remove is not None
    assert (held.remove.path, held.remove.body) == (f"/v1/files/{file}/versions", {"remove": [learned]})
    (model,) = told.models
    assert (model.model, model.job, model.served, model.rows) == ("expert@1", job, True, [learned])
    assert (model.certain, model.inherited) == (True, False)
    (retrain,) = told.retrain
    assert (retrain.path, retrain.body) == (f"/v1/distillation/jobs/{job}/fork", {"without": [learned]})
    assert forget(system, file=file, rows=[unused]).models == [], "a test question is learned by nobody"

    fork = forks.fork(system.context, job, ForkRequest.model_validate(retrain.body))
    await finished(system, fork.id)
    assert fork.training_file != file
    made = system.context.file(fork.training_file)
    assert (made.previous_id, made.n_rows) == (file, 79)
    kept = [row_of(system, fork.training_file, split) for split in (Split.DEV, Split.TEST)]
    assert kept == [row_of(system, file, split) for split in (Split.DEV, Split.TEST)]
    again = forget(system, file=fork.training_file, rows=[learned])
    assert [one.model for one in again.models] == ["expert@1"], "the fork's version did not learn it"
    assert [one.file for one in again.datasets] == [file]


async def test_a_version_that_goes_on_from_one_that_learned_has_learned_too(system: System):
    first, second = system.file(), system.file(test=21)
    job = system.post(first, **SMALL)
    await finished(system, job)
    changes = {"model": "expert@1", "training_file": second, "suffix": "more"}
    going_on = forks.fork(system.context, job, ForkRequest(changes=changes)).id
    await finished(system, going_on)
    learned = row_of(system, first, Split.TRAIN)[0]
    told = {one.model: one for one in forget(system, file=first, rows=[learned]).models}
    assert told["expert@1"].inherited is False
    heirs = [one for one in told.values() if one.job == going_on]
    assert heirs
    assert all(one.inherited and one.rows == [] for one in heirs)


async def test_where_steps_have_expired_the_dataset_speaks_and_deleted_files_are_told(system: System):
    file = system.file()
    job = system.post(file, **SMALL)
    await finished(system, job)
    with writing(system.stores.jobs.engine) as connection:
        connection.execute(update(steps).values(result_ref=None))
    learned = row_of(system, file, Split.TRAIN)[0]
    (model,) = forget(system, file=file, rows=[learned]).models
    assert (model.model, model.certain, model.rows) == ("expert@1", False, [learned])
    files.delete(system.context, file)
    with pytest.raises(NotFound):
        forget(system, file=file, rows=[learned])


async def test_a_refused_fork_leaves_no_version_behind(system: System):
    file = system.file()
    job = system.post(file, **SMALL)
    train = row_of(system, file, Split.TRAIN)

    def versions() -> int:
        return len(system.stores.catalog.versions(system.context.project, file))

    for request, param in (
        ({"without": ["nobody"]}, "without"),
        ({"without": train[:1], "from": {"phase": "distill"}}, "without"),
        ({"without": train}, "training_file"),
        ({"without": train[:1], "changes": {"distillation": {"primary_metric": "nothing"}}}, "distillation.primary_metric"),
    ):  # fmt: skip
        with pytest.raises(UserError) as refused:
            forks.fork(system.context, job, ForkRequest.model_validate(request))
        assert refused.value.param == param
        assert versions() == 1


def test_a_body_names_one_thing():
    for bad in (
        {}, {"user": "ann", "completions": ["c"]}, {"file": "file-1"}, {"rows": ["row-1"]}, {"user": ""},
        {"user": "ann", "file": "file-1", "rows": ["row-1"]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"name one|belong together|at least"):
            ForgetRequest.model_validate(bad)


def test_rows_whose_artifacts_are_gone_are_in_no_dataset(system: System):
    file = system.file()
    row = row_of(system, file, Split.TRAIN)[0]
    shutil.rmtree(system.settings.artifacts)
    with pytest.raises(NotFound, match="no version of the file has the row"):
        forget(system, file=file, rows=[row])
