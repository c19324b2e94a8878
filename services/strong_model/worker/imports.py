"""Dataset import: reads a source into rows of a dataset, or documents into passages to write questions from."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from shared.artifacts.uploads import Uploads
from shared.contracts.errors import FatalError, UserError
from shared.contracts.imports import (
    MOST_ROWS,
    ChatOptions,
    CompletionsOptions,
    DocumentsOptions,
    GenerateOptions,
    Passage,
    ReadParams,
)
from shared.importing.data_file import read_file
from shared.importing.documents import SPARE, choose
from shared.importing.passages import LONGEST
from shared.importing.personal_data import masked_row
from shared.importing.rows import Progress
from shared.importing.sources import rows_of

MOST_MATERIAL = 2_000  # passages or questions that generated ones are made from


def read_source(
    params: ReadParams, uploads: Uploads, on_progress: Progress, most: int = MOST_ROWS
) -> tuple[list[dict[str, Any]], dict[str, int], dict[str, int]]:
    """(rows, counts of what was left out by reason, counts of masked personal data by kind).

    Raises UserError for a source that cannot be read or holds more than `most` rows.
    """
    path = uploads.path(params.sha256) if params.sha256 else None
    if path is not None and not path.is_file():
        raise FatalError("the content of the source file is gone from the disk", code="content_missing")
    left_out: Counter[str] = Counter()
    source = params.source
    if isinstance(source, CompletionsOptions):
        raise FatalError("stored chats are read by the import itself, not by a worker", code="wrong_source")
    if isinstance(source, DocumentsOptions | GenerateOptions):
        if path is None:
            raise UserError("an import of documents reads a file: a document, or a zip of them", param="file")
        if isinstance(source, DocumentsOptions):
            wanted = round(SPARE * source.questions / source.per_passage)
            passages = choose(path, wanted, source.seed, left_out, on_progress, params.name)
        elif source.material == "log":
            passages = logged(path, left_out, on_progress)
        else:
            passages = choose(path, MOST_MATERIAL, source.seed, left_out, on_progress, params.name)
        rows = [passage.model_dump(mode="json") for passage in passages]
    else:
        rows = list(islice(rows_of(source, path, left_out, on_progress), most + 1))
    if len(rows) > most:
        raise UserError(f"more than {most} rows; set source.limit, or import by the command line", param="source.limit")
    masked: Counter[str] = Counter()
    if params.mask:
        rows = [masked_row(row, masked) for row in rows]
    return rows, dict(sorted((+left_out).items())), dict(masked)


def logged(path: Path, left_out: Counter[str], on_progress: Progress) -> list[Passage]:
    """The questions of a data file of any shape; those after the first MOST_MATERIAL are counted. Raises UserError."""
    questions = []
    for number, row in enumerate(read_file(path, ChatOptions(skip_bad=True), left_out, on_progress), start=1):
        if number > MOST_MATERIAL:
            left_out[f"questions after the first {MOST_MATERIAL}"] += 1
            continue
        text = row["question"]
        if len(text) > LONGEST:
            left_out[f"ends of questions longer than {LONGEST} characters"] += 1
        questions.append(Passage(id=f"log#{row.get('id') or number}", document="log", text=text[:LONGEST]))
    return questions
