"""Jobs: what is refused before a row exists, and how a row is shown."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from services.api.clients import GatewayUnavailable
from services.api.service.context import ApiContext
from services.api.service.files import error_summary
from services.api.service.waiting import place
from shared.contracts.allocation import allocate
from shared.contracts.data import Question, Split, judge_must_decide
from shared.contracts.distillation import Budget, Phase
from shared.contracts.errors import ErrorBody, NotFound, UserError
from shared.contracts.estimate import Estimate, Price
from shared.contracts.experiments import EXPERIMENT, VARIANT
from shared.contracts.jobs import (
    Failure,
    ForkedFrom,
    JobChange,
    JobDistillation,
    JobObject,
    JobProgress,
    JobRequest,
    JobStatus,
    Usage,
)
from shared.contracts.measurements import measuring_calls
from shared.contracts.steps import Method
from shared.jobs.states import FINAL_JOBS
from shared.platform.log import get_logger

log = get_logger(__name__)
UNCHECKED = "the strong-model gateway did not answer: whether it has the job's providers shows when they are asked"
ONE_QUESTION = 8  # calls for one judged question, every reply asked for twice
NEEDED = {Split.TRAIN: 4, Split.DEV: 2, Split.TEST: 2}


def create(context: ApiContext, project: str, request: JobRequest, forked_from: ForkedFrom | None = None) -> JobObject:
    """Queue a job that can run. Raises UserError."""
    prices = known_prices(context)
    check(context, project, request, prices)
    found = context.stores.jobs.create(project, request, prices, forked_from)
    if prices is None:
        context.stores.jobs.add_event(found, UNCHECKED, level="warn")
    return as_object(context, found)


def known_prices(context: ApiContext) -> dict[str, Price] | None:
    """Provider -> price; None while the gateway is away: a job is taken all the same, since start-up order must not matter,
    and a provider that does not exist ends it at its first call, before anything was paid."""
    try:
        return context.providers.prices()
    except GatewayUnavailable as error:
        log.warning("providers not checked", error=error.message)
        return None


def check(context: ApiContext, project: str, request: JobRequest, prices: Mapping[str, Price] | None) -> Row:
    """Hold the request against model, engine, providers and file; returns the file's row. Raises UserError."""
    _check_student(context, request.model)
    adapter, most = request.distillation.adapter, context.settings.max_rank
    if adapter.method is Method.FULL and not context.swaps:
        raise UserError(
            "a whole model can be trained only where the engine can be made to serve it, and METEOR_WEAK_ENGINE_URL names "
            "a server of your own; ask for method lora",
            param="distillation.adapter.method",
            code="method_not_served",
        )
    if adapter.method is Method.LORA and adapter.rank > most:
        raise UserError(
            f"the engine serves adapters of rank {most} at most, not {adapter.rank}; METEOR_ENGINE_MAX_LORA_RANK raises it",
            param="distillation.adapter.rank",
            code="rank_too_large",
        )
    _check_providers(request, prices)
    file = _training_file(context, project, request.training_file)
    _check_file(file, request)
    _check_judge_calls(context, file, request)
    return file


def _check_providers(request: JobRequest, prices: Mapping[str, Price] | None) -> None:
    for role in ("teacher", "judge"):
        name = getattr(request.distillation, role).provider
        if prices is not None and name not in prices:
            known = ", ".join(prices) or "none; METEOR_TEACHER_BASE_URL or METEOR_PROVIDERS_FILE names some"
            raise UserError(
                f"no strong model is configured under the name {name!r}; known: {known}",
                param=f"distillation.{role}.provider",
                code="provider_not_found",
            )


def _check_student(context: ApiContext, model: str) -> None:
    names = [base.name for base in context.students]
    if model in names:
        return
    hint = "METEOR_STUDENTS names more"
    if not context.swaps and context.bases.find(model) is not None:
        hint = "METEOR_WEAK_ENGINE_URL names a server of your own, which serves no other"
    raise UserError(
        f"model must be {' or '.join(map(repr, names))}, not {model!r}; {hint}", param="model", code="model_not_found"
    )


def _training_file(context: ApiContext, project: str, file_id: str) -> Row:
    try:
        return context.stores.catalog.file(project, file_id)
    except NotFound as error:
        raise UserError(error.message, param="training_file", code="file_not_found") from error


