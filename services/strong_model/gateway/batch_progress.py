"""How far a batch is, for whoever waits for it."""

import time

from shared.ledger.records import BatchRecord


def batch_progress(batch: BatchRecord) -> str:
    error = f" ({batch.error})" if batch.error else ""
    if batch.state != "submitted":
        return f"a batch of {batch.requests} requests is collected for provider {batch.provider!r}{error}"
    done = f"{batch.answered} of {batch.requests} requests done"
    minutes = (time.time() - batch.created_at) / 60
    return f"a batch at provider {batch.provider!r}: {batch.remote_status}, {done} after {minutes:.0f} min{error}"
