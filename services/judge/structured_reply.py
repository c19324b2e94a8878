"""Asking the judge: one structured reply, a second try when the first is not one, and what both have cost."""

from collections import Counter
from collections.abc import Callable

from services.judge.prompts import repair_messages
from services.judge.replies import AnyReply, parse
from shared.contracts.steps import JudgeParams
from shared.platform.gateway_client import ChatReply, GatewayClient

Progress = Callable[[int, int], None]
COUNTS = ("calls", "cached_calls", "repairs", "critiques_unparsed", "input_tokens", "output_tokens")


class Asking:
    """The judge at work on one step, with what it has cost so far."""

    def __init__(self, gateway: GatewayClient, params: JudgeParams):
        self._gateway = gateway
        self._params = params
        self.counted: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        return {name: self.counted[name] for name in COUNTS}

    async def ask(
        self, kind: type[AnyReply], messages: list[dict[str, str]], example_id: str
    ) -> tuple[AnyReply | None, ChatReply]:
        """One structured reply; a second try when the first one is not the object asked for, then None."""
        reply = await self._chat(kind, messages, example_id)
        said = parse(kind, reply.text, reply.finish_reason == "length")
        if said is None:
            self.counted["repairs"] += 1
            again = repair_messages(messages, reply.text, list(kind.model_fields))
            reply = await self._chat(kind, again, example_id)
            said = parse(kind, reply.text, reply.finish_reason == "length")
        return said, reply

    async def _chat(self, kind: type[AnyReply], messages: list[dict[str, str]], example_id: str) -> ChatReply:
        sampling = self._params.sampling
        reply = await self._gateway.chat(
            model=self._params.judge,
            messages=messages,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            response_format=kind.format(),
            example_id=example_id,
        )
        self.counted["calls"] += 1
        self.counted["cached_calls"] += reply.cached
        self.counted["input_tokens"] += reply.input_tokens
        self.counted["output_tokens"] += reply.output_tokens
        return reply
