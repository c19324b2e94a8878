"""Converts a model's folder into one GGUF file with llama.cpp's own converter, which supports new models first."""

import subprocess
import sys
from pathlib import Path

from services.trainer.spec import Metrics, Spec
from services.trainer.train.progress import Reporter
from shared.contracts.errors import FatalError

SHOWN = 800  # characters of the converter's output in an error


def convert(spec: Spec, reporter: Reporter) -> Metrics:
    """Runs in the training process's group, so that the guard ends it too. Writes output/folder/model.gguf."""
    target = spec.output / "folder" / "model.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    converter = Path(spec.params["converter"])
    command = [sys.executable, str(converter), str(spec.base), "--outfile", str(target), "--outtype", "auto"]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.returncode or not target.is_file():
        output = process.stdout.decode(errors="replace").strip()[-SHOWN:]
        raise FatalError(f"{converter.name} ended with {process.returncode}: {output}", code="gguf_failed")
    with target.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise FatalError(f"{converter.name} left no GGUF file", code="gguf_failed")
    reporter.tick(1, 1)
    return {"bytes": target.stat().st_size}
