"""Trainings small enough for a CPU: their rows, parameters and specs, and a progress that only remembers."""

import io
from pathlib import Path
from typing import Any

from services.trainer.spec import Spec
from services.trainer.train.progress import Reporter
from shared.contracts.steps import AdapterConfig, ModelRef, StepKind, TrainParams, content_hash

WORDS = ["ls", "date", "wc", "grep", "find", "count", "name", "files"]
EXAMPLES = [{"id": f"{n}", "question": f"What is {w}?", "completion": f"{w} {w}"} for n, w in enumerate(WORDS)]
PAIRS = [{"id": f"{n}", "question": f"What is {w}?", "chosen": w, "rejected": "no"} for n, w in enumerate(WORDS)]


class Ticks(Reporter):
    def __init__(self):
        super().__init__(io.StringIO())
        self.last: dict[str, Any] = {}

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        self.last = {"done": done, "total": total, "eta_s": eta_s, **metrics}


def train_params(**changes) -> TrainParams:
    values: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "batch_size": 4, "seed": 0, **changes}
    model = ModelRef(base="tiny", base_hash=content_hash("tiny"), weights=values.pop("weights", None))
    return TrainParams(model=model, adapter=AdapterConfig(rank=4, alpha=8), **values)


def spec_of(kind: StepKind, params: TrainParams, rows: list, base: Path, folder: Path, adapter: Path | None = None):
    return Spec(
        kind=kind,
        params=params.model_dump(mode="json"),
        rows=rows,
        base=base,
        adapter=adapter,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
    )
