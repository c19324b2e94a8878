"""Tokens per second of our SFT against a bare PyTorch loop: same model, rows, batches, optimiser, one process.

    python -m tests.bench.training --model FOLDER --data ROWS.jsonl

The two take turns and each one's best turn counts. `ratio` (ours over bare) goes by the clock; `cpu_ratio` goes by the
seconds of processor time, which other work on the machine disturbs less. Prints one line of JSON.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from services.trainer.spec import Spec
from services.trainer.train.model import device, trainable, use_cores
from services.trainer.train.progress import Reporter, take_stdout
from services.trainer.train.sft import build
from services.trainer.train.watch import Watch
from shared.contracts.rows import Example
from shared.contracts.steps import AdapterConfig, ModelRef, StepKind, TrainParams
from tests.bench.training_options import training_options


class Rate(NamedTuple):
    """Tokens per second by the clock and by processor time."""

    clock: float
    cpu: float


class Timer(TrainerCallback):
    """Time and tokens after each optimiser step; the first step is a warm-up."""

    def __init__(self):
        self.points: list[tuple[float, float, int]] = []

    def note(self, tokens: int) -> None:
        self.points.append((time.perf_counter(), time.process_time(), tokens))

    def on_step_end(self, args, state, control, **_) -> None:
        self.note(state.num_input_tokens_seen)

    def rate(self) -> Rate:
        (clock, cpu, tokens), (last_clock, last_cpu, last_tokens) = self.points[0], self.points[-1]
        return Rate((last_tokens - tokens) / (last_clock - clock), (last_tokens - tokens) / (last_cpu - cpu))


def ours(spec: Spec, params: TrainParams, examples: list[Example]) -> Rate:
    """The trainer as a job runs it, progress lines included."""
    trainer, _ = build(spec, params, examples)
    timer = Timer()
    trainer.add_callback(Watch(spec, Reporter(sys.stderr)))
    trainer.add_callback(timer)
    trainer.train()
    return timer.rate()


def bare(spec: Spec, params: TrainParams, examples: list[Example]) -> Rate:
    """Forward, backward, clip and step on the same batches, with the model's own loss."""
    batches = list(_batches(spec, params, examples))
    model = trainable(spec, params).train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=params.learning_rate, weight_decay=0.0, fused=True)
    timer, tokens = Timer(), 0
    for batch in batches:
        batch = {name: tensor.to(device()) for name, tensor in batch.items()}
        with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        tokens += int(batch["attention_mask"].sum())
        timer.note(tokens)
    return timer.rate()


def _batches(spec: Spec, params: TrainParams, examples: list[Example]) -> Iterator[dict[str, torch.Tensor]]:
    trainer, _ = build(spec, params, examples)
    loader: DataLoader = trainer.get_train_dataloader()
    yield from loader


def examples_in(data: Path, rows: int) -> list[Example]:
    """The first so many rows that have a reference."""
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    lines = [line for line in lines if line.get("reference")][:rows]
    return [Example(id=str(n), question=line["question"], completion=line["reference"]) for n, line in enumerate(lines)]


def params_with(batch_size: int) -> TrainParams:
    return TrainParams(
        model=ModelRef(base="bench", base_hash="0" * 64),
        adapter=AdapterConfig(),
        epochs=1,
        learning_rate=2e-4,
        batch_size=batch_size,
        seed=0,
    )


def spec_of(model: Path, params: TrainParams, folder: Path) -> Spec:
    return Spec(
        kind=StepKind.SFT,
        params=params.model_dump(mode="json"),
        rows=[],
        base=model,
        adapter=None,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
    )


def main() -> None:
    options = training_options(__doc__).parse_args()
    out = take_stdout()
    use_cores(options.threads)
    examples, params = examples_in(options.data, options.rows), params_with(options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(options.model, params, Path(folder))
        rates = [(ours(spec, params, examples), bare(spec, params, examples)) for _ in range(options.turns)]
    best_ours, best_bare = (Rate(*map(max, zip(*side, strict=True))) for side in zip(*rates, strict=True))
    result = {
        "benchmark": "sft_tokens_per_second",
        "ours": round(best_ours.clock, 1),
        "bare": round(best_bare.clock, 1),
        "ratio": round(best_ours.clock / best_bare.clock, 3),
        "cpu_ratio": round(best_ours.cpu / best_bare.cpu, 3),
        "turns": [[round(figure, 1) for rate in turn for figure in rate] for turn in rates],
        "rows": len(examples),
        "batch_size": options.batch_size,
        "device": device().type,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
    }
    out.write(json.dumps(result) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
