"""A random LoRA adapter for the tiny model."""

from pathlib import Path


def make_tiny_adapter(base: Path | str, folder: Path | str, seed: int = 1) -> Path:
    """Both LoRA matrices are random and large (peft's B is zero), so that the adapter changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = Path(folder)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def measure(base: Path, adapter: Path) -> None:
    """Write beside an adapter what the trainer does: log-probabilities with it and without."""
    from peft import PeftModel

    from services.trainer.train import data, logprobs
    from services.trainer.train.model import load_base, load_tokenizer
    from shared.contracts.adapter_check import FILE
    from shared.contracts.rows import Example
    from tests.fakes.training import EXAMPLES

    rows = data.example_ids(load_tokenizer(base), [Example.model_validate(row) for row in EXAMPLES], 512)
    model = PeftModel.from_pretrained(load_base(base), str(adapter))
    samples = [logprobs.of_example(row) for row in rows]
    (adapter / FILE).write_text(logprobs.with_and_without(model, samples).model_dump_json())
