"""Estimates: what a job would cost, from the price list and the lengths of its rows. No strong model is called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.api.context import ProjectContext
from services.api.features.jobs import starts
from services.api.features.jobs.checks import CHECKS, Check, findings_of
from services.api.features.jobs.posted import Posted
from services.api.features.jobs.training_memory import fit, training_gb
from services.api.gateway_client import GatewayUnavailable
from shared.artifacts.capabilities import published
from shared.contracts.data import Split
from shared.contracts.estimate import Estimate
from shared.contracts.faults import besides
from shared.contracts.jobs import JobRequest
from shared.contracts.problems import refuse
from shared.contracts.steps import StepKind
from shared.datasets.columns import HAS_REFERENCE
from shared.datasets.rows import JobRows
from shared.datasets.splits import CODES
from shared.jobs.expected import expected_rates
from shared.plan.allocation import allocate
from shared.plan.estimate import TextBytes, Work, estimate
from shared.plan.rates import duration

if TYPE_CHECKING:  # at run time where it is used: the API starts without it
    import numpy as np


def estimate_job(context: ProjectContext, request: JobRequest, more: Sequence[Check] = ()) -> Estimate:
    """Raises what posting the job would raise, and GatewayUnavailable if the prices are unknown."""
    prices, unavailable = None, None
    try:
        prices = context.providers.all_prices()
    except GatewayUnavailable as error:
        unavailable = error
    posted = Posted(context, starts.pinned(context, request), prices)
    problems = findings_of(posted, [*more, *CHECKS]).problems
    refuse([*request.faults, *besides(request.faults, problems)])
    if unavailable is not None:
        raise unavailable
    return estimate_of(posted)


def _sizes(rows: JobRows, which: "np.ndarray") -> TextBytes:
    columns = ("question_bytes", "reference_bytes", "teacher_bytes")
    return TextBytes(*(rows.column(name)[which] for name in columns))


def estimate_of(posted: Posted) -> Estimate:
    """Of a job without problems."""
    import numpy as np

    spec, rows = posted.spec, posted.rows
    by_judge = rows.judge_must_decide
    measured = np.ones(len(rows), dtype=bool) if by_judge else rows.has(HAS_REFERENCE)
    train = _sizes(rows, rows.splits == CODES[Split.TRAIN])
    dev, test = (_sizes(rows, (rows.splits == CODES[split]) & measured) for split in (Split.DEV, Split.TEST))
    counts = allocate(len(train), spec)
    work = Work(dict.fromkeys(counts, train), counts, dev, test, by_judge, material=posted.material_bytes)
    base = posted.context.bases.find(posted.request.model)
    rates = expected_rates(posted.context.stores.overview, posted.request, rows.lengths, base.folder if base else None)
    untried = base is not None and base.folder is not None and not published(posted.context.platform.data, base.name)
    tried_first = {("prepare", StepKind.PROBE): 1} if untried else {}
    seconds = duration({**posted.plan.rows(), **tried_first}, rates) if posted.plan else None
    return estimate(spec, work, posted.prices or {}).model_copy(
        update={"seconds": seconds, "memory_gb": training_gb(posted), "memory": fit(posted)}
    )
