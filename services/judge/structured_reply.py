"""Asking the judge for a structured reply, with a second try when the first cannot be read, and what both cost.

Counts: `repairs` were asked for once more, `mended` had slips that were read as they are meant; of those that could not be read
`cut_off` ended at their token limit and `empty` held nothing but reasoning.
"""

from collections import Counter
from collections.abc import Sequence

from shared.contracts.errors import RowRefused
from shared.contracts.loose_json import without_reasoning
from shared.contracts.material import JUDGE_RULE, with_material
from shared.contracts.rows import ComparisonInput, JudgeInput
from shared.contracts.steps import JudgeParams
from shared.judging.prompts import repair_messages, with_analysis
from shared.judging.replies import VERDICTS, AnyReply, Reply, analysed, read, read_analysed
from shared.platform.gateway_client import ChatReply, GatewayClient

COUNTS = (
    "calls",
    "cached_calls",
    "repairs",
    "mended",
    "cut_off",
    "empty",
    "critiques_unparsed",
    "input_tokens",
    "output_tokens",
)

UNANSWERED = ChatReply("", "content_filter", None, 0, 0, cached=False)


class JudgeClient:
    """The judge of one step, with the costs so far."""

    def __init__(self, gateway: GatewayClient, params: JudgeParams, material: Sequence[str] = ()):
        """material: texts that are shown with every row."""
        self._gateway = gateway
        self._material = material
        self.params = params
        self.counter: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        return {name: self.counter[name] for name in COUNTS}

    async def ask(
        self, kind: type[AnyReply], messages: list[dict[str, str]], row: JudgeInput | ComparisonInput
    ) -> tuple[AnyReply | None, ChatReply]:
        """(reply, the call that brought it). The reply is None when neither try could be read, or the provider refuses this row. A
        verdict comes after an analysis where the step's params say so.

        Raises what GatewayClient.chat raises, but for RowRefused.
        """
        try:
            if self._analyses(kind):
                messages = with_analysis(messages)
            shown = with_material(messages, [*self._material, row.teacher_context or ""], JUDGE_RULE)
            return await self._ask(kind, shown, row.id)
        except RowRefused:
            return None, UNANSWERED

    async def _ask(
        self, kind: type[AnyReply], messages: list[dict[str, str]], example_id: str
    ) -> tuple[AnyReply | None, ChatReply]:
        chat_reply = await self._chat(kind, messages, example_id)
        reply = self._read(kind, chat_reply)
        if reply is None:
            self.counter["repairs"] += 1
            again = repair_messages(messages, chat_reply.text, list(self._asked_as(kind).model_fields))
            chat_reply = await self._chat(kind, again, example_id)
            reply = self._read(kind, chat_reply)
        return reply, chat_reply

    def _analyses(self, kind: type[Reply]) -> bool:
        return self.params.analysis and kind in VERDICTS

    def _asked_as(self, kind: type[Reply]) -> type[Reply]:
        return analysed(kind) if self._analyses(kind) else kind

    def _read(self, kind: type[AnyReply], chat_reply: ChatReply) -> AnyReply | None:
        reader = read_analysed if self._analyses(kind) else read
        reply, mended = reader(kind, chat_reply.text, chat_reply.finish_reason == "length")
        if reply is not None:
            self.counter["mended"] += mended
        elif chat_reply.finish_reason == "length":
            self.counter["cut_off"] += 1
        elif not without_reasoning(chat_reply.text):
            self.counter["empty"] += 1
        return reply

    async def _chat(self, kind: type[AnyReply], messages: list[dict[str, str]], example_id: str) -> ChatReply:
        reply = await self._gateway.chat(
            model=self.params.judge,
            messages=messages,
            response_format=self._asked_as(kind).format(),
            example_id=example_id,
            **self.params.sampling.model_dump(),
        )
        self.counter["calls"] += 1
        self.counter["cached_calls"] += reply.cached
        self.counter["input_tokens"] += reply.input_tokens
        self.counter["output_tokens"] += reply.output_tokens
        return reply
