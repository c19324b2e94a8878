"""Merges an adapter into the base's weights and compares greedy answers of both, in float32 on every device."""

import json
import sys
from pathlib import Path
from typing import NamedTuple, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.trainer.spec import Metrics, Spec
from services.trainer.train import architecture, data
from services.trainer.train.decoding import Decoder
from services.trainer.train.model import device, load_base, load_tokenizer, save_weights
from services.trainer.train.progress import Reporter
from shared.contracts.errors import UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.prompt_profile import PromptProfile
from shared.contracts.rows import ParitySample, StudentPrompt


class GreedyAnswer(NamedTuple):
    """logits: (tokens + 1, vocabulary) on the CPU, those of the end token included."""

    ids: list[int]
    logits: torch.Tensor


def merge(spec: Spec, reporter: Reporter) -> Metrics:
    """Rows are StudentPrompt. Writes rows.json with a ParitySample per row that fits, and the merged model with params.keep.

    Without an adapter (a whole model was trained) the model is compared with itself.
    """
    params = MergeParams.model_validate(spec.params)
    tokenizer, model = load_tokenizer(spec.base, params.model.profile), load_base(spec.base, exact=True).eval()
    room = architecture.context(model.config) or sys.maxsize
    questions = [StudentPrompt.model_validate(row) for row in spec.rows]
    prompts = {q.id: data.prompt_ids(tokenizer, q) for q in questions}
    prompts = {name: ids for name, ids in prompts.items() if len(ids) + params.max_new_tokens <= room}
    if not prompts:
        raise UserError("no question of the comparison fits into the model's context", code="rows_too_long")
    total, profile = 2 * len(prompts), params.model.profile

    def answered(student: PreTrainedModel, done: int) -> dict[str, GreedyAnswer]:
        answers = {}
        for number, (name, prompt) in enumerate(prompts.items(), start=done + 1):
            with torch.inference_mode():
                (decoded,) = Decoder(student, tokenizer, [prompt], params.max_new_tokens, profile).beams(1)
                ids = decoded.ids
            answers[name] = GreedyAnswer(ids, logits(student, prompt, ids))
            reporter.tick(number, total)
        return answers

    if spec.adapter is None:
        answers = answered(model, 0)
        return _write(spec.output, tokenizer, answers, answers, profile)
    adapted = PeftModel.from_pretrained(model, str(spec.adapter), torch_device=str(device())).eval()
    answers = answered(cast(PreTrainedModel, adapted), 0)
    merged = cast(PreTrainedModel, adapted.merge_and_unload())
    if params.keep:
        save_weights(merged, spec.base, spec.output / "weights", profile)
        del model, adapted, merged
        merged = load_base(spec.output / "weights", exact=True).eval()  # the exported files, read back
    again = answered(merged, len(prompts))
    forced = {name: GreedyAnswer(again[name].ids, logits(merged, prompts[name], answers[name].ids)) for name in prompts}
    return _write(spec.output, tokenizer, answers, forced, profile)


@torch.inference_mode()
def logits(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """The model's logits at each token of the answer and at its end."""
    ids = torch.tensor([prompt + answer], device=model.device)
    return model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0].float().cpu()


def _write(
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    adapted: dict[str, GreedyAnswer],
    merged: dict[str, GreedyAnswer],
    profile: PromptProfile,
) -> Metrics:
    rows = []
    for name, answer in adapted.items():
        other = merged[name]
        difference = (answer.logits - other.logits).abs()
        texts = [cast(str, tokenizer.decode(ids, skip_special_tokens=True)) for ids in (answer.ids, other.ids)]
        texts = [profile.without_thoughts(text)[0] for text in texts]
        rows.append(
            ParitySample(
                id=name,
                adapter=texts[0],
                merged=texts[1],
                same=answer.ids == other.ids,
                tokens=len(answer.ids),
                logit_max=float(difference.max()),
                logit_mean=float(difference.mean()),
            )
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / "rows.json").write_text(json.dumps([row.model_dump(mode="json") for row in rows]))
    return {"rows": len(rows), "same": sum(row.same for row in rows), "device": device().type}
