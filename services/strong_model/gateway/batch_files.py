"""A batch's files at its provider: one upload, whoever leads, and none that stays there.

An upload is counted before it begins. If it is not the first try, the provider's list is searched for a file with the batch's name: the
gateway that sent it may have died before it noted the id. Files that nobody needs any more are rows until they are deleted.
"""

import asyncio
import time

from services.strong_model.gateway import metrics
from services.strong_model.gateway.batch_client import BatchClient
from services.strong_model.gateway.errors import ProviderError
from shared.ledger.batch_store import BatchStore
from shared.ledger.records import BatchRecord
from shared.platform.log import get_logger

log = get_logger(__name__)
AGAIN_S = 30.0  # until a file that could not be deleted is tried again
GIVE_UP_S = 86_400.0  # after the batch's end


class BatchFiles:
    def __init__(self, store: BatchStore, poll_s: float):
        self.store, self.again_s = store, min(AGAIN_S, poll_s)
        self._not_before: dict[str, float] = {}  # by batch

    async def upload(self, client: BatchClient, batch: BatchRecord) -> None:
        """Raises ProviderError."""
        uploaded = None
        if batch.uploads:
            uploaded = next(iter(await client.files_of(batch.id)), None)
        if uploaded is not None:
            log.info("a batch's file is found again", batch=batch.id, file=uploaded)
            _count(client, "reused")
        elif await asyncio.to_thread(self.store.begin_upload, batch):
            uploaded = await client.upload(batch.id, self.store.requests(batch.id))
        else:
            return  # two gateways led for a moment
        if not await asyncio.to_thread(self.store.uploaded, batch.id, uploaded):
            log.warning("a batch's file was uploaded twice", batch=batch.id, file=uploaded)
            _count(client, "duplicate")

    async def clean(self, client: BatchClient | None, batch: BatchRecord) -> None:
        """Delete what is left of a batch. What cannot be deleted is tried again for a day."""
        if self._not_before.get(batch.id, 0.0) > time.monotonic():
            return
        try:
            if client is None:
                raise LookupError("its provider is not configured any more")
            for file in await self._unnoted(client, batch):
                await client.delete_file(file)
                _count(client, "duplicate")
            for file in batch.leftover or ():
                await client.delete_file(file)
                _count(client, "deleted")
        except (ProviderError, LookupError) as failure:
            self._not_before[batch.id] = time.monotonic() + self.again_s
            if batch.ended_at is None or batch.ended_at > time.time() - GIVE_UP_S:
                log.warning("a batch's files are not deleted yet", batch=batch.id, error=str(failure))
                return
            log.error(
                "a batch's files stay with the provider", batch=batch.id, files=batch.leftover, error=str(failure)
            )
            metrics.BATCH_FILES.labels(batch.provider, "left").inc()
        self._not_before.pop(batch.id, None)
        await asyncio.to_thread(self.store.cleaned, batch)

    async def _unnoted(self, client: BatchClient, batch: BatchRecord) -> list[str]:
        """Files of an ended batch that a try uploaded whose end nobody saw."""
        if batch.ended_at is None or batch.uploads <= (batch.remote_file is not None):
            return []
        return [file for file in await client.files_of(batch.id) if file not in (batch.leftover or ())]


def _count(client: BatchClient, fate: str) -> None:
    metrics.BATCH_FILES.labels(client.provider.name, fate).inc()
