"""Canaries that decide by themselves: each is looked at every few seconds, by one orchestrator at a time."""

import time
from collections.abc import Iterator

from shared.contracts.canary import Arm, Count, Metric
from shared.evaluation.canaries import decide
from shared.jobs.feedback_store import Ratings
from shared.jobs.records import CanaryRecord
from shared.jobs.schema import Stores
from shared.platform.log import get_logger

log = get_logger(__name__)
LOOK_EVERY_S = 2.0


def look(stores: Stores) -> None:
    """Evaluate the canaries whose turn it is. A fault of one does not hold up the others."""
    for canary in stores.canaries.due(LOOK_EVERY_S):
        try:
            _look_at(stores, canary)
        except (ValueError, ArithmeticError) as error:
            log.error("canary not evaluated", canary=canary.id, alias=canary.alias, error=repr(error))


def _look_at(stores: Stores, canary: CanaryRecord) -> None:
    assert canary.id is not None
    assert canary.rule is not None
    assert canary.step is not None
    store, rated = stores.canaries, canary.rule.goal.metric is Metric.FEEDBACK
    counts = list(_ratings(stores, canary)) if rated else store.counts(canary.id)
    verdict = decide(canary.rule, canary.shadow, canary.step, counts, time.time())
    if verdict.outcome is not None:
        if store.conclude(canary, verdict):
            log.info("canary decided", canary=canary.id, alias=canary.alias, outcome=verdict.outcome.value)
    elif verdict.advance:
        if store.advance(canary, verdict.standing):
            log.info("canary goes on", canary=canary.id, alias=canary.alias, step=canary.step + 2)
    else:
        store.note(canary, verdict.standing)


def _ratings(stores: Stores, canary: CanaryRecord) -> Iterator[Count]:
    """Thumbs, in the step in which the answer was given: those since its start, less those since the start of the next."""
    now = stores.canaries.get(canary.project_id, canary.alias)
    if now is None or now.id != canary.id:
        return
    for arm, model in ((Arm.SERVED, now.served), (Arm.CANARY, now.tried)):
        starts = canary.step_times or []
        since = [stores.feedback.ratings(canary.project_id, canary.alias, model.version, start) for start in starts]
        for step, (all_since, later) in enumerate(zip(since, [*since[1:], Ratings(0, 0)], strict=True)):
            up, down = all_since.up - later.up, all_since.down - later.down
            yield Count(step, arm, up + down, down)
