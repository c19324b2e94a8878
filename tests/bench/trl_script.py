"""A bare TRL script, as its documentation has it, with the LoRA shape, rows, batch and rate of our trainer: `SFTTrainer` with its own
preparation of conversations, its own loss and order of rows. bfloat16 and gradient checkpointing, TRL's defaults, are off: on a CPU they only cost time.
"""

import tempfile
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from shared.contracts.rows import Example
from shared.contracts.steps import TrainParams


def trainer(base: Path, params: TrainParams, examples: list[Example]) -> SFTTrainer:
    rows = [
        {
            "prompt": [{"role": "user", "content": one.question}],
            "completion": [{"role": "assistant", "content": one.completion}],
        }
        for one in examples
    ]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(prefix="meteor-bench-"),
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        num_train_epochs=params.epochs,
        max_length=params.adapter.max_length,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=params.seed,
    )
    lora = LoraConfig(
        r=params.adapter.rank,
        lora_alpha=params.adapter.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base, local_files_only=True),
        config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base, local_files_only=True),
        peft_config=lora,
    )
