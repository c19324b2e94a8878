"""Estimates: what a job would cost, from the price list and the lengths of its rows. No strong model is called."""

from services.api.context import ProjectContext
from services.api.features.jobs import checks, starts
from shared.contracts.data import Split, judge_must_decide
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate
from shared.contracts.jobs import JobRequest
from shared.plan.allocation import allocate
from shared.plan.estimate import Work, estimate, sizes

MOST_ROWS = 100_000  # all of them are held in memory


def estimate_job(context: ProjectContext, request: JobRequest) -> Estimate:
    """Raises what posting the job would raise, and GatewayUnavailable if the prices are unknown."""
    prices, request = context.providers.prices(), starts.pinned(context, request)
    data = checks.check(context, request, prices).data
    if (count := sum(data.splits.values())) > MOST_ROWS:
        raise UserError(
            f"the job has {count} rows, and an estimate reads {MOST_ROWS} at most; post the job with pause_after: pilot, "
            "which measures the cost",
            param="training_file",
            code="too_many_rows",
        )
    spec, rows = request.distillation, context.job_rows(data)
    train = sizes(row for row in rows if row.split == Split.TRAIN)
    by_judge = judge_must_decide(rows)
    dev, test = (
        sizes(row for row in rows if row.split == split and (row.reference or by_judge))
        for split in (Split.DEV, Split.TEST)
    )
    counts = allocate(len(train), spec)
    return estimate(spec, Work(dict.fromkeys(counts, train), counts, dev, test, by_judge), prices)
