"""Recipes: checked when they are posted, shown, paused, resumed, deleted; and the body of the job that a run makes."""

from collections.abc import Iterator

from services.api.context import ProjectContext
from services.api.features.imports.service import dataset_of
from services.api.features.jobs import service as jobs
from services.api.features.jobs import starts
from services.api.features.jobs.posted import Posted
from services.api.features.notices import notice_object
from services.api.paging import Paging, listed
from shared.contracts.distillation import Budget
from shared.contracts.errors import UserError
from shared.contracts.experiments import merged
from shared.contracts.json_types import Json
from shared.contracts.notices import NoticeKind, NoticeObject
from shared.contracts.problems import Problem, Refused, refuse
from shared.contracts.recipes import RECIPE, RUN, FileSource, RecipeObject, RecipeRequest, RecipeRun, RunStatus
from shared.contracts.views import Listed
from shared.jobs.records import RecipeRecord, RecipeRunRecord

NO_FILE_YET = "file-of-the-first-run"


def create(context: ProjectContext, request: RecipeRequest) -> RecipeObject:
    """Raises Refused with all that is wrong with the recipe and the jobs that it would make."""
    refuse(_problems(context, request))
    return as_object(context, context.stores.recipes.add(context.project, request, context.key_id))


def get(context: ProjectContext, recipe_id: str) -> RecipeObject:
    return as_object(context, context.stores.recipes.get(context.project, recipe_id))


def page(context: ProjectContext, paging: Paging) -> Listed[RecipeObject]:
    rows, more = context.stores.recipes.page(context.project, *paging)
    return listed([as_object(context, row) for row in rows], more)


def set_paused(context: ProjectContext, recipe_id: str, paused: bool) -> RecipeObject:
    return as_object(context, context.stores.recipes.set_paused(context.project, recipe_id, paused))


def events(context: ProjectContext, recipe_id: str, paging: Paging) -> Listed[NoticeObject]:
    context.stores.recipes.get(context.project, recipe_id)
    rows, more = context.stores.notices.page(context.project, NoticeKind.RECIPE, recipe_id, *paging)
    return listed([notice_object(row) for row in rows], more)


def job_body(job: Json, budget: Budget | None, file_id: str, recipe_id: str, number: int) -> Json:
    """What a run posts. Its metadata says which run of which recipe made it."""
    made_by = {"metadata": {RECIPE: recipe_id, RUN: str(number)}}
    limited = {} if budget is None else {"distillation": {"budget": budget.model_dump(mode="json")}}
    return merged(merged(job, limited), {"training_file": file_id} | made_by)


def _problems(context: ProjectContext, request: RecipeRequest) -> Iterator[Problem]:
    if (request.trigger.rows is None) == (request.trigger.every is None):
        yield Problem(
            code="invalid_value",
            param="trigger",
            message="trigger: say rows or every, one of both",
            remedy='write {"rows": 500}, or {"every": "P7D"}',
        )
    source = request.source
    named, param = (source.file, "file") if isinstance(source, FileSource) else (source.dataset, "dataset")
    file_id = named or NO_FILE_YET
    if named is not None:
        try:
            file_id = dataset_of(context, named, f"source.{param}").id
        except UserError as error:
            yield Problem.of(error)
            return
    if "training_file" in request.job:
        yield Problem(
            code="invalid_value",
            param="job.training_file",
            message="job.training_file: the source names the file",
            remedy="leave it out",
        )
    yield from _of_job(context, job_body(request.job, request.budget, file_id, RECIPE, 1))


def _of_job(context: ProjectContext, body: Json) -> Iterator[Problem]:
    """What posting the job would tell, without what asks other servers."""
    try:
        job = jobs.job_request(body)
        problems = jobs.still_findings(
            Posted(context, starts.pinned(context, job), jobs.known_prices(context))
        ).problems
    except Refused as error:
        problems = error.problems
    unknown = "training_file" if body["training_file"] == NO_FILE_YET else None
    for problem in problems:
        if problem.param == unknown and unknown is not None:
            continue  # the first run makes it
        yield problem.model_copy(update={"param": ".".join(part for part in ("job", problem.param) if part)})


def as_object(context: ProjectContext, recipe: RecipeRecord) -> RecipeObject:
    last, source, new_rows, waits_for = context.stores.recipes.state(recipe)
    gone = source is None and recipe.dataset is not None
    again = last is not None and last.status is RunStatus.FAILED
    next_at = recipe.due_at if recipe.due_at is not None else recipe.look_at if again else None
    return RecipeObject(
        id=recipe.id,
        created_at=int(recipe.created_at),
        name=recipe.name,
        status="active" if recipe.paused_at is None else "paused",
        job=recipe.job,
        source=recipe.source,
        dataset=None if source is None else source.id,
        trigger=recipe.trigger,
        budget=recipe.budget,
        runs=recipe.runs,
        last_run=None if last is None else _run(last),
        next_run_at=None if next_at is None or recipe.paused_at is not None else int(next_at),
        new_rows=None if gone else new_rows,
        waits_for=waits_for,
    )


def _run(run: RecipeRunRecord) -> RecipeRun:
    return RecipeRun(
        number=run.number,
        status=run.status,
        at=int(run.created_at),
        file=run.file_id,
        rows=run.rows,
        job_id=run.job_id if run.status is RunStatus.MADE else None,
        import_id=run.import_id,
        error=run.error,
    )
