"""A test of one provider by a few cheap calls: what it answers, what it refuses, what it can do.

The calls pass the whole chain, so they stand on the ledger and what they teach is remembered. Each holds a fresh word, and no
answer is kept.
"""

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.strong_model.gateway import completions
from services.strong_model.gateway.call import Call, WaitingCaller
from services.strong_model.gateway.chain import Gateway
from services.strong_model.gateway.errors import ProviderError
from shared.contracts.errors import BudgetExceeded, as_body
from shared.contracts.json_types import Json
from shared.contracts.loose_json import values
from shared.contracts.masking import masked
from shared.contracts.providers import Change, ProviderReport
from shared.jobs.tables import DEFAULT_PROJECT
from shared.ledger.store import CallOrigin
from shared.platform.settings import platform_settings

PHASE = "provider test"
FOLDER = "provider-tests"  # of the data folder: the last report of each provider
ROOM = 32  # tokens of an answer
SCHEMA = {
    "type": "object",
    "properties": {"correct": {"type": "boolean"}},
    "required": ["correct"],
    "additionalProperties": False,
}
FORM = 'A student says that 2 + 2 is 4. Reply with one JSON object only: {"correct": true or false}.'
CONTEXT = ("context_length", "context_window", "max_context_length", "max_model_len", "inputTokenLimit",
           "max_context_window_tokens", "context_size", "n_ctx", "n_ctx_train")  # fmt: skip


class ProviderTest:
    """One test of one provider, without its fallbacks."""

    def __init__(self, gateway: Gateway, name: str):
        self.gateway = gateway
        self.provider = gateway.providers[name].model_copy(update={"fallback": []})
        self.report = ProviderReport(
            name=name, model=self.provider.model, address=masked(self.provider.base_url), tested_at=time.time()
        )
        self._numbers = itertools.count()
        self._changes: list[Change] = []

    async def run(self) -> ProviderReport:
        """Never raises ProviderError: a failure is what the report says."""
        began = time.monotonic()
        try:
            await self._ask("Say yes.", system="You are a careful examiner.")
        except (ProviderError, BudgetExceeded) as failure:
            self.report.error = as_body(failure)
        else:
            self.report.answers = True
            self.report.seconds = round(time.monotonic() - began, 2)
            self.report.system_role = self._how("messages", "role") or "kept"
            for part in (self._structured, self._seed, self._logprobs, self._batch):
                try:
                    await part()
                except (ProviderError, BudgetExceeded) as failure:
                    self.report.notes.append(f"{part.__name__.strip('_')}: {failure.message}")
        await self._listed()
        negotiation = self.gateway.negotiations[self.report.name]
        await negotiation.learn_context(self.report.context)
        status = negotiation.status()
        self.report.context = status.context
        self.report.changed, self.report.room = status.changed, status.room
        self.report.limits = dict(self.gateway.clients[self.report.name].limits)
        return self.report

    async def _structured(self) -> None:
        wanted = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}
        body = await self._ask(FORM, response_format=wanted)
        how = self._how("response_format") or ""
        kept = (
            "json_object" if "json_object" in how else "none" if how or not self.provider.json_schema else "json_schema"
        )
        text = body["choices"][0]["message"].get("content") or ""
        read = [value for value in values(text) if isinstance(value, dict)]
        self.report.structured = kept
        if not read or not isinstance(read[-1].get("correct"), bool):
            self.report.structured = "none"
            self.report.notes.append(f"structured output: the reply does not keep to the schema: {text[:80]!r}")

    async def _seed(self) -> None:
        """Two draws with one seed."""
        question = f"Write a random number of nine digits and nothing else. ({_word()})"
        draws = [(await self._ask(question, temperature=1.0, seed=7, fresh=False)) for _ in range(2)]
        if self._how("seed") or "seed" in self.provider.omit:
            self.report.seed = "dropped"
            return
        texts = {body["choices"][0]["message"].get("content") for body in draws}
        self.report.seed = "honoured" if len(texts) == 1 else "ignored"

    async def _logprobs(self) -> None:
        body = await self._ask("Say yes.", logprobs=True, top_logprobs=1)
        said = body["choices"][0].get("logprobs")
        self.report.logprobs = bool(isinstance(said, dict) and said.get("content"))

    async def _batch(self) -> None:
        """Without a batch: whether its list of batches is there."""
        answer = await self.gateway.clients[self.report.name].look("/batches?limit=1")
        self.report.batch = None if answer is None else isinstance(answer.get("data"), list)

    async def _listed(self) -> None:
        """What the provider's list of models says of this one."""
        listed = await self.gateway.clients[self.report.name].look("/models") or {}
        rows = listed.get("data")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        own = [row for row in rows if str(row.get("id", "")).removeprefix("models/") == self.provider.model]
        self.report.listed = bool(own) if rows else None
        lengths = [length for row in own for length in _lengths(row)]
        self.report.context = min(lengths, default=None)

    async def _ask(self, question: str, system: str | None = None, fresh: bool = True, **options: Any) -> Json:
        """The answer's body. Raises ProviderError, BudgetExceeded."""
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": f"{question} ({_word()})" if fresh else question})
        body: Json = {
            "model": self.provider.model,
            "messages": turns,
            "max_tokens": ROOM,
            "temperature": 0.0,
            "seed": 7,
        }
        body |= options
        origin = CallOrigin(DEFAULT_PROJECT, phase=PHASE)
        call = Call([self.provider], body, completions.request_hash(body), origin, former_hash=None)
        call.join(WaitingCaller(next(self._numbers), origin, None))
        self.report.calls += 1
        answer = await self.gateway.cache(call)
        cost = completions.cost(self.provider, answer.body)
        if cost is not None:
            self.report.input_tokens += cost.input_tokens
            self.report.output_tokens += cost.output_tokens
            self.report.usd = round(self.report.usd + cost.usd, 6)
        else:
            self.report.counts_tokens = False
        self._changes += [Change.model_validate(change) for change in answer.body[completions.OWN].get("changed", [])]
        self.report.reasoning_tokens = max(self.report.reasoning_tokens, _reasoning(answer.body))
        return answer.body

    def _how(self, *fields: str) -> str | None:
        """What became of one of these fields in the calls so far."""
        return next((change.how for change in self._changes if change.field in fields), None)


