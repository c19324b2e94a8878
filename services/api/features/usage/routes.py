"""/v1/usage"""

from typing import Annotated

from fastapi import Query

from services.api.deps import Context, needs
from services.api.features.usage import service as usage
from services.api.openapi_document import may_answer
from services.api.router import Router
from shared.contracts.keys import Scope
from shared.contracts.usage import UsageGroup, UsageReport

router = Router(prefix="/v1/usage", tags=["usage"], dependencies=[needs(Scope.ADMIN)])

LATEST = 2**33  # Unix seconds
Time = Annotated[int | None, Query(ge=0, le=LATEST, description="Unix seconds")]


@router.get("", responses=may_answer(400))
def get_project_usage(
    context: Context,
    group_by: UsageGroup = UsageGroup.DAY,
    since: Time = None,
    until: Time = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UsageReport:
    """What the project's calls to strong models took and cost, in groups, from `since` (30 days ago) until before `until` (now)."""
    return usage.report(context, group_by, since, until, limit)
