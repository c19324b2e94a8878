"""The system as its stores show it: who works, what waits, how calls to strong models end."""

import time

from services.api.context import ApiContext
from shared.contracts.steps import Queue
from shared.contracts.system import ProcessObject, ProviderCalls, QueueObject, SystemObject
from shared.jobs.records import WorkerRecord
from shared.ledger.spending import outcomes_since

SHOWN_S = 600.0  # a lost process is told of for this long
HOUR_S = 3600.0


def show(context: ApiContext) -> SystemObject:
    processes = _processes(context)
    return SystemObject(
        processes=processes,
        queues=_queues(context, processes),
        jobs=context.stores.overview.count_by_status(),
        calls=[
            ProviderCalls(
                id=one.provider,
                outcomes=one.counts,
                latency_ms=one.latency_ms,
                error=one.error,
                error_at=None if one.error_at is None else int(one.error_at),
            )
            for one in outcomes_since(context.ledger.engine, time.time() - HOUR_S)
        ],
    )


def _processes(context: ApiContext) -> list[ProcessObject]:
    silent_since = time.time() - context.platform.lease.total_seconds()
    rows = context.stores.overview.processes(SHOWN_S)
    # one that announced its stop and is silent has ended as it should
    return [_process(row, silent_since) for row in rows if row.seen_at > silent_since or not row.stopping]


def _process(row: WorkerRecord, silent_since: float) -> ProcessObject:
    lost = row.seen_at <= silent_since
    return ProcessObject(
        id=row.id,
        service=row.service,
        queue=row.queue,
        slots=row.slots,
        state="lost" if lost else "stopping" if row.stopping else "alive",
        seen_at=int(row.seen_at),
    )


def _queues(context: ApiContext, processes: list[ProcessObject]) -> list[QueueObject]:
    steps: dict[str, dict[str, int]] = {queue.value: {} for queue in Queue}
    for (queue, state), number in context.stores.overview.count_steps().items():
        steps.setdefault(queue, {})[state] = number
    slots = {name: sum(one.slots for one in processes if one.queue == name and one.state == "alive") for name in steps}
    return [QueueObject(id=name, slots=slots[name], steps=counts) for name, counts in steps.items()]
