"""Self-evolution, first half: each question is answered with more compute and greedily (paper section 3.3).

Both sides come from one model object, dtype, prompt ids and prefilled cache: a difference in any of these would create
spurious pairs.
"""

import json
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from services.trainer.spec import Metrics, Spec
from services.trainer.train import architecture, data
from services.trainer.train.decoding import Decoded, Decoder
from services.trainer.train.model import load_student, load_tokenizer
from services.trainer.train.progress import Reporter
from services.trainer.train.strategies import STRATEGIES
from shared.contracts.errors import UserError
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.rows import PreferencePair, Side, StudentPrompt
from shared.contracts.steps import SearchParams
from shared.contracts.tool_calls import normal_answer

FINISHED = "sides.jsonl"  # in the checkpoint folder: one finished question per line
Sides = dict[int, tuple[Decoded, Decoded]]  # index of a question -> chosen and rejected
SIDES: tuple[Side, Side] = ("chosen", "rejected")


def search(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are StudentPrompt. Writes rows.json with a PreferencePair per question, equal sides included, in the
    request's order."""
    params = SearchParams.model_validate(spec.params)
    questions = [StudentPrompt.model_validate(row) for row in spec.rows]
    tokenizer, model = load_tokenizer(spec.base, params.model.profile), load_student(spec)
    prompts = [data.prompt_ids(tokenizer, question) for question in questions]
    room = architecture.context(model.config)
    fits = [room is None or len(ids) <= room - params.max_new_tokens for ids in prompts]
    fitting = sorted((i for i in range(len(prompts)) if fits[i]), key=lambda i: len(prompts[i]))
    if not fitting:
        raise UserError(
            f"no question leaves {params.max_new_tokens} tokens for the answer in the model's context",
            param="distillation.answer_tokens",
            code="rows_too_long",
        )
    finished = _resume(spec.checkpoints / FINISHED)
    with (spec.checkpoints / FINISHED).open("a") as file:
        for start in range(0, len(fitting), params.batch_size):
            batch = fitting[start : start + params.batch_size]
            if any(i not in finished for i in batch):
                set_seed(params.seed + start)  # so that an interrupted search resumes with the same samples
                sides = both_sides(model, tokenizer, [prompts[i] for i in batch], params)
                for i, chosen, rejected in zip(batch, *sides, strict=True):
                    finished[i] = (chosen, rejected)
                    file.write(json.dumps([i, chosen, rejected]) + "\n")
                file.flush()
            reporter.tick(min(start + params.batch_size, len(fitting)), len(fitting))
    written = _write(spec.output, tokenizer, questions, finished, params.model.profile)
    return written | {"dropped_too_long": len(questions) - len(fitting)}


@torch.inference_mode()
def both_sides(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], params: SearchParams
) -> tuple[list[Decoded], list[Decoded]]:
    """The high-compute and the low-compute (greedy) completions of all prompts."""
    decoder = Decoder(model, tokenizer, prompts, params.max_new_tokens, params.model.profile)
    return STRATEGIES[params.strategy](decoder, params), decoder.beams(1)


def _resume(path: Path) -> Sides:
    """The questions that an earlier attempt of this step finished; an incomplete last line is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return {}
    whole = path.read_text().rpartition("\n")[0]
    path.write_text(whole + "\n" if whole else "")
    return {i: (Decoded(*chosen), Decoded(*rejected)) for i, chosen, rejected in map(json.loads, whole.splitlines())}


def _answer(question: StudentPrompt, text: str) -> str:
    """Calls of offered tools in the form of the references."""
    offered = question.conversation.names if question.conversation is not None else frozenset()
    return normal_answer(text, offered) if offered else text


def _write(
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[StudentPrompt],
    finished: Sides,
    profile: PromptProfile,
) -> Metrics:
    rows = []
    for i, question in enumerate(questions):
        if i in finished:
            texts = [cast(str, tokenizer.decode(side.ids, skip_special_tokens=True)) for side in finished[i]]
            chosen, rejected = (_answer(question, profile.without_thoughts(text)[0]) for text in texts)
            asked = question.model_dump(include={"id", "question", "conversation"})
            cut_off: list[Side] = [name for name, side in zip(SIDES, finished[i], strict=True) if not side.whole]
            rows.append(PreferencePair(**asked, chosen=chosen, rejected=rejected, cut_off=cut_off))
    output.mkdir(parents=True, exist_ok=True)
    (output / "rows.json").write_text(json.dumps([row.model_dump(mode="json") for row in rows]))
    return {
        "rows": len(rows),
        "same": sum(row.chosen == row.rejected for row in rows),
        "cut_off": sum(bool(row.cut_off) for row in rows),
        "mean_tokens_chosen": round(fmean(len(chosen.ids) for chosen, _ in finished.values()), 2),
        "mean_tokens_rejected": round(fmean(len(rejected.ids) for _, rejected in finished.values()), 2),
    }
