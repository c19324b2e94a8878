"""/v1/graders: the kinds that there are. /v1/fine_tuning/alpha/graders, OpenAI's: is a grader one, and what does it give an answer."""

from services.api.deps import Context, needs
from services.api.features.graders import kinds
from services.api.features.graders import service as graders
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.grader_runs import (
    GraderKindObject,
    GraderRequest,
    GraderRun,
    GraderRunRequest,
    GraderValidated,
)
from shared.contracts.keys import Scope
from shared.contracts.views import Listed

router = Router(prefix="/v1", tags=["graders"], dependencies=[needs(Scope.JOBS)])


ALPHA = "/fine_tuning/alpha/graders"  # where OpenAI has them


@router.get("/graders")
def list_graders(context: Context) -> Listed[GraderKindObject]:
    """The kinds of graders of this installation: its own, and those that other packages bring (entry points `meteor.graders`)."""
    return kinds.page(context)


@router.post(f"{ALPHA}/validate")
async def validate_grader(context: Context, body: GraderRequest) -> GraderValidated:
    """Whether a job could use this grader: its settings, its formula and templates, its files, its source."""
    return await graders.validate(context, body)


@router.post(f"{ALPHA}/run", responses=may_answer(503))
async def run_grader(context: Context, body: GraderRunRequest) -> GraderRun:
    """Grade one answer, as a job would. If the grader fails at this answer, the request still succeeds, and `metadata.errors` says why."""
    return await graders.run(context, body)
