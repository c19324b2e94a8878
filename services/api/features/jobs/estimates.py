"""Estimates: what a job would cost, by the price list and the lengths of its rows. Nothing is asked of a strong model."""

from services.api.context import ApiContext
from services.api.features.jobs import checks as job_checks
from shared.contracts.data import Split, judge_must_decide
from shared.contracts.errors import UserError
from shared.contracts.estimate import Estimate
from shared.contracts.jobs import JobRequest
from shared.plan.allocation import allocate
from shared.plan.estimate import Work, estimate, sizes

MOST_ROWS = 100_000  # all are held in memory for a moment


def estimate_job(context: ApiContext, project: str, request: JobRequest) -> Estimate:
    """Raises what posting the job would raise, and GatewayUnavailable where the prices cannot be had."""
    prices = context.providers.prices()
    data = job_checks.check(context, project, request, prices).data
    if (count := sum(data.splits.values())) > MOST_ROWS:
        raise UserError(
            f"the job has {count} rows, an estimate reads {MOST_ROWS} at most; post the job with "
            "pause_after: pilot for one that is measured",
            param="training_file",
            code="too_many_rows",
        )
    spec = request.distillation
    rows = data.rows(context.artifacts)
    train = sizes(row for row in rows if row.split == Split.TRAIN)
    by_judge = judge_must_decide(rows)
    dev, test = (
        sizes(row for row in rows if row.split == split and (row.reference or by_judge))
        for split in (Split.DEV, Split.TEST)
    )
    counts = allocate(len(train), spec)
    return estimate(spec, Work(dict.fromkeys(counts, train), counts, dev, test, by_judge), prices)