def _check_file(file: Row, request: JobRequest) -> None:
    if file.status != "processed":
        message = f"file {file.id} has {error_summary(file) or 'status ' + file.status}"
        raise UserError(message, param="training_file", code="invalid_file_format")
    splits = {split: (file.splits or {}).get(split.value, 0) for split in Split}
    if any(splits[split] < least for split, least in NEEDED.items()):
        has = ", ".join(f"{split.value} {n}" for split, n in splits.items())
        needs = ", ".join(f"{split.value} {n}" for split, n in NEEDED.items())
        raise UserError(
            f"too few rows after splitting by question: {has}; at least {needs} are needed",
            param="training_file",
            code="too_few_rows",
        )
    wanted = _wanted_questions(request)
    if sum(wanted.values()) > splits[Split.TRAIN]:
        parts = " + ".join(f"{phase}.questions {n}" for phase, n in wanted.items())
        raise UserError(
            f"{parts} is more than the train split's {splits[Split.TRAIN]} rows",
            param=f"distillation.{next(iter(wanted))}.questions",
            code="too_many_questions",
        )
    _check_phases(request, splits[Split.TRAIN])


def _check_judge_calls(context: ApiContext, file: Row, request: JobRequest) -> None:
    """Decisions need every question of dev, so a judge that measures, for want of references, cannot stop at a budget: one that
    might not hold all its calls is refused. Raises UserError."""
    spec, most = request.distillation, request.distillation.evaluation.max_judge_calls
    if most is None:
        return
    rows = [Question(**value) for value in context.artifacts.get_json(file.rows_ref)]
    if not judge_must_decide(rows):
        return
    count = Counter(row.split for row in rows)
    references = any(row.reference for row in rows if row.split == Split.TRAIN)
    need = measuring_calls(spec, count[Split.DEV], count[Split.TEST], references)
    need += ONE_QUESTION if spec.evaluation.judged_questions else 0
    if need > most:
        raise UserError(
            f"dev or test has hardly any references, so the judge measures all students there, which can take {need} calls "
            f"with what else is asked of it, and max_judge_calls allows {most}; raise it, or ask fewer questions by "
            "evaluation.dev_questions and evaluation.test_questions",
            param="distillation.evaluation.max_judge_calls",
            code="max_judge_calls_too_small",
        )


def _check_phases(request: JobRequest, train: int) -> None:
    """Every phase has a question to work on. Raises UserError."""
    for phase, count in allocate(train, request.distillation).items():
        if count == 0:
            raise UserError(
                f"the train split's {train} rows leave none for {phase.value}; upload more rows, name fewer questions for "
                "the other phases, or leave the phase out",
                param=f"distillation.{phase.value}.questions",
                code="too_few_rows",
            )


def _wanted_questions(request: JobRequest) -> dict[str, int]:
    """phase -> how many train questions the request asks for, where it names a number."""
    settings = request.distillation
    asked = {
        Phase.DISTILL: settings.distill.questions,
        Phase.ITERATE: settings.iterate.questions,
        Phase.EVOLVE: settings.evolve.questions,
    }
    return {phase.value: n for phase, n in asked.items() if phase in settings.phases and n is not None}


def row(context: ApiContext, project: str, job_id: str) -> Row:
    """Raises NotFound, also for another project's job."""
    found = context.stores.jobs.get(job_id, project)
    if found is None:
        raise NotFound(f"no job {job_id!r}", param="job_id", code="job_not_found")
    return found


def get(context: ApiContext, project: str, job_id: str) -> JobObject:
    return as_object(context, row(context, project, job_id))


def page(
    context: ApiContext,
    project: str,
    after: str | None,
    limit: int,
    status: JobStatus | None,
    metadata: Mapping[str, str],
) -> tuple[list[JobObject], bool]:
    rows, more = context.stores.jobs.page(project, after, limit, status, metadata)
    return [as_object(context, found) for found in rows], more


