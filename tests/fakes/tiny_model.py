"""A random Llama of 0.1 M parameters with a chat template, made on the spot: real formats without a download."""

import json
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "system\nAnswer the question.",
    "user\nassistant\nanswer: the number, the colour, the name of it is",
    "list the files here with ls, count the lines with wc, find them by name with find, grep a word",
    "Which command shows the date? date. How many are there? one two three four five six seven.",
]


def write_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    """tokenizer.json and tokenizer_config.json: a byte-level BPE of at most 512 tokens, trained on CORPUS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|im_end|>",
                "add_bos_token": False,
                "clean_up_tokenization_spaces": False,
                "model_max_length": 512,
                **({"chat_template": template} if template else {}),
            }
        )
    )


def make_tiny_llama(folder: Path | str, seed: int = 0) -> Path:
    """Write a Hugging Face folder (safetensors, tokenizer.json, chat template); equal seeds give equal bytes.

    Hidden size 64, 2 layers, 2 heads of 32 (vLLM on a CPU refuses heads of 16), a byte-level BPE of at most 512 tokens,
    512 positions; embeddings are tied.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            tie_word_embeddings=True,
            initializer_range=0.1,
        )
    )
    torch.random.set_rng_state(generator_state)
    model.save_pretrained(folder)
    return folder
