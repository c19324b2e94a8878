"""Evals: what is checked of an eval and of a run before anything is asked or paid, and how both are shown."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from services.api.context import ProjectContext
from services.api.features.graders.unfit import unfit, unknown_models
from services.api.paging import Paging, listed, page_of
from shared.artifacts.store import ArtifactMissing
from shared.contracts.errors import NotFound, UserError
from shared.contracts.eval_results import RUN_STATUS, EvalRunObject, OutputItem, RunResult, StoredItem, error_of
from shared.contracts.evals import (
    MOST_TOKENS,
    CompletionsRun,
    Criterion,
    EvalChange,
    EvalObject,
    EvalRequest,
    EvalRun,
    FileById,
    RunRequest,
    shown_source,
)
from shared.contracts.grader_kinds import models_of
from shared.contracts.jobs import Usage
from shared.contracts.json_types import Json
from shared.contracts.problems import Problem, refuse
from shared.contracts.templates import MissingField, filled, places, sample_of
from shared.contracts.views import Listed
from shared.datasets.eval_items import PARAM, EvalItem, Unasked, items_of, messages_of
from shared.jobs.records import EvalRecord, JobRecord

ITEM = "outputitem"
Order = Literal["asc", "desc"]


def create(context: ProjectContext, request: EvalRequest) -> EvalObject:
    """Raises Refused for graders that can never grade, or that run code where the sandbox is off."""
    refuse(_problems(context, request))
    record = context.stores.evals.add(
        context.project, request.name, request.data_source_config, request.testing_criteria, request.metadata
    )
    return as_object(record)


def _problems(context: ProjectContext, request: EvalRequest) -> Iterator[Problem]:
    from shared.grading.json_values import checked_schema  # here: the API starts without the graders' libraries

    try:
        checked_schema(request.data_source_config.item_schema)
    except ValueError as error:
        yield Problem(
            code="invalid_value",
            param="data_source_config.item_schema",
            message=f"the schema of items cannot be used: {error}",
            remedy="give a JSON schema that is complete in itself",
        )
    for place, one in enumerate(request.testing_criteria):
        if one.verifying is not None:
            yield from unfit(context, f"testing_criteria.{place}", one.verifying)
            yield from unknown_models(context, f"testing_criteria.{place}", one.verifying)


def get(context: ProjectContext, eval_id: str) -> EvalObject:
    return as_object(context.stores.evals.get(context.project, eval_id))


def page(
    context: ProjectContext, paging: Paging, order: Order, order_by: Literal["created_at", "updated_at"]
) -> Listed[EvalObject]:
    rows, more = context.stores.evals.page(context.project, *paging, order == "asc", order_by == "updated_at")
    return listed([as_object(row) for row in rows], more)


def change(context: ProjectContext, eval_id: str, change: EvalChange) -> EvalObject:
    values = change.model_dump(exclude_unset=True)
    if values.get("name", "") is None:
        values["name"] = ""
    return as_object(context.stores.evals.change(context.project, eval_id, values))


def as_object(record: EvalRecord) -> EvalObject:
    return EvalObject(
        id=record.id,
        created_at=int(record.created_at),
        name=record.name,
        data_source_config=shown_source(record.data_source),
        testing_criteria=[one.on_the_wire() for one in record.criteria],
        metadata=record.metadata,
    )


# Runs


class Target(NamedTuple):
    """What a run asks. max_tokens: of an answer, where the run does not say."""

    kind: Literal["none", "base", "version", "provider"]
    model_id: str | None = None
    max_tokens: int = MOST_TOKENS


def create_run(context: ProjectContext, eval_id: str, request: RunRequest) -> EvalRunObject:
    """Queue a run that can be done. Raises NotFound, and UserError with the row that is at fault."""
    record = context.stores.evals.get(context.project, eval_id)
    target = _target(context, request)
    items = _items(context, record, request)
    asks = any(models_of(one.grader) for one in record.criteria)
    prices = None
    if asks or target.kind == "provider":
        prices = context.providers.all_prices() if asks else context.providers.prices()
    job = EvalRun(
        eval_id=eval_id,
        name=request.name,
        data_source=request.data_source,
        criteria=record.criteria,
        metadata=request.metadata,
        budget=request.budget,
        target=target.kind,
        model_id=target.model_id,
        max_tokens=target.max_tokens,
        items=len(items),
    )
    return run_object(context, context.stores.jobs.create(context.project, job, prices, key_id=context.key_id))


def _target(context: ProjectContext, request: RunRequest) -> Target:
    """Raises UserError for a name that nothing here has, GatewayUnavailable where only the gateway could tell."""
    if not isinstance(request.data_source, CompletionsRun):
        return Target("none")
    name = request.data_source.model
    if context.is_base(name):
        return Target("base")
    try:
        version = context.stores.catalog.resolve(context.project, name)
    except NotFound:
        providers = context.providers.prices()
        if name in providers:
            return Target("provider")
        known = ", ".join([*(base.name for base in context.students), *providers])
        raise UserError(
            f"no model {name[:100]!r}: it is no alias or version of this project, and none of {known}",
            param="data_source.model",
            code="model_not_found",
        ) from None
    if not context.is_base(version.base):
        raise UserError(
            f"{name!r} stands on {version.base!r}, which this installation does not serve",
            param="data_source.model",
            code="model_not_served",
        )
    return Target("version", version.id, version.generation.max_tokens or MOST_TOKENS)


def _items(context: ProjectContext, record: EvalRecord, request: RunRequest) -> list[EvalItem]:
    source = request.data_source.source
    file = None
    if isinstance(source, FileById):
        try:
            file = context.file(source.id)
        except NotFound as error:
            raise UserError(error.message, param=f"{PARAM}.id", code="file_not_found") from error
    items = items_of(source, file, context.uploads, context.artifacts, context.stores.catalog)
    if not items:
        raise UserError("there is no row to evaluate", param=PARAM, code="no_items")
    _check_items(record, request, items)
    return items


def _check_items(record: EvalRecord, request: RunRequest, items: Sequence[EvalItem]) -> None:
    """Every row meets the schema and can be asked; the first one has what the graders read."""
    from shared.grading.json_values import schema_of

    meets = schema_of(record.data_source.item_schema)
    wanted = request.data_source.input_messages if isinstance(request.data_source, CompletionsRun) else None
    asks = isinstance(request.data_source, CompletionsRun)
    for number, one in enumerate(items, start=1):
        if why := meets(one.item):
            raise UserError(
                f"row {number} does not meet the eval's item_schema: {why}", param=PARAM, code="invalid_row"
            )
        if asks:
            try:
                messages_of(wanted, one.item)
            except Unasked as reason:
                raise UserError(
                    f"row {number}: {reason}", param="data_source.input_messages", code="invalid_row"
                ) from None
        elif one.output_text is None and (reads := next((c for c in record.criteria if c.reads_sample), None)):
            raise UserError(
                f"row {number} has no sample, and the criterion {reads.name!r} grades one: give "
                '{"item": ..., "sample": {"output_text": ...}}, name a field of the item in its `input`, or have a model asked '
                "with a data_source of type completions",
                param=PARAM,
                code="no_sample",
            )
    for criterion in record.criteria:
        if (missing := _missing(criterion, items[0].item)) is not None:
            raise UserError(
                f"the criterion {criterion.name!r} cannot grade row 1: {missing}", param=PARAM, code="invalid_row"
            )


def _missing(criterion: Criterion, item: Json) -> str | None:
    """The field of an item that a criterion reads and the row lacks."""
    if criterion.has_its_own_reference:
        return None
    for text in criterion.templates:
        for path in places(text):
            if path.startswith("item"):
                try:
                    filled(f"{{{{{path}}}}}", item, sample_of(""))
                except MissingField as missing:
                    return str(missing)
    return None


def run(context: ProjectContext, eval_id: str, run_id: str) -> EvalRunObject:
    return run_object(context, context.stores.evals.run(context.project, eval_id, run_id))


def runs(
    context: ProjectContext, eval_id: str, paging: Paging, order: Order, status: str | None
) -> Listed[EvalRunObject]:
    wanted = [ours for ours, theirs in RUN_STATUS.items() if theirs == status]
    rows, more = context.stores.evals.runs(context.project, eval_id, *paging, order == "asc", wanted)
    return listed(run_objects(context, rows), more)


def cancel(context: ProjectContext, eval_id: str, run_id: str) -> EvalRunObject:
    """Raises Conflict on a run that has ended."""
    return run_object(context, context.stores.jobs.cancel(context.stores.evals.run(context.project, eval_id, run_id)))


def run_object(context: ProjectContext, job: JobRecord) -> EvalRunObject:
    return run_objects(context, [job])[0]


def run_objects(context: ProjectContext, jobs: Sequence[JobRecord]) -> list[EvalRunObject]:
    usages = context.ledger.usages([job.id for job in jobs])
    return [_run_object(job, usages[job.id]) for job in jobs]


def _run_object(job: JobRecord, usage: Usage) -> EvalRunObject:
    request = EvalRun.model_validate(job.request)
    figures = RunResult.model_validate(job.result) if job.result else RunResult()
    return EvalRunObject(
        **figures.model_dump(),
        id=job.id,
        eval_id=request.eval_id,
        created_at=int(job.created_at),
        finished_at=int(job.finished_at) if job.finished_at else None,
        name=request.name,
        model=request.model,
        status=RUN_STATUS[job.status],
        status_reason=job.status_reason,
        error=error_of(job.error),
        data_source=request.data_source.model_dump(mode="json", exclude_none=True),
        metadata=request.metadata,
        report_url=f"/v1/evals/{request.eval_id}/runs/{job.id}/output_items",
        progress=job.progress,
        usage=usage,
        budget=request.budget,
    )


# The rows of a run


def items(
    context: ProjectContext, eval_id: str, run_id: str, paging: Paging, order: Order, status: str | None
) -> Listed[OutputItem]:
    every = _output(context, context.stores.evals.run(context.project, eval_id, run_id))
    shown = [one for one in every if status in (None, one.status)]
    return page_of(shown if order == "asc" else shown[::-1], paging, "output item")


def item(context: ProjectContext, eval_id: str, run_id: str, item_id: str) -> OutputItem:
    every = _output(context, context.stores.evals.run(context.project, eval_id, run_id))
    wanted = next((one for one in every if one.id == item_id), None)
    if wanted is None:
        raise NotFound(f"no output item {item_id!r} of this run", param="output_item_id", code="output_item_not_found")
    return wanted


def _output(context: ProjectContext, job: JobRecord) -> list[OutputItem]:
    """None while the run is not completed. Raises NotFound where they have expired."""
    if job.report_ref is None:
        return []
    try:
        stored = context.artifacts.get_json(job.report_ref)["items"]
    except ArtifactMissing as error:
        raise NotFound(
            f"the rows of run {job.id} have expired (METEOR_RETENTION); run it again",
            param="run_id",
            code="run_expired",
        ) from error
    request, made = EvalRun.model_validate(job.request), int(job.finished_at or job.created_at)
    stem = job.id.partition("-")[2]
    rows = [StoredItem.model_validate(one) for one in stored]
    return [
        OutputItem(
            id=f"{ITEM}-{stem}-{place:05d}",
            created_at=made,
            eval_id=request.eval_id,
            run_id=job.id,
            datasource_item_id=place,
            datasource_item=row.item,
            status=row.status,
            results=row.results,
            sample=row.sample,
        )
        for place, row in enumerate(rows)
    ]
