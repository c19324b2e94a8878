"""Turn a GGUF file into an ordinary safetensors folder in bfloat16. A process of its own, because torch is heavy.

    python -m services.local.models.convert_gguf FILE.gguf OUTPUT_FOLDER

`dequantize=True` matters: without it transformers keeps the weights packed and cannot save them.
"""

import sys
from pathlib import Path
from typing import cast

from shared.platform.terminal import write


def convert(gguf: Path, output: Path) -> None:
    """Write config, weights, tokenizer and chat template of gguf into output (created)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase

    write("reading and unpacking the weights\n")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    write("building the tokenizer\n")
    loaded = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    tokenizer = cast(PreTrainedTokenizerBase, loaded)
    write("writing safetensors\n")
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> int:
    gguf, output = (Path(argument) for argument in sys.argv[1:3])
    convert(gguf, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
