"""`meteor spending`: what the project's calls to strong models have cost, in groups."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from services.cli.client import client
from services.cli.options import DEFAULT_DATA, Data, Json
from shared.contracts.usage import SharedBudgetObject, UsageGroup, UsageReport
from shared.platform.terminal import emit, say

COLUMNS = ("USD", "calls", "tokens in", "tokens out", "from the cache")


def spending(
    by: Annotated[UsageGroup, typer.Option(help="how calls are grouped")] = UsageGroup.DAY,
    days: Annotated[int, typer.Option(min=1, max=3650, help="the last so many days")] = 30,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many groups")] = 100,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What the project has spent at strong models, and what is left of its budgets; for keys with the scope admin."""
    since = int((datetime.now(UTC) - timedelta(days=days)).timestamp())
    query = {"group_by": by.value, "since": since, "limit": limit}
    with client(data) as api:
        report = api.ask(UsageReport, "GET", "/v1/usage", params=query)
    if as_json:
        emit(report, as_json)
        return
    emit(report, as_json, _table(report))
    if report.has_more:
        say(f"the first {limit} groups; `meteor spending --by {by.value} --limit {min(10 * limit, 1000)}` shows more")
    for budget in report.budgets:
        say(f"{budget.name}: {_left(budget)}")


def _table(report: UsageReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(report.group_by.value, overflow="fold")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    for name, row in [*((row.group or "-", row) for row in report.data), ("all", report.total)]:
        figures = (row.teacher_calls, row.input_tokens, row.output_tokens, row.cached_calls)
        table.add_row(Text(name), f"{row.usd_spent:.4f}", *(f"{figure:,}" for figure in figures))
    return table


def _left(budget: SharedBudgetObject) -> str:
    """What each of its limits leaves."""
    limits, spent = budget.limits, budget.spent
    told = (
        ("USD", limits.max_usd, spent.usd), ("tokens", limits.max_tokens, spent.tokens), ("calls", limits.max_calls, spent.calls),
    )  # fmt: skip
    return ", ".join(
        f"{max(most - used, 0):,g} of {most:,g} {unit} left" for unit, most, used in told if most is not None
    )
