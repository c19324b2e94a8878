"""Beam search three ways: `python -m tests.bench.beam --model FOLDER` (part of `make bench`).

The same questions at a fixed length (the end token is off, so all do the same work), in float32:
  one      transformers' generate, a question at a time
  batch    transformers' generate, all questions of a batch together
  decoder  ours (services/trainer/train/decoding.py): as batch, on prompts that were prefilled once for both sides of a pair
  vllm     vLLM's beam search behind its API, all questions at once
The first three must find the same texts, else this fails. Prints one JSON object: seconds and tokens of the best beam per second.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from services.trainer.train import data
from services.trainer.train.decoding import Decoder
from services.trainer.train.model import load_base, load_tokenizer, use_cores
from shared.contracts.rows import Asked
from tests.fakes.ports import free_port
from tests.fakes.start import running

NO_END = [2**31 - 1]  # no token has this id
Prompts = list[list[int]]
Found = list[list[int]]


def plain(model: PreTrainedModel, pad: int, prompts: Prompts, width: int, new: int) -> Found:
    """transformers on its own; prompts padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    config = GenerationConfig(
        num_beams=width, do_sample=False, max_new_tokens=new, eos_token_id=NO_END, pad_token_id=pad
    )
    out = cast(Any, model).generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return out[:, longest:].tolist()


def in_batches(search: Callable[[Prompts], Found], prompts: Prompts, size: int) -> Found:
    return [row for start in range(0, len(prompts), size) for row in search(prompts[start : start + size])]


def ours(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Prompts, width: int, new: int
) -> tuple[Found, Found]:
    decoder = Decoder(model, tokenizer, prompts, new)
    decoder.ends = NO_END
    return [one.ids for one in decoder.beams(width)], [one.ids for one in decoder.beams(1)]


def by_vllm(url: str, prompts: Prompts, width: int, new: int) -> Found:
    def one(prompt: list[int]) -> list[int]:
        body = {
            "model": "student", "prompt": prompt, "use_beam_search": True, "n": width, "max_tokens": new,
            "temperature": 0, "ignore_eos": True, "return_token_ids": True,
        }  # fmt: skip
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=1800)
        answer.raise_for_status()
        return answer.json()["choices"][0]["token_ids"]

    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(one, prompts))


def timed(search: Callable[[], Any], tokens: int) -> tuple[Any, dict[str, float]]:
    started = time.perf_counter()
    result = search()
    seconds = time.perf_counter() - started
    return result, {"seconds": round(seconds, 2), "tokens_per_second": round(tokens / seconds, 1)}


def in_this_process(model_folder: Path, prompts: Prompts, width: int, new: int, batch: int) -> dict[str, Any]:
    model, tokenizer = load_base(model_folder).eval(), load_tokenizer(model_folder)
    pad, tokens = cast(int, tokenizer.pad_token_id), len(prompts) * new
    with torch.inference_mode():
        plain(model, pad, prompts[:1], width, 4)  # the first call prepares things
        one, figures_one = timed(lambda: in_batches(lambda p: plain(model, pad, p, width, new), prompts, 1), tokens)
        many, figures_many = timed(
            lambda: in_batches(lambda p: plain(model, pad, p, width, new), prompts, batch), tokens
        )
        both, figures_both = timed(
            lambda: [ours(model, tokenizer, prompts[i : i + batch], width, new) for i in range(0, len(prompts), batch)],
            tokens,
        )
        candidates = [row for chosen, _ in both for row in chosen]
        greedy, figures_greedy = timed(
            lambda: in_batches(lambda p: plain(model, pad, p, 1, new), prompts, batch), tokens
        )
    if not one == many == candidates:
        raise SystemExit("the implementations do not find the same texts")
    if greedy != [row for _, rejected in both for row in rejected]:
        raise SystemExit("greedy on the shared cache is not greedy")
    return {
        "found": candidates,
        "one": figures_one,
        "batch": figures_many,
        "batch_and_greedy": {"seconds": round(figures_many["seconds"] + figures_greedy["seconds"], 2)},
        "decoder_and_greedy": figures_both,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("examples/shell.jsonl"))
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 10])
    parser.add_argument("--batch", type=int, default=4, help="as evolve.search_batch")
    options = parser.parse_args()
    use_cores(0)
    tokenizer = load_tokenizer(options.model)
    rows = [json.loads(line) for line in options.data.read_text().splitlines()[: options.questions]]
    prompts = [data.prompt_ids(tokenizer, Asked(id="a", question=row["question"])) for row in rows]
    result: dict[str, Any] = {"questions": len(prompts), "tokens": options.tokens}
    for width in options.widths:
        result[f"width_{width}"] = in_this_process(options.model, prompts, width, options.tokens, options.batch)
    with tempfile.TemporaryDirectory(prefix="meteor-bench-") as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        os.environ |= {
            "METEOR_DATA": folder,
            "METEOR_ENGINE_PORT": str(port),
            "METEOR_ENGINE_MODEL": str(options.model.resolve()),
            "METEOR_ENGINE_SERVED_NAME": "student",
            "METEOR_ENGINE_DTYPE": "float32",
            "METEOR_ENGINE_MAX_MODEL_LEN": "512",
        }
        with running(["services.weak_model", "engine"], f"{url}/health", timeout_s=400):
            by_vllm(url, prompts[:1], 2, 4)
            for width in options.widths:
                here = result[f"width_{width}"]
                candidates, figures = timed(
                    lambda width=width: by_vllm(url, prompts, width, options.tokens), len(prompts) * options.tokens
                )
                own = here.pop("found")
                same = sum(a == b for a, b in zip(candidates, own, strict=True))
                here["vllm"] = figures | {"same_as_ours": same}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
