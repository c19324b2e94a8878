"""What the engine's settings gain and cost: n-gram speculation, fp8 keys and values, fp8 weights.

    python -m tests.bench.engine_settings MODEL [--ways plain ngram ...] [--tokens 96]

One vLLM each, in a process of its own, with the same greedy prompts: texts that repeat themselves (code to be copied) and texts that do not.
Prints a line of JSON per way: tokens a second, seconds of processor time, and the share of answers that are the same as with `plain`; what a
device cannot do says so. `make bench-gpu` runs it for a random 1.5B.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.weak_model.engine import vllm
from services.weak_model.settings import EngineSettings

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ngram": {"speculative_tokens": 4},
    "fp8 keys and values": {"kv_cache_dtype": "fp8"},
    "fp8 weights": {"quantization": "fp8"},
}
LIMIT_S, LEAST_S = 1800.0, 30.0
CODE = "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n\n\n"
PROMPTS = {
    "copied": [f"# version {n}\n{CODE}# version {n}, again\n{CODE}# version {n}, again\n" for n in range(8)],
    "free": [f"Question {n}: which command counts the lines of a file? Answer:" for n in range(8)],
}


def measure(model: Path, way: str, tokens: int) -> dict[str, Any]:
    """In this process, which loads vLLM."""
    from vllm import LLM, SamplingParams

    settings, cpu = EngineSettings(model=str(model), served_name="bench", **WAYS[way]), vllm.on_cpu()
    options: dict[str, Any] = {"dtype": vllm.dtype("auto", cpu, vllm.cpu_flags()), "max_model_len": 1024, "seed": 0}
    options |= {"kv_cache_dtype": settings.kv_cache_dtype, "quantization": settings.quantization or None}
    if settings.speculative_tokens:
        options["speculative_config"] = vllm.speculation(settings)
    if cpu:
        options |= {"kv_cache_memory_bytes": 2**29, "enforce_eager": True, "enable_chunked_prefill": False}
        options |= {"max_num_batched_tokens": 2048, "block_size": 32}
    else:
        options["gpu_memory_utilization"] = 0.6
    llm = LLM(str(model), max_num_seqs=16, **options)
    figures: dict[str, Any] = {"way": way}
    asked = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
    for name, prompts in PROMPTS.items():
        llm.generate(prompts[:1], SamplingParams(max_tokens=4, temperature=0), use_tqdm=False)
        began, used = time.monotonic(), _cpu_seconds()
        outputs = llm.generate(prompts, asked, use_tqdm=False)
        figures[name] = {
            "tokens_per_second": round(len(prompts) * tokens / (time.monotonic() - began), 1),
            "cpu_seconds": round(_cpu_seconds() - used, 2),
            "answers": [list(output.outputs[0].token_ids) for output in outputs],
        }
    return figures


def _cpu_seconds() -> float:
    """Of this process; where vLLM computes on a CPU it is the only one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def in_a_process(model: Path, way: str, tokens: int, limit_s: float) -> dict[str, Any]:
    one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    environment = os.environ | quiet | (one_process if vllm.on_cpu() else {})
    with tempfile.NamedTemporaryFile("r") as result:
        argv = [sys.executable, "-m", "tests.bench.engine_settings", str(model)]
        argv += ["--only", way, "--tokens", str(tokens), "--into", result.name]
        try:
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            return {"way": way, "failed": f"no result after {limit_s:.0f} s"}
        if done.returncode:
            lines = (done.stdout + done.stderr).splitlines()
            return {"way": way, "failed": vllm.explain(done.returncode, lines)[:400]}
        return json.loads(result.read())


def run(model: Path, ways: list[str], tokens: int, ends: float = math.inf) -> Iterator[dict[str, Any]]:
    """ends: of time.monotonic(); nothing runs longer."""
    plain: dict[str, Any] = {}
    lacking = vllm.lacks_fp8(vllm.on_cpu(), vllm.compute_capability())
    for way in ways:
        if WAYS[way].get("quantization") and lacking:
            yield {"way": way, "not_run": lacking}
            continue
        left = min(LIMIT_S, ends - time.monotonic())
        if left < LEAST_S:
            yield {"way": way, "not_run": "the time is over"}
            continue
        figures = in_a_process(model, way, tokens, left)
        plain = plain or figures
        for name in PROMPTS.keys() & figures.keys():
            answers = figures[name].pop("answers") if figures is not plain else figures[name]["answers"]
            same = [
                ours == theirs for ours, theirs in zip(answers, plain.get(name, {}).get("answers", []), strict=False)
            ]
            figures[name] = figures[name] | {"same_answers": sum(same) / len(answers)}
        yield {**figures, **{name: _without_answers(figures[name]) for name in PROMPTS.keys() & figures.keys()}}


def _without_answers(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "answers"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder of safetensors")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="the first one is what others are compared with"
    )
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        options.into.write_text(json.dumps(measure(options.model, options.only, options.tokens)))
        return
    for line in run(options.model, options.ways, options.tokens):
        print(json.dumps({"benchmark": "engine settings"} | line), flush=True)


if __name__ == "__main__":
    main()
