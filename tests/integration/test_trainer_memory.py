"""A training that does not fit takes less at once and learns the same; and forms of training that take less memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.trainer.spec import Spec
from services.trainer.train import sft, step_in_passes
from services.trainer.train.dpo import dpo
from services.trainer.train.model import load_base
from shared.contracts.errors import FatalError, TransientError, UserError
from shared.contracts.steps import AdapterConfig, Method, StepKind, TrainParams
from tests.fakes.little_memory import a_device_of, watched
from tests.fakes.training import EXAMPLES, PAIRS, Ticks, spec_of, train_params

pytestmark = pytest.mark.usefixtures("one_thread")
WORK: dict[StepKind, Callable[[Spec, Any], dict[str, Any]]] = {StepKind.SFT: sft.fine_tune, StepKind.DPO: dpo}
ROWS = {StepKind.SFT: EXAMPLES, StepKind.DPO: PAIRS}


def weights_of(spec: Spec) -> dict[str, torch.Tensor]:
    return load_file(next(spec.output.glob("*/*.safetensors")))


@pytest.mark.parametrize(
    ("kind", "method"), [(StepKind.SFT, Method.LORA), (StepKind.DPO, Method.LORA), (StepKind.DPO, Method.FULL)]
)
def test_a_step_that_does_not_fit_is_made_in_smaller_passes_with_the_same_gradient(
    kind: StepKind, method: Method, base: Path, tmp_path: Path
):
    params = train_params(batch_size=8, epochs=2, method=method, learning_rate=1e-3)
    at_ease = spec_of(kind, params, ROWS[kind], base, tmp_path / "at_ease")
    wanted = WORK[kind](at_ease, Ticks())
    assert wanted["rows_at_once"] == 8
    pressed = spec_of(kind, params, ROWS[kind], base, tmp_path / "pressed")
    with a_device_of(160 if kind is StepKind.DPO else 80) as refused:
        figures = WORK[kind](pressed, Ticks())
    assert len(refused) >= 2, "memory ran out twice: 8 rows, then 4"
    assert figures["rows_at_once"] == 2
    assert figures["gradient_checkpointing"] is False
    assert (figures["steps"], figures["trained_tokens"]) == (wanted["steps"], wanted["trained_tokens"])
    assert figures["loss"] == pytest.approx(wanted["loss"], abs=2e-4)
    one, other = weights_of(at_ease), weights_of(pressed)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 2e-4
    curves = [json.loads((spec.output / "curve.json").read_text()) for spec in (at_ease, pressed)]
    assert [point["step"] for point in curves[0]] == [point["step"] for point in curves[1]]


def test_a_single_row_that_does_not_fit_is_computed_twice_instead_of_kept(base: Path, tmp_path: Path):
    params = train_params(batch_size=2, epochs=1)
    at_ease = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "at_ease")
    sft.fine_tune(at_ease, Ticks())
    pressed = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "pressed")
    with a_device_of(4, unless_checkpointing=True):
        figures = sft.fine_tune(pressed, Ticks())
    assert figures["gradient_checkpointing"] is True
    one, other = weights_of(at_ease), weights_of(pressed)
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_what_fits_in_no_way_ends_with_what_to_change(base: Path, tmp_path: Path):
    spec = spec_of(StepKind.SFT, train_params(batch_size=2, epochs=1), EXAMPLES, base, tmp_path)
    with a_device_of(4), pytest.raises(FatalError) as error:
        sft.fine_tune(spec, Ticks())
    assert error.value.code == "out_of_memory"
    assert "max_length" in error.value.message


def test_a_model_in_parts_takes_less_in_the_next_attempt(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One process stands for several, which could not repeat a pass alone."""
    init = sft.AnswerTrainer.__init__

    def in_parts(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.is_distributed_loading_by_transformers = True

    monkeypatch.setattr(sft.AnswerTrainer, "__init__", in_parts)
    spec = spec_of(StepKind.SFT, train_params(batch_size=8, epochs=1), EXAMPLES, base, tmp_path)
    with a_device_of(80):
        for _ in range(2):
            with pytest.raises(TransientError, match="half as much") as error:
                sft.fine_tune(spec, Ticks())
            assert error.value.code == "out_of_memory"
        assert sft.fine_tune(spec, Ticks())["rows_at_once"] == 2
    with a_device_of(4):
        with pytest.raises(TransientError):
            sft.fine_tune(spec, Ticks())
        with pytest.raises(FatalError, match="one row at a time"):
            sft.fine_tune(spec, Ticks())


def with_adapter(params: TrainParams, **changes: Any) -> TrainParams:
    adapter = AdapterConfig.model_validate(params.adapter.model_dump() | changes)
    return params.model_copy(update={"adapter": adapter})


@pytest.mark.parametrize("kind", list(WORK))
def test_dora_leaves_a_whole_model_that_answers_as_the_adapter_did(kind: StepKind, base: Path, tmp_path: Path):
    params = with_adapter(train_params(batch_size=8, epochs=2), use_dora=True)
    spec = spec_of(kind, params, ROWS[kind], base, tmp_path)
    figures = WORK[kind](spec, Ticks())
    assert figures["loss"] < figures["loss_first"]
    assert not (spec.output / "adapter").exists()
    merged, before = load_base(spec.output / "weights"), load_base(base)
    names = load_file(spec.output / "unmerged" / "adapter_model.safetensors")
    assert any("lora_magnitude_vector" in name for name in names)
    ids = torch.arange(3, 20)[None]
    assert not torch.allclose(merged(ids).logits, before(ids).logits, atol=1e-3)


def test_an_adapter_is_trained_on_a_base_of_4_bits(base: Path, tmp_path: Path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: `make install-quantized` does it")
    params = with_adapter(train_params(), load_in_4bit=True, optim="adamw_8bit")
    spec = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path)
    figures = sft.fine_tune(spec, Ticks())
    assert figures["loss"] < figures["loss_first"] - 0.5
    adapter = load_file(spec.output / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    config = json.loads((spec.output / "adapter" / "adapter_config.json").read_text())
    assert "quantization_config" not in json.dumps(config)


def test_all_weights_are_trained_in_bfloat16_and_small_steps_are_not_lost(base: Path, tmp_path: Path):
    pytest.importorskip("torchao", reason="torchao is not installed: `make install-quantized` does it")
    params = with_adapter(
        train_params(method=Method.FULL, learning_rate=5e-5, epochs=10), dtype="bfloat16", optim="adamw_8bit"
    )
    exact = spec_of(StepKind.SFT, with_adapter(params, dtype="float32", optim="adamw"), EXAMPLES, base, tmp_path / "32")
    wanted = sft.fine_tune(exact, Ticks())
    half = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "16")
    figures = sft.fine_tune(half, Ticks())
    gain, gain_of_exact = (one["loss_first"] - one["loss"] for one in (figures, wanted))
    assert gain > 0.7 * gain_of_exact > 0


@pytest.mark.parametrize(
    ("changes", "package"), [({"load_in_4bit": True}, "bitsandbytes"), ({"optim": "adamw_8bit"}, "bitsandbytes")]
)
def test_a_missing_library_is_named_with_the_setting(
    changes: dict[str, Any], package: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from services.trainer.train import model

    monkeypatch.setattr(model, "find_spec", lambda name: None)
    spec = spec_of(StepKind.SFT, with_adapter(train_params(), **changes), EXAMPLES, base, tmp_path)
    with pytest.raises(UserError, match=package) as error:
        sft.fine_tune(spec, Ticks())
    assert error.value.param == f"distillation.adapter.{next(iter(changes))}"


def test_a_device_that_is_measured_divides_by_tokens(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As on a GPU: of a meter that says what the passes take, with nothing else changed."""
    seen: list[int] = []

    class Meter:
        def free(self) -> int:
            return 1000

        def start(self) -> None:
            seen.clear()

        def peak(self) -> int:
            return 10 * max(seen)

    params = train_params(batch_size=8, epochs=2)
    one = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "rows")
    by_rows = sft.fine_tune(one, Ticks())
    monkeypatch.setattr(step_in_passes, "meter", lambda: Meter())
    monkeypatch.setattr(sft.AnswerTrainer, "_bytes_to_come", lambda self: 0)
    spec = spec_of(StepKind.SFT, params, EXAMPLES, base, tmp_path / "tokens")
    with watched(lambda model, tokens: seen.append(tokens)):
        figures = sft.fine_tune(spec, Ticks())
    assert 0 < figures["tokens_at_once"] <= 100
    assert figures["gradient_checkpointing"] is True, "a pass of so few tokens is too small for a GPU"
    assert figures["loss"] == pytest.approx(by_rows["loss"], abs=2e-4)
    first, other = weights_of(one), weights_of(spec)
    assert all(torch.allclose(first[name], other[name], atol=2e-4) for name in first)


def test_a_pass_of_sft_waits_for_nothing_that_the_device_computes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A figure that Python asks for is one that a GPU has to be waited for; from a step's first pass to its last there is none."""
    waits: list[str] = []
    run, in_a_pass = sft.AnswerTrainer._run, [False]

    def watched_run(self: Any, *args: Any) -> Any:
        in_a_pass[0] = True
        try:
            return run(self, *args)
        finally:
            in_a_pass[0] = False

    def watch(name: str) -> None:
        own = getattr(torch.Tensor, name)

        def shown(self: torch.Tensor, *args: Any) -> Any:
            if in_a_pass[0]:
                waits.append(name)
            return own(self, *args)

        monkeypatch.setattr(torch.Tensor, name, shown)

    for name in ("item", "tolist", "__float__"):  # not __bool__: transformers asks once whether there is padding
        watch(name)
    monkeypatch.setattr(sft.AnswerTrainer, "_run", watched_run)
    monkeypatch.setattr(step_in_passes, "CPU_TOKENS", 64)
    spec = spec_of(StepKind.SFT, train_params(batch_size=8, epochs=1), EXAMPLES, base, tmp_path)
    figures = sft.fine_tune(spec, Ticks())
    assert figures["rows_at_once"] < 8
    assert not waits
