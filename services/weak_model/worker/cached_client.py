"""Completions of a step's earlier attempt: a worker killed in the middle of a batch loses only the calls in flight."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.weak_model.worker.prompts import Messages
from services.weak_model.worker.student_client import CompletionClient, StudentReply
from shared.contracts.json_types import Json
from shared.contracts.steps import Sampling, content_hash


class CachedClient:
    """A client with a cache in a file of the step, one line per completion.

    Each line begins with the line break, so that a line cut off by a kill does not damage the next one.
    """

    def __init__(self, client: CompletionClient, file: Path):
        self._client = client
        self._file = file
        self._cached = dict(_read(file)) if file.exists() else {}

    async def complete(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, tools: Sequence[Json] = ()
    ) -> StudentReply:
        """As StudentClient.complete."""
        key = content_hash([model, messages, sampling.model_dump(), seed, *([list(tools)] if tools else [])])
        if key in self._cached:
            return self._cached[key]
        completion = await self._client.complete(model, messages, sampling, seed, tools)
        with self._file.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([key, *completion]))
        return completion


def _read(file: Path) -> Iterator[tuple[str, StudentReply]]:
    for line in file.read_text("utf-8", "replace").splitlines():
        try:
            key, *completion = json.loads(line)
            yield key, StudentReply(*completion)
        except (ValueError, TypeError):  # empty, or cut off
            continue
