"""A page of jobs asks the stores as often as one job does, and tells of each what it tells of it alone."""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from services.api.context import ProjectContext, open_context
from services.api.features.exports import service as exports
from services.api.features.imports import service as imports
from services.api.features.jobs import service as jobs
from services.api.paging import Paging
from services.api.settings import ApiSettings
from shared.contracts.distillation import Distillation
from shared.contracts.jobs import JobRequest
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import CallOrigin, Cost
from shared.platform.settings import PlatformSettings
from tests.fakes.simulated import BASE, questions
from tests.fakes.store_moves import processed_file


@contextmanager
def counted(*engines: Engine) -> Generator[Counter[str]]:
    """Statements that these engines send."""
    counts: Counter[str] = Counter()

    def count(_connection, _cursor, statement: str, *_):
        counts[statement.split()[0]] += 1

    for engine in dict.fromkeys(engines):
        event.listen(engine, "before_cursor_execute", count)
    try:
        yield counts
    finally:
        for engine in dict.fromkeys(engines):
            event.remove(engine, "before_cursor_execute", count)


@pytest.fixture
def context(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> ProjectContext:
    monkeypatch.setenv("METEOR_STUDENT_MODEL", BASE.base)
    platform = PlatformSettings(data=tmp_path, database_url=database_url)
    return open_context(ApiSettings(gateway_url="http://127.0.0.1:1"), platform).of_project()


@pytest.fixture
def job_ids(context: ProjectContext) -> list[str]:
    file = processed_file(context.stores, context.artifacts, questions(train=4, dev=2, test=2))
    request = JobRequest(model=BASE.base, training_file=file, distillation=Distillation(domain="d"))
    return [context.stores.jobs.create(DEFAULT_PROJECT, request).id for _ in range(6)]


def test_a_page_of_jobs_takes_as_many_statements_as_one_job(context: ProjectContext, job_ids: list[str]):
    seen: list[int] = []
    for size in (1, len(job_ids)):
        with counted(context.stores.jobs.engine, context.ledger.engine) as counts:
            page = jobs.lifecycle.page(context, Paging(None, size))
        assert [job.id for job in page.data] == job_ids[::-1][:size]
        seen.append(counts.total())
    assert seen[0] == seen[1] > 0


@pytest.mark.parametrize("page", [imports.lifecycle.page, exports.lifecycle.page])
def test_a_page_without_jobs_is_empty(context: ProjectContext, page: Callable):
    assert page(context, Paging(None, 20)).data == []


def test_a_page_tells_of_each_job_what_it_tells_of_it_alone(context: ProjectContext, job_ids: list[str]):
    origin = CallOrigin(DEFAULT_PROJECT, job_ids[2], "step-1", "distill", "row")
    call = context.ledger.begin(origin, "default", "m", "asked")
    context.ledger.settle(call, "ok", Cost(10, 3, 0.5), keep={"row": "r"})
    begun = context.stores.jobs.claim("o", 60)
    assert begun is not None
    page = jobs.lifecycle.page(context, Paging(None, 20)).data
    assert page == [jobs.lifecycle.get(context, job_id) for job_id in job_ids[::-1]]
    places = {job.id: job.distillation.queue and job.distillation.queue.position for job in page}
    assert places == dict(zip(job_ids, [None, 1, 2, 3, 4, 5], strict=True))
    spent = {job.id: job.distillation.usage.usd_spent for job in page}
    assert spent == dict(zip(job_ids, [0.0, 0.0, 0.5, 0.0, 0.0, 0.0], strict=True))
