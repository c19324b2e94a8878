"""What a student is said to take of a device's memory: against published figures, and against what autograd keeps."""

from typing import Any

import pytest

from shared.contracts.steps import AdapterConfig, Dtype, Method, Optim
from shared.plan import device_memory
from shared.plan.device_memory import GB, Figures, figures_of

LLAMA_7B = Figures(6.74e9, 4096, 11008, 32, 4096, 4096, 32_000, tied=False)
LLAMA_8B = Figures(8.03e9, 4096, 14336, 32, 1024, 4096, 128_256, tied=False)
HALF = {"optim": Optim.ADAMW_8BIT, "dtype": Dtype.BFLOAT16}
# Where a figure comes from: (a) github.com/hiyouga/LLaMA-Factory/wiki/Performance-comparison: Llama 2 7B, rank 8 on all modules, gradient
# checkpointing, logits of the whole pass; (b) the table of hardware requirements in LLaMA-Factory's README; (c) unsloth.ai/docs, "Unsloth
# Requirements": the least that its own kernels need; (d) measured here on a GPU, 8 rows of 512 tokens (tests/unit/test_size_checks.py at 9f8ce1c).
PUBLISHED: list[tuple[str, Figures, Method, dict[str, Any], int, bool, bool, float, float]] = [
    *(
        ("a", LLAMA_7B, Method.LORA, {"rank": 8, "load_in_4bit": True}, tokens, True, True, gb, 0.15)
        for tokens, gb in ((1024, 6), (2048, 7), (4096, 9), (8192, 12), (16_384, 19), (32_768, 32))
    ),
    ("a", LLAMA_7B, Method.LORA, {"rank": 8}, 4096, True, True, 18, 0.15),
    ("b", LLAMA_7B, Method.FULL, {}, 1024, True, False, 120, 0.1),
    ("b", LLAMA_7B, Method.LORA, {}, 1024, True, False, 16, 0.1),
    ("b", LLAMA_7B, Method.LORA, {"load_in_4bit": True}, 1024, True, False, 6, 0.1),
    ("c", LLAMA_8B, Method.LORA, {}, 2048, True, False, 22, 0.15),
    ("d", LLAMA_8B, Method.LORA, {}, 4096, False, False, 49, 0.1),
]


@pytest.mark.parametrize(
    ("source", "figures", "method", "adapter", "tokens", "checkpointing", "logits", "gb", "apart"), PUBLISHED
)
def test_what_others_measured_is_what_is_estimated(
    source: str,
    figures: Figures,
    method: Method,
    adapter: dict[str, Any],
    tokens: int,
    checkpointing: bool,
    logits: bool,
    gb: float,
    apart: float,
):
    compared = tokens if logits else device_memory.CHUNK
    need = device_memory.training(figures, method, AdapterConfig(**adapter), tokens, True, checkpointing, compared)
    assert need.total / GB == pytest.approx(gb, rel=apart)


