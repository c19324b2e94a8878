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
