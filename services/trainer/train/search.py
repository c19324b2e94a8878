"""Self-evolution's first half: the same question answered by beam search and greedily (paper section 3.3).

Both sides come from the same model object, dtype, prompt ids and even the same prefilled cache: engines that differ in
any of these would invent pairs.
"""

import copy
import json
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from services.trainer.spec import Spec
from services.trainer.train import data
from services.trainer.train.model import load_student, load_tokenizer
from services.trainer.train.progress import Reporter
from shared.contracts.errors import UserError
from shared.contracts.rows import Asked, Pair
from shared.contracts.steps import SearchParams

FOUND = "found.jsonl"  # in the checkpoint folder: one finished question per line


def search(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are Asked. Leaves rows.json with a Pair per question, equal sides included, in the request's order."""
    params = SearchParams.model_validate(spec.params)
    questions = [Asked.model_validate(row) for row in spec.rows]
    set_seed(params.seed)
    tokenizer, model = load_tokenizer(spec.base), load_student(spec)
    prompts = [data.prompt_ids(tokenizer, question.question) for question in questions]
    room = model.config.max_position_embeddings - params.max_new_tokens
    fitting = sorted((i for i, ids in enumerate(prompts) if len(ids) <= room), key=lambda i: len(prompts[i]))
    if not fitting:
        raise UserError(
            f"no question leaves room for {params.max_new_tokens} tokens of answer in the model's context",
            param="distillation.answer_tokens",
            code="rows_too_long",
        )
    found = _resume(spec.checkpoints / FOUND)
    with (spec.checkpoints / FOUND).open("a") as file:
        for start in range(0, len(fitting), params.batch_size):
            batch = fitting[start : start + params.batch_size]
            if any(i not in found for i in batch):
                sides = decode(
                    model, tokenizer, [prompts[i] for i in batch], [params.beam_width, 1], params.max_new_tokens
                )
                for i, chosen, rejected in zip(batch, *sides, strict=True):
                    found[i] = (chosen, rejected)
                    file.write(json.dumps([i, chosen, rejected]) + "\n")
                file.flush()
            reporter.tick(min(start + params.batch_size, len(fitting)), len(fitting))
    return _write(spec.output, tokenizer, questions, found) | {"dropped_too_long": len(questions) - len(fitting)}


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    widths: list[int],
    max_new_tokens: int,
) -> list[list[list[int]]]:
    """For each beam width the completions of all prompts as token ids, without the end token. Width 1 is greedy.

    The prompts are prefilled once, padded on the left; each search begins on a copy of that cache.
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    prefilled = DynamicCache(config=model.config)
    model(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=positions[:, :-1],
        past_key_values=prefilled,
        use_cache=True,
        logits_to_keep=1,
    )
    sides = []
    for width in widths:
        cache = copy.deepcopy(prefilled)
        cache.batch_repeat_interleave(width)
        config = GenerationConfig(
            num_beams=width,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=_end_tokens(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
        out = cast(Any, model).generate(
            input_ids=ids, attention_mask=mask, past_key_values=cache, generation_config=config
        )
        sides.append([_until_end(row[longest:].tolist(), config.eos_token_id) for row in out])
    return sides


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """All tokens that end a turn, as the engine takes them: the tokenizer's and the model's own."""
    own: Any = model.generation_config.eos_token_id if model.generation_config else None
    ends: list[Any] = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return sorted({token for token in ends if token is not None})


def _until_end(ids: list[int], ends: list[int]) -> list[int]:
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]


def _resume(path: Path) -> dict[int, tuple[list[int], list[int]]]:
    """What an earlier attempt of this step found; a torn last line is ignored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return {}
    whole = path.read_text().rpartition("\n")[0]
    path.write_text(whole + "\n" if whole else "")
    return {i: (chosen, rejected) for i, chosen, rejected in map(json.loads, whole.splitlines())}


def _write(
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Asked],
    found: dict[int, tuple[list[int], list[int]]],
) -> dict[str, Any]:
    rows = []
    for i, question in enumerate(questions):
        if i in found:
            chosen, rejected = (cast(str, tokenizer.decode(ids, skip_special_tokens=True)) for ids in found[i])
            rows.append(Pair(id=question.id, question=question.question, chosen=chosen, rejected=rejected))
    output.mkdir(parents=True, exist_ok=True)
    (output / "rows.json").write_text(json.dumps([row.model_dump(mode="json") for row in rows]))
    return {
        "rows": len(rows),
        "same": sum(row.chosen == row.rejected for row in rows),
        "mean_tokens_chosen": round(fmean(len(chosen) for chosen, _ in found.values()), 2),
        "mean_tokens_rejected": round(fmean(len(rejected) for _, rejected in found.values()), 2),
    }
