"""From rows to token ids. The prompt's ids are those that the engine makes of the same messages."""

from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from shared.contracts.answer_format import student_messages
from shared.contracts.errors import UserError
from shared.contracts.rows import Example, PreferencePair

IGNORED = -100  # a label without loss


def prompt_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """The bare question under the pinned system text, up to where the student's turn begins."""
    ids = tokenizer.apply_chat_template(student_messages(question), add_generation_prompt=True, return_dict=False)
    return cast(list[int], ids)


def completion_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The answer and the token that ends it."""
    ids = cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, cast(int, tokenizer.eos_token_id)]


def longest_text(config: PreTrainedConfig, max_length: int) -> int:
    """Tokens that a row may have: the job's maximum or the model's context, whichever is less."""
    return min(max_length, getattr(config, "max_position_embeddings", max_length))


def example_ids(tokenizer: PreTrainedTokenizerBase, rows: list[Example], limit: int) -> list[dict[str, Any]]:
    """input_ids and labels (loss on the answer's tokens only) of the rows that fit into limit tokens.

    Raises UserError when none does. A row is dropped whole: a cut answer would teach the student to stop anywhere.
    """
    found = []
    for row in rows:
        prompt, answer = prompt_ids(tokenizer, row.question), completion_ids(tokenizer, row.completion)
        if len(prompt) + len(answer) <= limit:
            found.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    return _some(found, rows, limit)


def pair_ids(tokenizer: PreTrainedTokenizerBase, rows: list[PreferencePair], limit: int) -> list[dict[str, Any]]:
    """prompt_ids, chosen_ids and rejected_ids of the pairs whose two sides fit. Raises UserError when none does."""
    found = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row.question)
        chosen, rejected = completion_ids(tokenizer, row.chosen), completion_ids(tokenizer, row.rejected)
        if len(prompt) + max(len(chosen), len(rejected)) <= limit:
            found.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return _some(found, rows, limit)


def _some(found: list[dict[str, Any]], rows: list, limit: int) -> list[dict[str, Any]]:
    if not found:
        raise UserError(
            f"all {len(rows)} rows are longer than {limit} tokens; raise adapter.max_length or shorten the texts",
            param="distillation.adapter.max_length",
            code="rows_too_long",
        )
    return found
