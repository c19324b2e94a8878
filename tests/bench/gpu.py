"""What a GPU gives: `make bench-gpu`, under 8 minutes, one line of JSON each; "not run" where there is none.

    python -m tests.bench.gpu [--seconds 330] [--reduced]

Models have random weights, so nothing is downloaded. SFT and DPO run through the trainer as a job does, with the passes it finds by itself;
`share_of_peak` compares 4 floating-point operations per parameter and token (forward, and gradients of activations; 6 with checkpointing) with what
the device is named to reach in bfloat16. --reduced: a tiny model, on any device; the tests run it so.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.trainer.spec import Spec
from services.trainer.train import packing, sft
from services.trainer.train.decoding import Decoder
from services.trainer.train.dpo import dpo
from services.trainer.train.model import device, load_base, load_tokenizer
from services.trainer.train.progress import Reporter, take_stdout
from shared.contracts.steps import AdapterConfig, ModelRef, StepKind, TrainParams
from tests.bench import engine_settings
from tests.fakes.tiny_model import make_tiny_llama, write_tokenizer

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12, "L4": 121e12}
SECONDS, SETTINGS_S = 330.0, 130.0  # no part begins later; for the engine's settings after that
WORDS = "count the lines of it and name the files here with ls "


class Size(NamedTuple):
    """prompt: words of a question."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    rows: int = 64
    batch: int = 32
    prompt: int = 400


SIZES = {"1.5B": Size(1536, 8960, 28, 12, 2), "8B": Size(4096, 14336, 32, 32, 8)}
TINY = {"tiny": Size(64, 128, 2, 2, 1, rows=4, batch=2, prompt=4)}


class Silent(Reporter):
    def __init__(self):
        super().__init__(io.StringIO())

    def tick(self, *_: Any, **__: Any) -> None:
        return


