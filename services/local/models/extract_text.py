"""Extract the language model of a multimodal checkpoint. A process of its own, because the model libraries are heavy.

    python -m services.local.models.extract_text FOLDER OUTPUT

Weights are copied byte by byte under the names of the plain text model, tensor by tensor, so that a large model fits into little
memory. Exit code 2, with the reason as the last line: this checkpoint has no such part, or not all of it.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any, cast

from services.local.models.folder import ModelRefused
from services.local.models.prepare import REFUSED
from shared.platform.terminal import write

# How checkpoints name the language model's tensors -> how a plain text model does.
NAMES = (
    (re.compile(r"^(?:model\.)?language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^(?:model\.)?(?:language_model|text_model)\.(?:model\.)?"), "model."),
    (re.compile(r"^lm_head\."), "lm_head."),
)
BESIDE = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt")
BESIDE += ("added_tokens.json", "chat_template*", "LICENSE*", "spiece.model", "tekken.json")
SHARD_BYTES = 4 << 30


def extract(folder: Path, output: Path) -> None:
    """Write config, weights and tokenizer of the language model into output (created). Raises ModelRefused."""
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

    whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    text = whole.get_text_config(decoder=True)
    kind = cast(type[PreTrainedModel] | None, AutoModelForCausalLM._model_mapping.get(type(text), None))
    if kind is None or text is whole:
        raise ModelRefused(
            f"{whole.model_type}: the installed transformers has no text model for its part {text.model_type!r}; "
            "name a text-only model of the family"
        )
    write(f"copying the weights of {kind.__name__}\n")
    names = _copy_weights(folder, output)
    text.architectures = [kind.__name__]
    text.tie_word_embeddings = not any(name.startswith("lm_head.") for name in names)
    text.dtype = text.dtype or whole.dtype
    text.save_pretrained(output)
    for path in {path for pattern in BESIDE for path in folder.glob(pattern)}:
        shutil.copyfile(path, output / path.name)
    _check(output)


def text_name(name: str) -> str | None:
    """The tensor's name in the plain text model; None for one of another part."""
    return next((pattern.sub(new, name) for pattern, new in NAMES if pattern.match(name)), None)


def _copy_weights(folder: Path, output: Path) -> set[str]:
    """Returns the names written."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    output.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    shard, size, number, total = {}, 0, 0, 0

    def flush() -> None:
        nonlocal shard, size, number
        if shard:
            number += 1
            file = f"model-{number:05}.safetensors"
            save_file(shard, output / file, metadata={"format": "pt"})
            places.update(dict.fromkeys(shard, file))
        shard, size = {}, 0

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                new = text_name(name)
                if new is None:
                    continue
                shard[new] = file.get_tensor(name)
                bytes_here = shard[new].numel() * shard[new].element_size()
                size, total = size + bytes_here, total + bytes_here
                if size >= SHARD_BYTES:
                    flush()
    flush()
    if not places:
        raise ModelRefused(f"{folder.name}: none of its tensors is named as one of a language model")
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return set(places)


def _check(output: Path) -> None:
    """Raises ModelRefused unless the text model finds each of its tensors."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        output, device_map={"": "meta"}, output_loading_info=True, local_files_only=True, use_safetensors=True
    )
    report = loaded[1]
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelRefused(
            f"{len(missing)} tensors of the language model are not in the checkpoint ({', '.join(missing[:3])}); "
            "name a text-only model of the family"
        )


def main() -> int:
    folder, output = (Path(argument) for argument in sys.argv[1:3])
    try:
        extract(folder, output)
    except ModelRefused as error:
        write(f"\n{error.message}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
