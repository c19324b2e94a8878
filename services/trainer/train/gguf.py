"""A model's folder as one GGUF file, by llama.cpp's own converter: the only one that keeps up with new models."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from services.trainer.spec import Spec
from services.trainer.train.progress import Reporter
from shared.contracts.errors import FatalError

WORDS = 800  # of the converter's output, shown when it fails


def convert(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Runs in the training process's group, so that the guard ends it too. Leaves model.gguf in output/folder."""
    target = spec.output / "folder" / "model.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    converter = Path(spec.params["converter"])
    command = [sys.executable, str(converter), str(spec.base), "--outfile", str(target), "--outtype", "auto"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode or not target.is_file():
        said = done.stdout.decode(errors="replace").strip()[-WORDS:]
        raise FatalError(f"{converter.name} ended with {done.returncode}: {said}", code="gguf_failed")
    with target.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise FatalError(f"{converter.name} left no GGUF file", code="gguf_failed")
    reporter.tick(1, 1)
    return {"bytes": target.stat().st_size}