def random_model(folder: Path, size: Size) -> Path:
    """In bfloat16, initialised where it is computed."""
    if size is TINY["tiny"]:
        return make_tiny_llama(folder)
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=151_936,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=size.layers < 32,
        dtype=torch.bfloat16,
    )
    with torch.device(device()):
        model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def trained(
    kind: StepKind, base: Path, size: Size, scratch: Path, mixed: bool = False, asked: bool | None = None, **shape: Any
) -> dict[str, Any]:
    """Figures of one epoch over rows of random words, all of about one length; mixed: of an eighth of it and more.

    asked: passes without padding, or with it.
    """
    words = size.prompt * 5
    questions = [
        (WORDS * size.prompt)[: words * (1 + 5 * number % 8 if mixed else 8) // 8] for number in range(size.rows)
    ]
    answer = (WORDS * 40)[:200] if size.prompt > 100 else "ls -l"
    answered = {"completion": answer} if kind is StepKind.SFT else {"chosen": answer, "rejected": answer[::-1]}
    params = TrainParams(
        model=ModelRef(base="bench", base_hash="0" * 64),
        adapter=AdapterConfig(max_length=4096, **shape),
        epochs=1,
        learning_rate=1e-4,
        batch_size=size.batch,
        seed=0,
    )
    spec = Spec(
        kind=kind,
        params=params.model_dump(mode="json"),
        rows=[{"id": str(number), "question": question} | answered for number, question in enumerate(questions)],
        base=base,
        adapter=None,
        padding_free=asked,
        output=scratch / "output",
        checkpoints=scratch / "checkpoints",
    )
    return (sft.fine_tune if kind is StepKind.SFT else dpo)(spec, Silent())


def share_of_peak(tokens_per_second: float, parameters: int, checkpointing: bool) -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((value for part, value in PEAK.items() if part in name), None)
    operations = (4 + (2 if checkpointing else 0)) * parameters  # an adapter needs no gradients of the weights below it
    return None if peak is None else round(tokens_per_second * operations / peak, 3)


def trainings(name: str, size: Size, base: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    parameters = sum(weights.numel() for weights in load_base(base).parameters())
    forms: dict[str, dict[str, Any]] = {"lora": {}, "qlora": {"load_in_4bit": True}} if name == "8B" else {"lora": {}}
    for kind in (StepKind.SFT, StepKind.DPO):
        for form, shape in forms.items():
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            figures = trained(kind, base, size, scratch / f"{kind.value}-{form}", **shape)
            rate = figures["tokens_per_second"]
            yield {
                "benchmark": "sft" if kind is StepKind.SFT else "dpo",
                "model": name,
                "form": form,
                "tokens_per_second": rate,
                "share_of_peak": share_of_peak(rate, parameters, figures["gradient_checkpointing"]),
                "tokens_at_once": figures.get("tokens_at_once"),
                "gradient_checkpointing": figures["gradient_checkpointing"],
                "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1) if torch.cuda.is_available() else None,
            }


def padding(name: str, size: Size, base: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """Rows of many lengths, padded and one after another; only on a GPU."""
    if not torch.cuda.is_available():
        yield {"benchmark": "padding", "model": name, "not_run": "no GPU"}
        return
    for kind in (StepKind.SFT, StepKind.DPO):
        padded, free = (trained(kind, base, size, scratch / f"{kind}-{asked}", True, asked) for asked in (False, True))
        yield {
            "benchmark": "padding",
            "model": name,
            "kind": kind.value,
            "padded_tokens_per_second": padded["tokens_per_second"],
            "padding_free_tokens_per_second": free["tokens_per_second"],
            "flash_attn": packing.kernel() or "not installed",
            "refused": free.get("padding_free_refused"),
        }


@torch.inference_mode()
def sampling(name: str, size: Size, base: Path) -> Iterator[dict[str, Any]]:
    """The searches of phase 3: beams and samples of a batch of questions, by the trainer."""
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    prompts = [tokenizer((WORDS * 40)[: size.prompt])["input_ids"]] * size.batch
    new = 32 if size.prompt > 100 else 4
    for way, run in (("beam 4", lambda d: d.beams(4)), ("4 samples", lambda d: d.samples(4, 0.8))):
        began = time.monotonic()
        run(Decoder(model, tokenizer, prompts, new))
        rate = 4 * len(prompts) * new / (time.monotonic() - began)
        yield {"benchmark": "search", "model": name, "way": way, "tokens_per_second_at_most": round(rate, 1)}


def two_adapters(name: str, size: Size, base: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """vLLM with two adapters in one batch, and its sleep and waking; only on a GPU."""
    if not torch.cuda.is_available():
        yield {"benchmark": "engine", "model": name, "not_run": "no GPU"}
        return
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    adapters = []
    for number in (1, 2):
        trained(StepKind.SFT, base, size._replace(rows=size.batch), scratch / str(number))
        adapters.append(LoRARequest(f"a{number}", number, str(scratch / str(number) / "output" / "adapter")))
    torch.cuda.empty_cache()
    llm = LLM(
        str(base), enable_lora=True, max_loras=2, max_model_len=4096, gpu_memory_utilization=0.6, enable_sleep_mode=True
    )
    prompts, sampled = [(WORDS * 40)[: size.prompt]] * 64, SamplingParams(max_tokens=64, ignore_eos=True)
    for way, asked in (
        ("base", None),
        ("one adapter", adapters[0]),
        ("two adapters", [adapters[n % 2] for n in range(64)]),
    ):
        began = time.monotonic()
        llm.generate(prompts, sampled, lora_request=asked, use_tqdm=False)
        rate = 64 * 64 / (time.monotonic() - began)
        yield {"benchmark": "engine", "model": name, "way": way, "tokens_per_second": round(rate, 1)}
    greedy = SamplingParams(max_tokens=16, temperature=0, ignore_eos=True)

    def answers() -> list[list[int]]:
        return [
            list(llm.generate(prompts[:1], greedy, lora_request=one, use_tqdm=False)[0].outputs[0].token_ids)
            for one in (None, *adapters)
        ]

    before, awake_free = answers(), torch.cuda.mem_get_info()[0]
    began = time.monotonic()
    llm.sleep(level=1)
    asleep, asleep_free = time.monotonic(), torch.cuda.mem_get_info()[0]
    llm.wake_up()
    awake = time.monotonic()
    yield {
        "benchmark": "sleep",
        "model": name,
        "sleep_s": round(asleep - began, 2),
        "wake_s": round(awake - asleep, 2),
        "freed_gb": round((asleep_free - awake_free) / 1e9, 1),
        "answers_as_before": [ours == theirs for ours, theirs in zip(before, answers(), strict=True)],
    }


def settings(name: str, base: Path, ends: float) -> Iterator[dict[str, Any]]:
    """n-gram speculation and fp8, each in a process of its own; only on a GPU. ends: when nothing more may run."""
    if not torch.cuda.is_available():
        yield {"benchmark": "engine settings", "model": name, "not_run": "no GPU"}
        return
    for line in engine_settings.run(base, list(engine_settings.WAYS), 256, ends):
        yield {"benchmark": "engine settings", "model": name} | line


def run(sizes: dict[str, Size], seconds: float) -> Iterator[dict[str, Any]]:
    """Each part begins only while there is time; a part that fails says so, and the others go on."""
    began, bases = time.monotonic(), dict[str, Path]()
    with tempfile.TemporaryDirectory() as folder:
        for name, size in sizes.items():
            place = Path(folder) / name
            base = bases[name] = random_model(place / "model", size)
            parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
                "training": lambda name=name, size=size, base=base, place=place: trainings(name, size, base, place),
                "search": lambda name=name, size=size, base=base: sampling(name, size, base),
            }
            if name != "8B":
                parts["padding"] = lambda name=name, size=size, base=base, place=place: padding(
                    name, size, base, place / "padding"
                )
                parts["engine"] = lambda name=name, size=size, base=base, place=place: two_adapters(
                    name, size, base, place / "engine"
                )
            for part, lines in parts.items():
                if time.monotonic() - began > seconds:
                    yield {"benchmark": part, "model": name, "not_run": f"{seconds:.0f} s are over"}
                    continue
                try:
                    yield from lines()
                except Exception as error:
                    yield {"benchmark": part, "model": name, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
        smallest = next(iter(bases))
        yield from settings(smallest, bases[smallest], began + seconds + SETTINGS_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no part begins later")
    parser.add_argument("--reduced", action="store_true", help="a tiny model, on any device")
    options = parser.parse_args()
    out = take_stdout()

    def say(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    if not torch.cuda.is_available() and not options.reduced:
        say({"benchmark": "gpu", "not_run": "no GPU"})
        return
    named = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for line in run(TINY if options.reduced else SIZES, options.seconds):
        say(line | {"device": named})


if __name__ == "__main__":
    main()
