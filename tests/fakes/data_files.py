"""Data files of a few rows, and how the tests read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.contracts.file_reading import ReadOptions
from shared.datasets.splits import Splitter
from shared.importing import dataset
from shared.importing.dataset import DataFile

ROWS = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
GERMAN = "Frage;Antwort\nWie heißt die größte Stadt?;Köln, natürlich\nWas ist schön?;Über den Dächern\n"


def written(path: Path, content: bytes | Callable[[Path], None]) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


TURN = [
    {
        "role": "prompter",
        "text": "q0",
        "replies": [{"role": "assistant", "text": "bad", "rank": 1}, {"role": "assistant", "text": "a0", "rank": 0}],
    }
]


def checked(path: Path, content: bytes, **options: Any) -> dataset.Checked:
    file = DataFile.open(written(path / "data", content), ReadOptions(**options))
    return dataset.check(file, Splitter(0.15, 0.2), 20, 10**6, whole=True)