def cancel(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that has ended."""
    found = row(context, project, job_id)
    return as_object(context, context.stores.jobs.cancel(found))


def pause(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that has ended or is being cancelled."""
    return as_object(context, context.stores.jobs.pause(row(context, project, job_id)))


def resume(context: ApiContext, project: str, job_id: str) -> JobObject:
    """Raises Conflict on a job that is not paused."""
    return as_object(context, context.stores.jobs.resume(row(context, project, job_id)))


def change(context: ApiContext, project: str, job_id: str, wanted: JobChange) -> JobObject:
    """Raises Conflict on a new budget for a job that has ended, UserError on metadata that would leave its experiment."""
    found = row(context, project, job_id)
    request = JobRequest.model_validate(found.request)
    given = wanted.distillation.budget.model_dump(exclude_unset=True)
    budget = Budget.model_validate(request.distillation.budget.model_dump() | given) if given else None
    if wanted.metadata is not None and _place(wanted.metadata) != _place(request.metadata):
        names = f"{EXPERIMENT!r} and {VARIANT!r}"
        raise UserError(f"metadata: {names} say where the job belongs and must stay", param="metadata")
    if budget is not None and found.status not in FINAL_JOBS:
        context.ledger.set_budget(job_id, budget)  # first, so that a job which goes on finds it
    return as_object(context, context.stores.jobs.change(found, budget, wanted.metadata))


def _place(metadata: Mapping[str, str]) -> tuple[str | None, str | None]:
    return metadata.get(EXPERIMENT), metadata.get(VARIANT)


def report(context: ApiContext, project: str, job_id: str) -> Any:
    """The report's JSON. Raises NotFound (report_not_ready) before it is written."""
    found = row(context, project, job_id)
    if found.report_ref is None:
        message = f"job {job_id} is {found.status} and has no report yet"
        raise NotFound(message, param="job_id", code="report_not_ready")
    return context.artifacts.get_json(found.report_ref)


def usage(context: ApiContext, project: str, job_id: str) -> dict[str, Any]:
    """What the job's calls to the strong model cost and may cost, in all and by phase. A phase without a call has no entry."""
    request = JobRequest.model_validate(row(context, project, job_id).request)
    phases = context.ledger.usage_by_phase(job_id)
    return {
        "object": "distillation.usage",
        "job_id": job_id,
        "budget": request.distillation.budget.model_dump(),
        "total": context.ledger.usage(job_id).model_dump(),
        "phases": {phase: used.model_dump() for phase, used in phases.items()},
    }


STEP_FIELDS = (
    "id", "key", "kind", "queue", "state", "attempt", "attempts", "progress", "metrics", "reused_from", "error",
    "created_at", "started_at", "finished_at",
)  # fmt: skip


def steps(context: ApiContext, project: str, job_id: str) -> list[dict[str, Any]]:
    """The job's steps in the order in which they came to be, for people who want to see inside. Times in seconds."""
    row(context, project, job_id)
    rows = sorted(context.stores.steps.of_job(job_id), key=lambda step: (step.created_at, step.id))
    return [{"object": "distillation.step"} | {name: getattr(step, name) for name in STEP_FIELDS} for step in rows]


def as_object(context: ApiContext, found: Row) -> JobObject:
    request = JobRequest.model_validate(found.request)
    progress = JobProgress.model_validate(found.progress or {})
    used: Usage = context.ledger.usage(found.id)
    if found.status == JobStatus.PAUSED:
        progress.eta_seconds = None  # nobody knows when it goes on
    eta = progress.eta_seconds if found.status not in FINAL_JOBS else None
    return JobObject(
        id=found.id,
        created_at=int(found.created_at),
        finished_at=int(found.finished_at) if found.finished_at else None,
        estimated_finish=None if eta is None else int(time.time() + eta),
        model=request.model,
        fine_tuned_model=found.fine_tuned_model,
        organization_id=found.project_id,
        status=JobStatus(found.status),
        error=ErrorBody.model_validate(found.error) if found.error else None,
        hyperparameters=request.hyperparameters,
        training_file=request.training_file,
        seed=request.seed,
        suffix=request.suffix,
        trained_tokens=found.trained_tokens,
        metadata=request.metadata,
        distillation=JobDistillation(
            **request.distillation.model_dump(),
            forked_from=ForkedFrom.model_validate(found.forked_from) if found.forked_from else None,
            phase=found.phase,
            status_reason=found.status_reason,
            failure=Failure.model_validate(found.failure) if found.failure else None,
            queue=place(context, found),
            progress=progress,
            usage=used,
            estimate=Estimate.model_validate(found.estimate) if found.estimate else None,
            evaluation_result=found.evaluation,
        ),
    )