async def report_on(gateway: Gateway, name: str, max_age_s: float = 0.0) -> ProviderReport:
    """A report of at most this age for the provider's present settings; a new test where there is none."""
    settings = gateway.negotiations[name].settings_hash
    path = platform_settings().data / FOLDER / f"{name}-{settings[:16]}.json"
    if max_age_s and (kept := _kept(path)) is not None and time.time() - kept.tested_at <= max_age_s:
        return kept.model_copy(update={"cached": True})
    report = await ProviderTest(gateway, name).run()
    if report.answers:
        with contextlib.suppress(OSError):  # it is only kept to spare calls
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(report.model_dump_json())
    return report


def _kept(path: Path) -> ProviderReport | None:
    try:
        return ProviderReport.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None


def _word() -> str:
    return uuid.uuid4().hex[:8]


def _reasoning(body: Json) -> int:
    """Tokens of reasoning, at least 1 where there is any."""
    details = (body.get("usage") or {}).get("completion_tokens_details")
    counted = details.get("reasoning_tokens") if isinstance(details, dict) else 0
    counted = counted if isinstance(counted, int) else 0
    return max(counted, int(bool(body["choices"][0]["message"].get("reasoning_content"))))


def _lengths(row: Json, depth: int = 2) -> Iterator[int]:
    """Context lengths that a row of a list of models states, under any of the usual names."""
    for name, value in row.items():
        if isinstance(value, dict) and depth:
            yield from _lengths(value, depth - 1)
        elif name in CONTEXT and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value
