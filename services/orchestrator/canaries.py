"""Canaries that decide by themselves: each is looked at every few seconds, by one orchestrator at a time."""

import time
from collections.abc import Iterator
from math import inf

from shared.contracts.canary import Arm, Count, Metric, Per
from shared.evaluation.canaries import decide
from shared.jobs.feedback_store import RatedChats
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
    """Thumbs, in the step in which the answer was given."""
    now = stores.canaries.get(canary.project_id, canary.alias)
    if now is None or now.id != canary.id:
        return
    goal, starts = now.rule.goal if now.rule is not None else None, canary.step_times or []
    if goal is None:
        return
    for arm, model in ((Arm.SERVED, now.served), (Arm.CANARY, now.tried)):
        for step, (since, until) in enumerate(zip(starts, [*starts[1:], inf], strict=True)):
            of = RatedChats(canary.alias, model.version, since, until, goal.per is Per.USER, goal.user_key)
            up, down = stores.feedback.ratings(canary.project_id, of)
            yield Count(step, arm, up + down, down)
