"""Estimates: what a job would cost, from the price list and the lengths of its rows. No strong model is called."""

from collections.abc import Iterator, Sequence

from services.api.context import ProjectContext
from services.api.features.jobs import starts
from services.api.features.jobs.checks import CHECKS, Check, findings_of
from services.api.features.jobs.posted import MOST_ROWS, Posted
from services.api.features.jobs.training_memory import training_gb
from services.api.gateway_client import GatewayUnavailable
from shared.contracts.data import Split, judge_must_decide
from shared.contracts.estimate import Estimate
from shared.contracts.faults import besides
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import Problem, refuse
from shared.jobs.expected import expected_rates
from shared.plan.allocation import allocate
from shared.plan.estimate import Work, estimate, sizes
from shared.plan.rates import duration


def estimate_job(context: ProjectContext, request: JobRequest, more: Sequence[Check] = ()) -> Estimate:
    """Raises what posting the job would raise, and GatewayUnavailable if the prices are unknown."""
    prices, unavailable = None, None
    try:
        prices = context.providers.prices()
    except GatewayUnavailable as error:
        unavailable = error
    posted = Posted(context, starts.pinned(context, request), prices)
    problems = findings_of(posted, [*more, *CHECKS, _too_many]).problems
    refuse([*request.faults, *besides(request.faults, problems)])
    if unavailable is not None:
        raise unavailable
    return estimate_of(posted)


def _too_many(posted: Posted) -> Iterator[Problem | str]:
    if posted.data is not None and posted.too_long_to_read:
        yield Problem(
            code="too_many_rows",
            param="training_file",
            message=f"the job has {sum(posted.data.splits.values())} rows, and an estimate reads {MOST_ROWS} at most",
            remedy="post the job with pause_after: pilot, which measures the cost",
        )


def estimate_of(posted: Posted) -> Estimate:
    """Of a job without problems."""
    spec, rows = posted.spec, posted.rows
    train = sizes(row for row in rows if row.split == Split.TRAIN)
    by_judge = judge_must_decide(rows)
    dev, test = (
        sizes(row for row in rows if row.split == split and (row.reference or by_judge))
        for split in (Split.DEV, Split.TEST)
    )
    counts = allocate(len(train), spec)
    work = Work(dict.fromkeys(counts, train), counts, dev, test, by_judge)
    base = posted.context.bases.find(posted.request.model)
    rates = expected_rates(posted.context.stores.overview, posted.request, rows, base.folder if base else None)
    seconds = duration(posted.plan.rows(), rates) if posted.plan else None
    return estimate(spec, work, posted.prices or {}).model_copy(
        update={"seconds": seconds, "memory_gb": training_gb(posted)}
    )
