"""Rows as token ids. A prompt's ids equal the engine's for the same messages.

The tokenizer is that of `load_tokenizer`, which has the student's chat template; profile: the student's.
"""

from typing import Any, TypedDict, TypeVar, cast

from jinja2 import TemplateError
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from services.trainer.train import architecture
from shared.contracts.conversation import with_parsed_calls
from shared.contracts.errors import UserError
from shared.contracts.json_types import Json
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.rows import Asked, Example, PreferencePair, student_messages
from shared.contracts.tool_calls import read_answer

IGNORED = -100  # a label without loss
PROBE = "zqanswer"  # a word that no template contains


class ExampleIds(TypedDict):
    """labels: the loss is on the completion's tokens only. weight: of them in the loss."""

    input_ids: list[int]
    labels: list[int]
    weight: float


class PairIds(TypedDict):
    """weight: of the pair's loss."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    weight: float


Ids = TypeVar("Ids", ExampleIds, PairIds)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, row: Asked) -> list[int]:
    """What is asked, up to the start of the student's turn. Raises UserError where the chat template refuses the messages."""
    messages = with_parsed_calls(student_messages(row))
    try:
        ids = tokenizer.apply_chat_template(messages, tools=_tools(row), add_generation_prompt=True, return_dict=False)
    except TemplateError as error:
        raise UserError(
            f"the student's chat template refuses row {row.id!r}: {error}", param="model", code="conversation_refused"
        ) from error
    return cast(list[int], ids)


def completion_ids(
    tokenizer: PreTrainedTokenizerBase, text: str, profile: PromptProfile = PLAIN, row: Asked | None = None
) -> list[int]:
    """The answer and the token that ends the student's turn. Calls of tools that the row offers are written as the template does."""
    end = turn_end(tokenizer, profile)
    written = called_text(tokenizer, row, text) if row is not None else None
    if written is None:
        ids = cast(list[int], tokenizer(profile.opening + text, add_special_tokens=False)["input_ids"])
        return [*ids, end]
    ids = cast(list[int], tokenizer(profile.opening + written, add_special_tokens=False)["input_ids"])
    ends = end_ids(tokenizer, profile)
    return [*(ids[: next((n for n, token in enumerate(ids) if token in ends), len(ids))]), end]


def called_text(tokenizer: PreTrainedTokenizerBase, row: Asked, text: str) -> str | None:
    """An answer with calls as the chat template writes it after the prompt; None for an answer in words, or a template that does
    not show calls: then the text itself is the answer."""
    tools = _tools(row)
    words, calls = read_answer(text, row.conversation.names) if row.conversation is not None and tools else ("", [])
    if not calls:
        return None
    asked = with_parsed_calls(student_messages(row))

    def rendered(answer: str, calls: list[Json]) -> str:
        turn: Json = {"role": "assistant", "content": answer} | ({"tool_calls": calls} if calls else {})
        return cast(
            str, tokenizer.apply_chat_template([*asked, *with_parsed_calls([turn])], tools=tools, tokenize=False)
        )

    prompt = tokenizer.apply_chat_template(asked, tools=tools, add_generation_prompt=True, tokenize=False)
    whole = rendered(words, calls)
    heads = (
        cast(str, prompt),
        rendered(PROBE, []).rpartition(PROBE)[0],
    )  # as it begins a turn, and as it shows a past one
    head = next((head for head in heads if head and whole.startswith(head)), None)
    written = whole[len(head) :] if head is not None else ""
    return written if all(call["function"]["name"] in written for call in calls) else None


def _tools(row: Asked) -> Any:
    return (row.conversation.tools or None) if row.conversation is not None else None


def turn_end(tokenizer: PreTrainedTokenizerBase, profile: PromptProfile) -> int:
    """Raises UserError for a model without any token for it."""
    end = tokenizer.convert_tokens_to_ids(profile.turn_end) if profile.turn_end else tokenizer.eos_token_id
    if not isinstance(end, int):
        raise UserError(
            "the student has no end token: neither its tokenizer nor its chat template names one", code="no_end_token"
        )
    return end


def end_ids(tokenizer: PreTrainedTokenizerBase, profile: PromptProfile) -> set[int]:
    """Tokens of tokenizer and template that end a turn."""
    own = tokenizer.eos_token_id
    return {turn_end(tokenizer, profile), *([own] if isinstance(own, int) else [])}


def longest_text(config: PreTrainedConfig, max_length: int) -> int:
    """Tokens a row may have: the job's maximum or the model's context, whichever is less."""
    return min(max_length, architecture.context(config) or max_length)


def example_ids(
    tokenizer: PreTrainedTokenizerBase, rows: list[Example], limit: int, profile: PromptProfile = PLAIN
) -> list[ExampleIds]:
    """Of the rows that fit into limit tokens. A longer row is dropped: a truncated answer would teach the student to stop anywhere.

    Raises UserError when no row fits.
    """
    fitting = []
    for row in rows:
        prompt, answer = prompt_ids(tokenizer, row), completion_ids(tokenizer, row.completion, profile, row)
        if len(prompt) + len(answer) <= limit:
            labels = [IGNORED] * len(prompt) + answer
            fitting.append(ExampleIds(input_ids=prompt + answer, labels=labels, weight=row.weight))
    return _not_empty(fitting, len(rows), limit)


def pair_ids(
    tokenizer: PreTrainedTokenizerBase, rows: list[PreferencePair], limit: int, profile: PromptProfile = PLAIN
) -> list[PairIds]:
    """As fitting_pairs. Raises UserError when no pair fits."""
    return _not_empty(fitting_pairs(tokenizer, rows, limit, profile), len(rows), limit)


def fitting_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: list[PreferencePair], limit: int, profile: PromptProfile = PLAIN
) -> list[PairIds]:
    """Of the pairs whose two sides fit into limit tokens."""
    fitting = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row)
        chosen, rejected = (completion_ids(tokenizer, text, profile, row) for text in (row.chosen, row.rejected))
        if len(prompt) + max(len(chosen), len(rejected)) <= limit:
            fitting.append(PairIds(prompt_ids=prompt, chosen_ids=chosen, rejected_ids=rejected, weight=row.weight))
    return fitting


def _not_empty(fitting: list[Ids], rows: int, limit: int) -> list[Ids]:
    if not fitting:
        raise UserError(
            f"all {rows} rows are longer than {limit} tokens; raise adapter.max_length or shorten the texts",
            param="distillation.adapter.max_length",
            code="rows_too_long",
        )
    return fitting
