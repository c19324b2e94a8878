"""Laying an adapter into the base's weights, and asking both the same: greedily, in float32, whatever the device."""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.trainer.spec import Spec
from services.trainer.train import data
from services.trainer.train.decoding import Decoder
from services.trainer.train.model import device, load_base, load_tokenizer, save_weights
from services.trainer.train.progress import Reporter
from shared.contracts.errors import UserError
from shared.contracts.export_steps import MergeParams
from shared.contracts.rows import ParitySample, StudentPrompt


class Answered(NamedTuple):
    """Greedy token ids, and the logits that each was chosen by, the end included: (tokens + 1, vocabulary), on the CPU."""

    ids: list[int]
    logits: torch.Tensor


def merge(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Rows are StudentPrompt. Leaves rows.json with a ParitySample for each that fits, and with params.keep the merged model's folder.

    Without an adapter (a whole model was trained) there is nothing to merge: the model is asked, and is what it is.
    """
    params = MergeParams.model_validate(spec.params)
    tokenizer, model = load_tokenizer(spec.base), load_base(spec.base, exact=True).eval()
    room = model.config.max_position_embeddings - params.max_new_tokens
    questions = [StudentPrompt.model_validate(row) for row in spec.rows]
    prompts = {q.id: ids for q in questions if len(ids := data.prompt_ids(tokenizer, q.question)) <= room}
    if not prompts:
        raise UserError("no question of the comparison fits into the model's context", code="rows_too_long")
    total = 2 * len(prompts)
    if spec.adapter is None:
        said = _answers(model, tokenizer, prompts, params.max_new_tokens, reporter, 0, total)
        return _write(spec.output, tokenizer, said, {name: (one.ids, one.logits) for name, one in said.items()})
    adapted = PeftModel.from_pretrained(model, str(spec.adapter), torch_device=str(device())).eval()
    said = _answers(cast(PreTrainedModel, adapted), tokenizer, prompts, params.max_new_tokens, reporter, 0, total)
    merged = cast(PreTrainedModel, adapted.merge_and_unload())
    if params.keep:
        save_weights(merged, spec.base, spec.output / "weights")
        del model, adapted, merged
        merged = load_base(spec.output / "weights", exact=True).eval()  # what is given away, not what was saved
    again = _answers(merged, tokenizer, prompts, params.max_new_tokens, reporter, len(prompts), total)
    forced = {name: (again[name].ids, logits(merged, prompts[name], said[name].ids)) for name in prompts}
    return _write(spec.output, tokenizer, said, forced)


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: dict[str, list[int]],
    new_tokens: int,
    reporter: Reporter,
    done: int,
    total: int,
) -> dict[str, Answered]:
    found = {}
    for number, (name, prompt) in enumerate(prompts.items(), start=done + 1):
        with torch.inference_mode():
            (ids,) = Decoder(model, tokenizer, [prompt], new_tokens).beams(1)
        found[name] = Answered(ids, logits(model, prompt, ids))
        reporter.tick(number, total)
    return found


@torch.inference_mode()
def logits(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """What the model makes of an answer token by token, its end included."""
    ids = torch.tensor([prompt + answer], device=model.device)
    return model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0].float().cpu()


def _write(
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    said: dict[str, Answered],
    again: dict[str, tuple[list[int], torch.Tensor]],
) -> dict[str, Any]:
    rows = []
    for name, one in said.items():
        ids, other = again[name]
        apart = (one.logits - other).abs()
        texts = [cast(str, tokenizer.decode(each, skip_special_tokens=True)) for each in (one.ids, ids)]
        rows.append(
            ParitySample(
                id=name,
                adapter=texts[0],
                merged=texts[1],
                same=one.ids == ids,
                tokens=len(one.ids),
                logit_max=float(apart.max()),
                logit_mean=float(apart.mean()),
            )
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / "rows.json").write_text(json.dumps([row.model_dump(mode="json") for row in rows]))
    return {"rows": len(rows), "same": sum(row.same for row in rows), "device": device().type}
