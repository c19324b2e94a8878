"""Canaries that decide by themselves: each is looked at every few seconds, by one orchestrator at a time."""

import time

from shared.evaluation.canaries import decide
from shared.jobs.canary_store import CanaryStore
from shared.jobs.records import CanaryRecord
from shared.platform.log import get_logger

log = get_logger(__name__)
LOOK_EVERY_S = 2.0


def look(store: CanaryStore) -> None:
    """Evaluate the canaries whose turn it is. A fault of one does not hold up the others."""
    for canary in store.due(LOOK_EVERY_S):
        try:
            _look_at(store, canary)
        except (ValueError, ArithmeticError) as error:
            log.error("canary not evaluated", canary=canary.id, alias=canary.alias, error=repr(error))


def _look_at(store: CanaryStore, canary: CanaryRecord) -> None:
    assert canary.id is not None
    assert canary.rule is not None
    assert canary.step is not None
    verdict = decide(canary.rule, canary.shadow, canary.step, store.counts(canary.id), time.time())
    if verdict.outcome is not None:
        if store.conclude(canary, verdict):
            log.info("canary decided", canary=canary.id, alias=canary.alias, outcome=verdict.outcome.value)
    elif verdict.advance:
        if store.advance(canary, verdict.standing):
            log.info("canary goes on", canary=canary.id, alias=canary.alias, step=canary.step + 2)
    else:
        store.note(canary, verdict.standing)
