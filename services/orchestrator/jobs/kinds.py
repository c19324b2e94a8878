"""The kinds of jobs. Whatever a job does, the loop holds, pauses, cancels and ends it in the same way."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from services.orchestrator.jobs import result_file
from services.orchestrator.jobs.abilities import refuse_unfit
from services.orchestrator.jobs.evals import EvaluationRun, evaluate, open_eval
from services.orchestrator.jobs.exports import ExportRun, export, open_export
from services.orchestrator.jobs.imports import ImportRun, import_rows
from services.orchestrator.method.pipeline import meteor
from services.orchestrator.method.run import DistillationRun
from services.orchestrator.runtime.run import DurableRun
from services.orchestrator.runtime.steps import StepClient, when_disk_has_space
from shared.artifacts import material
from shared.artifacts.bases import Bases
from shared.artifacts.opening import open_uploads
from shared.contracts.errors import FatalError, StorageFull
from shared.contracts.grader_kinds import file_ids
from shared.contracts.jobs import JobKind, JobRequest
from shared.contracts.report_part import NOTHING
from shared.contracts.steps import ModelRef
from shared.datasets.files import data_of, items_in
from shared.jobs.catalog import ref_of
from shared.jobs.expected import expected_rates
from shared.jobs.records import JobRecord
from shared.ledger.store import Ledger


class Dependencies(NamedTuple):
    """What a job is run with, beside its row."""

    steps: StepClient
    ledger: Ledger
    bases: Bases


@dataclass(frozen=True)
class Kind:
    """open: reads what the job works on. work: an async function over durable steps; returns what is written into the
    row as the job succeeds. What either raises decides as everywhere: transient errors are tried again, others end the
    job as failed."""

    open: Callable[[Dependencies, JobRecord], Awaitable[DurableRun]]
    work: Callable[[Any], Awaitable[dict[str, Any]]]


async def _open_distillation(dependencies: Dependencies, row: JobRecord) -> DistillationRun:
    stores, artifacts = dependencies.steps.stores, dependencies.steps.artifacts
    request = JobRequest.model_validate(row.request)
    data = await asyncio.to_thread(data_of, row, partial(stores.catalog.file, row.project_id))
    rows = await asyncio.to_thread(data.rows, artifacts, stores.catalog, items=items_in(request.distillation))
    base = await asyncio.to_thread(_starting_student, dependencies, row, rows.conversations)
    shows_calls = await asyncio.to_thread(dependencies.bases.shows_calls, base.base)
    student = dependencies.bases.find(base.base)
    folder = student.folder if student is not None else None
    rates = await asyncio.to_thread(expected_rates, stores.overview, request, rows.lengths, folder)
    files = await asyncio.to_thread(_grader_files, dependencies, row, request)
    shown = await asyncio.to_thread(_material, dependencies, row, request)
    steps, ledger = dependencies.steps, dependencies.ledger
    return await asyncio.to_thread(DistillationRun, row, base, rows, steps, ledger, rates, files, shows_calls, shown)


def _material(dependencies: Dependencies, row: JobRecord, request: JobRequest) -> material.Material:
    """What teacher and judge are shown. Raises NotFound, OSError, and FatalError for a file that is no text, or whose content is gone."""
    catalog, uploads = dependencies.steps.stores.catalog, open_uploads(dependencies.steps.settings)

    def path_of(file_id: str) -> Path:
        return uploads.path(catalog.file(row.project_id, file_id).sha256)

    try:
        contents = material.contents_of(request.distillation.teacher.contexts, path_of)
    except (ValueError, FileNotFoundError) as error:
        raise FatalError(
            f"teacher.context cannot be read: {error}", param="distillation.teacher.context", code="bad_context"
        ) from error
    return material.stored(dependencies.steps.artifacts, contents)


def _grader_files(dependencies: Dependencies, row: JobRecord, request: JobRequest) -> dict[str, str]:
    """The files that the job's graders read, as artifacts: file id -> digest. Raises NotFound, OSError."""
    catalog, artifacts = dependencies.steps.stores.catalog, dependencies.steps.artifacts
    ids = file_ids(request.distillation.verifying)
    digests = {file_id: catalog.file(row.project_id, file_id).sha256 for file_id in ids}
    uploads = open_uploads(dependencies.steps.settings)
    return {file_id: artifacts.put(uploads.path(digest).read_bytes()) for file_id, digest in digests.items()}


def _starting_student(dependencies: Dependencies, row: JobRecord, conversations: bool) -> ModelRef:
    """A base, or the version that the job continues. Raises FatalError, and NotFound for a version that is gone."""
    bases, name = dependencies.bases, JobRequest.model_validate(row.request).model
    if bases.find(name) is not None or "@" not in name:
        return bases.ref(name, conversations)
    version = ref_of(dependencies.steps.stores.catalog.resolve(row.project_id, name))
    base = bases.ref(version.base, conversations)
    if base.base_hash != version.base_hash:
        raise FatalError(
            f"{name} was trained on other files than {version.base!r} has now", param="model", code="wrong_student"
        )
    return base.model_copy(update={"adapter": version.adapter, "weights": version.weights})


async def _distil(run: DistillationRun) -> dict[str, Any]:
    if run.continues is not None:
        await run.emit(
            f"goes on from {run.continues}: that version is what the report calls the base", model=run.continues
        )
    await refuse_unfit(run)
    report = await meteor(run.context, run)
    base, gain = report.table[0], report.final.over.get("base", NOTHING)
    before = base.metrics[report.primary_metric].value
    files = await _result_files(run)
    return {
        "result": {"result_files": files} if files else None,
        "report_ref": await when_disk_has_space(
            lambda: run.artifacts.put_json(report.model_dump(mode="json")), lambda _: None
        ),
        "evaluation": {
            "metric": report.primary_metric,
            "before": before,
            "after": before + gain.value,
            "delta": gain.value,
            "ci95": [gain.low, gain.high],
            "n": base.n,
        },
        "fine_tuned_model": report.promotion.model,
        "trained_tokens": sum(
            figures.get("trained_tokens", 0) for key, figures in run.figures.items() if not key.is_baseline
        ),
        "status_reason": f"final model: {report.promotion.state}",
    }


async def _result_files(run: DistillationRun) -> list[str]:
    """A project that has no room for them gets its model all the same."""
    try:
        return await when_disk_has_space(lambda: result_file.keep(run), lambda _: None)
    except StorageFull as error:
        await run.emit(f"{result_file.NAME} is not kept: {error.message}", level="warn")
        return []


async def _open_export(dependencies: Dependencies, row: JobRecord) -> ExportRun:
    return await open_export(dependencies.steps, dependencies.ledger, dependencies.bases, row)


async def _open_import(dependencies: Dependencies, row: JobRecord) -> ImportRun:
    return ImportRun(row, dependencies.steps, dependencies.ledger)


async def _open_eval(dependencies: Dependencies, row: JobRecord) -> EvaluationRun:
    return await open_eval(dependencies.steps, dependencies.ledger, dependencies.bases, row)


KINDS: dict[JobKind, Kind] = {
    JobKind.DISTILLATION: Kind(_open_distillation, _distil),
    JobKind.EXPORT: Kind(_open_export, export),
    JobKind.IMPORT: Kind(_open_import, import_rows),
    JobKind.EVAL: Kind(_open_eval, evaluate),
}
