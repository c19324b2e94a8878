"""Rows as token ids. A prompt's ids equal the engine's for the same messages.

The tokenizer is that of `load_tokenizer`, which has the student's chat template; profile: the student's.
"""

from typing import TypedDict, TypeVar, cast

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from services.trainer.train import architecture
from shared.contracts.answer_format import student_messages
from shared.contracts.errors import UserError
from shared.contracts.prompt_profile import PLAIN, PromptProfile
from shared.contracts.rows import Example, PreferencePair

IGNORED = -100  # a label without loss


class ExampleIds(TypedDict):
    """labels: the loss is on the completion's tokens only."""

    input_ids: list[int]
    labels: list[int]


class PairIds(TypedDict):
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


Ids = TypeVar("Ids", ExampleIds, PairIds)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """The pinned system text and the bare question, up to the start of the student's turn."""
    ids = tokenizer.apply_chat_template(student_messages(question), add_generation_prompt=True, return_dict=False)
    return cast(list[int], ids)


def completion_ids(tokenizer: PreTrainedTokenizerBase, text: str, profile: PromptProfile = PLAIN) -> list[int]:
    """The answer and the token that ends the student's turn."""
    ids = cast(list[int], tokenizer(profile.opening + text, add_special_tokens=False)["input_ids"])
    return [*ids, turn_end(tokenizer, profile)]


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
        prompt, answer = prompt_ids(tokenizer, row.question), completion_ids(tokenizer, row.completion, profile)
        if len(prompt) + len(answer) <= limit:
            fitting.append(ExampleIds(input_ids=prompt + answer, labels=[IGNORED] * len(prompt) + answer))
    return _not_empty(fitting, len(rows), limit)


def pair_ids(
    tokenizer: PreTrainedTokenizerBase, rows: list[PreferencePair], limit: int, profile: PromptProfile = PLAIN
) -> list[PairIds]:
    """Of the pairs whose two sides fit into limit tokens. Raises UserError when no pair fits."""
    fitting = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row.question)
        chosen, rejected = (completion_ids(tokenizer, text, profile) for text in (row.chosen, row.rejected))
        if len(prompt) + max(len(chosen), len(rejected)) <= limit:
            fitting.append(PairIds(prompt_ids=prompt, chosen_ids=chosen, rejected_ids=rejected))
    return _not_empty(fitting, len(rows), limit)


def _not_empty(fitting: list[Ids], rows: int, limit: int) -> list[Ids]:
    if not fitting:
        raise UserError(
            f"all {rows} rows are longer than {limit} tokens; raise adapter.max_length or shorten the texts",
            param="distillation.adapter.max_length",
            code="rows_too_long",
        )
    return fitting
