"""The routes that jobs of every kind have, made once and mounted under each kind's prefixes."""

from collections.abc import Callable

from fastapi import APIRouter, Path
from pydantic import BaseModel

from services.api.context import ProjectContext
from services.api.deps import ID_CHARACTERS, LONGEST_ID, Context, Page
from services.api.features.jobs.lifecycle import JobLifecycle
from services.api.middleware.idempotency import once
from services.api.openapi_document import may_answer
from services.api.paging import WithId
from shared.contracts.views import Listed


def add_read_routes(router: APIRouter, lifecycle: JobLifecycle, view: type[BaseModel], prefix: str) -> None:
    """GET {prefix} and GET {prefix}/{id}."""
    noun, id_in_path = lifecycle.noun, _id_in_path(lifecycle)

    def list_jobs(context: Context, paging: Page):
        return lifecycle.page(context, paging)

    def get_job(context: Context, job_id: str = id_in_path):
        return lifecycle.get(context, job_id)

    router.get(prefix, name=f"list_{noun}s", response_model=Listed[view])(list_jobs)
    router.get(f"{prefix}/{{{noun}_id}}", name=f"get_{noun}", response_model=view)(get_job)


def add_control_routes(router: APIRouter, lifecycle: JobLifecycle, view: type[BaseModel], *prefixes: str) -> None:
    """POST {prefix}/{id}/cancel, /pause and /resume."""
    for verb, move in (("cancel", lifecycle.cancel), ("pause", lifecycle.pause), ("resume", lifecycle.resume)):
        for prefix in prefixes:
            router.post(
                f"{prefix}/{{{lifecycle.noun}_id}}/{verb}",
                name=f"{verb}_{lifecycle.noun}",
                response_model=view,
                dependencies=[once],
                responses=may_answer(409, 422),
            )(_control(move, lifecycle))


def _control(move: Callable[[ProjectContext, str], WithId], lifecycle: JobLifecycle):
    def control_job(context: Context, job_id: str = _id_in_path(lifecycle)):
        return move(context, job_id)

    return control_job


def _id_in_path(lifecycle: JobLifecycle):
    return Path(alias=f"{lifecycle.noun}_id", min_length=1, max_length=LONGEST_ID, pattern=ID_CHARACTERS)
