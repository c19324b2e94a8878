"""Training and search on a CUDA device: bfloat16 weights, float32 adapters, the same figures as on the CPU."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer import supervisor
from services.trainer.spec import Spec
from services.trainer.train import sft
from services.trainer.train.decoding import Decoder
from services.trainer.train.dpo import dpo
from services.trainer.train.model import load_base, load_tokenizer
from services.trainer.train.progress import Reporter
from shared.contracts.steps import AdapterConfig, Method, ModelRef, StepKind, TrainParams
from tests.fakes.tiny_model import make_tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

WORDS = ["ls", "date", "wc", "grep", "find", "count", "name", "files"]
EXAMPLES = [{"id": f"{n}", "question": f"What is {w}?", "completion": f"{w} {w}"} for n, w in enumerate(WORDS)]
PAIRS = [{"id": f"{n}", "question": f"What is {w}?", "chosen": w, "rejected": "no"} for n, w in enumerate(WORDS)]


class Silent(Reporter):
    def __init__(self):
        super().__init__(io.StringIO())

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        assert done <= total


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"), seed=1)


def spec_of(
    kind: StepKind, rows: list, base: Path, folder: Path, adapter: Path | None = None, full: bool = False, **shape: Any
) -> Spec:
    params = TrainParams(
        model=ModelRef(base="tiny", base_hash="0" * 64),
        method=Method.FULL if full else Method.LORA,
        adapter=AdapterConfig(rank=4, alpha=8, **shape),
        epochs=6,
        learning_rate=1e-3 if full else 1e-2,
        batch_size=4,
        seed=0,
    )
    return Spec(
        kind=kind,
        params=params.model_dump(mode="json"),
        rows=rows,
        base=base,
        adapter=adapter,
        output=folder / "output",
        checkpoints=folder / "checkpoints",
    )


def test_the_loss_falls_and_the_preference_follows(base: Path, tmp_path: Path):
    tuned = spec_of(StepKind.SFT, EXAMPLES, base, tmp_path / "sft")
    figures = sft.fine_tune(tuned, Silent())
    assert figures["device"] == "cuda"
    assert figures["loss"] < figures["loss_first"] - 0.5
    assert figures["tokens_at_once"] > 0
    assert figures["gradient_checkpointing"] is False
    adapter = tuned.output / "adapter"
    assert {tensor.dtype for tensor in load_file(adapter / "adapter_model.safetensors").values()} == {torch.float32}

    preferring = spec_of(StepKind.DPO, PAIRS, base, tmp_path / "prefer", adapter)
    preferred = dpo(preferring, Silent())
    assert preferred["margin"] > 0.5


def test_greedy_search_repeats_itself_in_bfloat16(base: Path):
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    assert model.dtype == torch.bfloat16
    prompts = [tokenizer(word)["input_ids"] for word in ("files here", "count the lines of it")]
    with torch.inference_mode():
        decoder = Decoder(model, tokenizer, prompts, max_new_tokens=8)
        assert decoder.beams(1) == decoder.beams(1)
        assert len(decoder.beams(4)) == 2


@pytest.mark.parametrize(
    "shape",
    [
        {"load_in_4bit": True},
        {"load_in_4bit": True, "optim": "paged_adamw_8bit"},
        {"use_dora": True},
        {"full": True, "dtype": "bfloat16", "optim": "adamw_8bit"},
    ],
)
def test_forms_that_take_less_memory_learn_too(shape: dict[str, Any], base: Path, tmp_path: Path):
    figures = sft.fine_tune(spec_of(StepKind.SFT, EXAMPLES, base, tmp_path, **shape), Silent())
    assert figures["loss"] < figures["loss_first"] - 0.1


def test_a_step_larger_than_the_device_is_divided_and_taken(base: Path, tmp_path: Path):
    """With a share of the device that holds a few rows."""
    allowed = torch.cuda.get_per_process_memory_fraction()
    whole = torch.cuda.get_device_properties(0).total_memory
    spec = spec_of(StepKind.SFT, EXAMPLES, base, tmp_path)
    wanted = sft.fine_tune(spec, Silent())
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 40e6) / whole)
    try:
        small = spec_of(StepKind.SFT, EXAMPLES, base, tmp_path / "small")
        figures = sft.fine_tune(small, Silent())
    finally:
        torch.cuda.set_per_process_memory_fraction(allowed)
    assert figures["loss"] == pytest.approx(wanted["loss"], abs=0.05)


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize(("kind", "rows"), [(StepKind.SFT, EXAMPLES), (StepKind.DPO, PAIRS)])
def test_passes_without_padding_learn_what_padded_ones_do(
    kind: StepKind, rows: list, padding_free: bool, base: Path, tmp_path: Path
):
    """With flash-attn where it is installed."""
    train = sft.fine_tune if kind is StepKind.SFT else dpo
    spec = spec_of(kind, rows, base, tmp_path / "asked").model_copy(update={"padding_free": padding_free})
    wanted = train(spec_of(kind, rows, base, tmp_path / "ever"), Silent())
    figures = train(spec, Silent())
    assert figures.get("padding_free", False) is padding_free, figures.get("padding_free_refused")
    assert figures["loss"] == pytest.approx(wanted["loss"], abs=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("fsdp", [False, True])
async def test_two_gpus_learn_what_one_learns(fsdp: bool, base: Path, tmp_path: Path):
    """With a copy of the base each, and with half of it."""
    wanted = sft.fine_tune(spec_of(StepKind.SFT, EXAMPLES, base, tmp_path / "one"), Silent())
    spec = spec_of(StepKind.SFT, EXAMPLES, base, tmp_path / "two").model_copy(update={"processes": 2, "fsdp": fsdp})
    done = await supervisor.run(spec, tmp_path / "log", lambda *_, **__: None, 3.0)
    assert (done.metrics["processes"], done.metrics.get("fsdp", False)) == (2, fsdp)
    assert done.metrics["loss"] == pytest.approx(wanted["loss"], abs=0.05)