FITS = {  # an 8B on a GPU of so many GB, rows of 2,048 tokens
    24: {"qlora": True, "lora": True, "full in bfloat16": False, "full": False},
    48: {"qlora": True, "lora": True, "full in bfloat16": False, "full": False},
    80: {"qlora": True, "lora": True, "full in bfloat16": True, "full": False},
}
FORMS: dict[str, tuple[Method, AdapterConfig]] = {
    "qlora": (Method.LORA, AdapterConfig(load_in_4bit=True)),
    "lora": (Method.LORA, AdapterConfig()),
    "full in bfloat16": (Method.FULL, AdapterConfig(**HALF)),
    "full": (Method.FULL, AdapterConfig()),
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("gb", list(FITS))
def test_an_8b_fits_where_it_is_known_to_fit_and_a_remedy_does_fit(gb: int, form: str):
    method, adapter = FORMS[form]
    assert (device_memory.least(LLAMA_8B, method, adapter, 2048, True) <= gb * GB) is FITS[gb][form]
    if FITS[gb][form]:
        return
    for change in device_memory.changes(method, adapter, 2048):
        if device_memory.least(LLAMA_8B, change.method, change.adapter, change.longest, True) <= gb * GB:
            assert device_memory.remedy(LLAMA_8B, method, adapter, 2048, gb * GB, True) == change.words
            return
    pytest.fail("nothing that is advised fits")


@pytest.mark.parametrize(
    ("gb", "form", "words"),
    [
        (80, "full", "set distillation.adapter.dtype to bfloat16 and optim to adamw_8bit"),
        (24, "full", "set distillation.adapter.method to lora"),
        (12, "lora", "set distillation.adapter.load_in_4bit to true"),
        (4, "lora", "take a smaller student, or let a trainer with a larger device serve the queue"),
    ],
)
def test_what_is_advised_changes_as_little_as_it_may(gb: int, form: str, words: str):
    assert device_memory.remedy(LLAMA_8B, *FORMS[form], 2048, gb * GB, True) == words


LLAMA_70B = Figures(70.6e9, 8192, 28_672, 80, 1024, 8192, 128_256, tied=False)


def test_an_adapter_of_a_base_in_parts_fits_on_devices_that_are_too_small_for_a_copy():
    """70B in bfloat16 is 141 GB; halves of it leave 80 GB no room for a layer, the output layer and a row's activations."""
    needs = [device_memory.least(LLAMA_70B, *FORMS["lora"], 2048, True, n) / GB for n in (1, 2, 3, 4)]
    assert needs[0] > 141 > 80 > needs[2] > needs[3] > 141 / 4
    assert needs[1] > 80
    words = device_memory.remedy(LLAMA_70B, *FORMS["lora"], 2048, 80 * GB, True, 4)
    assert words == "let 3 GPUs hold it in parts: set METEOR_TRAINER_GPUS to 0,1,2"
    assert "load_in_4bit" in device_memory.remedy(LLAMA_70B, *FORMS["lora"], 2048, 80 * GB, True, 2)


@pytest.mark.parametrize("form", ["qlora", "full", "full in bfloat16"])
def test_other_trainings_are_not_held_in_parts(form: str):
    assert device_memory.devices_needed(LLAMA_8B, *FORMS[form], 2048, 4 * GB, 8) is None
    alone, eight = (device_memory.least(LLAMA_8B, *FORMS[form], 2048, True, n) for n in (1, 8))
    assert alone == eight


def test_an_engine_holds_its_weights_and_one_whole_request():
    assert device_memory.engine(LLAMA_8B, 8192) / GB == pytest.approx(16.1 + 1.07 + 1.5, abs=0.1)


CONFIG = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "intermediate_size": 128,
}


def test_figures_are_read_from_a_config_and_a_part_of_one_is_none():
    plain = figures_of(CONFIG, 1e6)
    assert plain == Figures(1e6, 64, 128, 2, 64, 64, 100, tied=True)
    grouped = figures_of({"text_config": CONFIG | {"num_key_value_heads": 1, "head_dim": 32}}, 1e6)
    assert grouped is not None
    assert (grouped.kv_width, grouped.query_width) == (32, 128)
    assert figures_of({"hidden_size": 64}, 1e6) is None


@pytest.mark.parametrize("method", list(Method))
def test_activations_are_what_autograd_keeps(method: Method):
    """On a CPU, in float32: the sum of all tensors that the layers of a real model save for the backward pass."""
    torch = pytest.importorskip("torch")
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    def kept(layers: int) -> float:
        shape: dict[str, Any] = {
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        }
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=100, num_hidden_layers=layers, **shape))
        if method is Method.LORA:
            given = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, given).get_base_model()
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        tensors = []

        def keep(tensor: Any) -> Any:
            if tensor.untyped_storage().data_ptr() not in weights:
                tensors.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.train().model(input_ids=torch.arange(32)[None], use_cache=False)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return sum(storages.values())

    def estimated(layers: int) -> float:
        figures = Figures(1e6, 256, 512, layers, 128, 256, 100, tied=True)
        return device_memory.training(figures, method, AdapterConfig(), 32, gpu=False).activations

    assert estimated(3) - estimated(1) == pytest.approx(kept(3) - kept(1), rel=0.1)
