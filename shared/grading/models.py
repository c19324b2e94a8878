"""Graders that ask a strong model: OpenAI's score_model and label_model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts import loose_json
from shared.contracts.errors import RowRefused
from shared.contracts.grader_kinds import UNGRADABLE, LabelModelGrader, ScoreModelGrader
from shared.contracts.json_types import Json
from shared.contracts.templates import MissingField
from shared.grading.attempt import Attempt, Graded, ModelCall
from shared.judging.prompts import repair_messages, response_format
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import run_rows

TRIES = 2  # a reply that cannot be read is asked for once more
NAMES = {  # under which the reply has the result
    "score_model": ("result", "score", "reward", "rating", "grade", "value"),
    "label_model": ("label", "result", "verdict", "classification", "category", "answer"),
}
_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)"
_SAID = re.compile(
    rf"(?:^|\b)(?:result|score|reward|rating|grade)[\s*_\"'`]*(?:[:=]|is\b)[\s*_\"'`]*({_NUMBER})(?![\w%])",
    re.IGNORECASE,
)


class ModelGrader:
    """Asks through the gateway, so that each call is on the ledger and within the budget. Raises what GatewayClient.chat raises, but
    for RowRefused."""

    def __init__(self, spec: ScoreModelGrader | LabelModelGrader, gateway: GatewayClient):
        self.spec, self._gateway = spec, gateway

    async def score_all(self, attempts: Sequence[Attempt]) -> list[Graded]:
        return await run_rows(self._score, attempts, lambda done, total: None)

    async def _score(self, attempt: Attempt) -> Graded:
        try:
            messages = messages_of(self.spec, attempt)
        except MissingField as missing:
            return Graded(0.0, UNGRADABLE if str(missing).startswith("item") else "", str(missing))
        calls: list[ModelCall] = []
        asked, text = messages, ""
        for _ in range(TRIES):
            try:
                reply = await self._chat(asked)
            except RowRefused as refused:
                return Graded(0.0, "refused", refused.message, calls=tuple(calls))
            calls.append(
                ModelCall(self.spec.model, reply.input_tokens, reply.output_tokens, reply.cached, reply.call_id)
            )
            if reply.finish_reason == "content_filter":
                return Graded(0.0, "refused", reply.text[:300], calls=tuple(calls))
            text = reply.text
            graded = read(self.spec, text, reply.finish_reason == "length")
            if graded is not None:
                return graded._replace(calls=tuple(calls))
            asked = repair_messages(messages, text, [NAMES[self.spec.type][0]])
        return Graded(0.0, "unread", f"no {NAMES[self.spec.type][0]} in the reply {text[:200]!r}", calls=tuple(calls))

    async def _chat(self, messages: list[dict[str, str]]) -> ChatReply:
        sampling = self.spec.sampling
        return await self._gateway.chat(
            model=self.spec.model,
            messages=messages,
            max_tokens=self.spec.max_tokens,
            temperature=0.0 if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            seed=sampling.seed,
            reasoning_effort=sampling.reasoning_effort,
            response_format=response_format(self.spec.type, schema_of(self.spec)),
        )


def schema_of(spec: ScoreModelGrader | LabelModelGrader) -> Json:
    result: Json = {"type": "number"} if isinstance(spec, ScoreModelGrader) else {"type": "string", "enum": spec.labels}
    name = NAMES[spec.type][0]
    return {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, name: result},
        "required": ["reasoning", name],
        "additionalProperties": False,
    }


def messages_of(spec: ScoreModelGrader | LabelModelGrader, attempt: Attempt) -> list[dict[str, str]]:
    """The grader's messages, and behind the last one of the user or the system the form of the reply, for models without structured
    output. Raises MissingField."""
    messages = [
        {"role": "system" if message.role == "developer" else message.role, "content": attempt.filled(message.template)}
        for message in spec.input
    ]
    if messages[-1]["role"] == "assistant":
        return [*messages, {"role": "user", "content": _form(spec)}]
    return [*messages[:-1], messages[-1] | {"content": f"{messages[-1]['content']}\n\n{_form(spec)}"}]


def _form(spec: ScoreModelGrader | LabelModelGrader) -> str:
    if isinstance(spec, ScoreModelGrader):
        low, high = spec.range
        return f'Reply with one JSON object: {{"reasoning": "one or two sentences", "result": a number from {low:g} to {high:g}}}'
    labels = ", ".join(f'"{label}"' for label in spec.labels)
    return f'Reply with one JSON object: {{"reasoning": "one or two sentences", "label": one of {labels}}}'


def read(spec: ScoreModelGrader | LabelModelGrader, text: str, cut_off: bool = False) -> Graded | None:
    """What a reply says; None where it says nothing, or a number outside of the range. Of several objects the last one counts."""
    return _score_in(spec, text, cut_off) if isinstance(spec, ScoreModelGrader) else _label_in(spec, text, cut_off)


def _score_in(spec: ScoreModelGrader, text: str, cut_off: bool) -> Graded | None:
    given = _result_in(spec.type, text, cut_off)
    if given is None and not cut_off:
        bare = loose_json.without_reasoning(text).strip().strip("*_`\"' .")
        said = _SAID.findall(bare)
        given = bare if re.fullmatch(_NUMBER, bare) else said[-1] if said else None
    if isinstance(given, str) and re.fullmatch(_NUMBER, given.strip()):
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    low, high = spec.range
    if not low <= given <= high:
        return None
    return Graded((given - low) / (high - low), raw=float(given))


def _label_in(spec: LabelModelGrader, text: str, cut_off: bool) -> Graded | None:
    given = _result_in(spec.type, text, cut_off)
    if given is None and not cut_off:
        given = loose_json.without_reasoning(text)
    if not isinstance(given, str | int | float | bool):
        return None
    by_word = {_word(label): label for label in spec.labels}
    label = str(given) if str(given) in spec.labels else by_word.get(_word(str(given)))
    if label is None:
        return None
    return Graded(float(label in spec.passing_labels), words=label)


def _word(text: str) -> str:
    return text.strip(" \t\n.!*_\"'`()[]").casefold()


def _result_in(kind: str, text: str, cut_off: bool) -> Any:
    """The result of the last object that has one; None without any."""
    for value in reversed(loose_json.values(text, cut_off=cut_off)):
        if isinstance(value, Mapping):
            fields = {str(name).casefold(): part for name, part in value.items()}
            for name in NAMES[kind]:
                if name in fields:
                    return fields[name]
    return None
