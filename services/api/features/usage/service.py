"""What a project has spent at strong models, by the ledger."""

import time

from services.api.context import ProjectContext
from shared.contracts.errors import UserError
from shared.contracts.keys import KeyBudget, KeySpent
from shared.contracts.usage import SharedBudgetObject, UsageGroup, UsageReport, UsageRow
from shared.ledger.accounts import SharedBudget
from shared.ledger.spending import usage_between, usage_by

MONTH_S = 30 * 24 * 3600


def report(
    context: ProjectContext, group_by: UsageGroup, since: int | None, until: int | None, limit: int
) -> UsageReport:
    """Raises UserError for a time that ends before it begins."""
    now = time.time()
    end = int(now) + 1 if until is None else until
    begin = max(end - MONTH_S, 0) if since is None else since
    if begin >= end:
        raise UserError("`since` is not before `until`", param="since", code="invalid_value")
    engine, project = context.ledger.engine, context.view if group_by is UsageGroup.PROJECT else context.project
    rows, more = usage_by(engine, project, group_by, begin, end, limit)
    return UsageReport(
        group_by=group_by,
        since=begin,
        until=end,
        total=usage_between(engine, project, begin, end),
        data=[UsageRow(group=group, **used.model_dump()) for group, used in rows],
        has_more=more,
        budgets=[_budget(one) for one in context.ledger.shared_budgets(context.project, context.key_id, now)],
    )


def _budget(budget: SharedBudget) -> SharedBudgetObject:
    limits = budget.limits
    return SharedBudgetObject(
        id=budget.account_id,
        name=budget.name,
        limits=KeyBudget(max_usd=limits.usd, max_tokens=limits.tokens, max_calls=limits.calls),
        spent=KeySpent(**budget.spent._asdict()),
    )
