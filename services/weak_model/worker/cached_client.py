"""Completions of a step's earlier attempt: a worker killed in the middle of a batch loses only the calls in flight."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
            return self._cached[key][0]
        completion = await self._client.complete(model, messages, sampling, seed, tools)
        self._keep([key, *completion])
        return completion

    async def complete_often(
        self, model: str, messages: Messages, sampling: Sampling, seed: int, n: int, tools: Sequence[Json] = ()
    ) -> list[StudentReply]:
        """As StudentClient.complete_often."""
        key = content_hash([model, messages, sampling.model_dump(), seed, n, list(tools)])
        if key in self._cached:
            return self._cached[key]
        completions = await self._client.complete_often(model, messages, sampling, seed, n, tools)
        self._keep([key, [list(completion) for completion in completions]])
        return completions

    def _keep(self, line: list[Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))


def _read(file: Path) -> Iterator[tuple[str, list[StudentReply]]]:
    """A line has the parts of one completion, or a list of several."""
    for line in file.read_text("utf-8", "replace").splitlines():
        try:
            key, first, *more = json.loads(line)
            several = first if isinstance(first, list) else [[first, *more]]
            yield key, [StudentReply(*completion) for completion in several]
        except (ValueError, TypeError):  # empty, or cut off
            continue
