"""Dataset import: reads a source into rows of a dataset, or documents into passages to write questions from."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from shared.contracts.errors import FatalError, UserError
from shared.contracts.imports import MOST_ROWS, DocumentsOptions, ReadParams
from shared.importing.documents import choose
from shared.importing.rows import Progress
from shared.importing.sources import rows_of


def read_source(
    params: ReadParams, files: Path, on_progress: Progress, most: int = MOST_ROWS
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(rows, counts of what was left out by reason). files: the folder of uploaded bytes, by SHA-256.

    Raises UserError for a source that cannot be read or holds more than `most` rows.
    """
    path = files / params.sha256 if params.sha256 else None
    if path is not None and not path.is_file():
        raise FatalError("the content of the source file is gone from the disk", code="content_missing")
    left_out: Counter[str] = Counter()
    if isinstance(params.source, DocumentsOptions):
        if path is None:
            raise UserError("an import of documents reads a file: a document, or a zip of them", param="file")
        chosen = choose(path, params.source, left_out, on_progress, params.name)
        rows = [passage.model_dump(mode="json") for passage in chosen]
    else:
        rows = list(islice(rows_of(params.source, path, left_out, on_progress), most + 1))
    if len(rows) > most:
        raise UserError(f"more than {most} rows; set source.limit, or import by the command line", param="source.limit")
    return rows, dict(sorted((+left_out).items()))
