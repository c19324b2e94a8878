"""The sources that are converted without a model."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.errors import UserError
from shared.contracts.imports import ChatOptions, HubOptions, StackExchangeOptions
from shared.importing.data_file import read_file
from shared.importing.hub import read_hub
from shared.importing.rows import Progress, Row, checked_rows, unwatched
from shared.importing.stackexchange import read_posts

Convertible = ChatOptions | StackExchangeOptions | HubOptions


def rows_of(
    options: Convertible, path: Path | None, left_out: Counter[str], on_progress: Progress = unwatched
) -> Iterator[Row]:
    """Valid rows. path: the source's file, None for the hub. left_out: counts of skipped rows by reason."""
    if isinstance(options, HubOptions):
        return read_hub(options, left_out, on_progress)
    if path is None:
        raise UserError(f"an import of type {options.type} reads a file; name one", param="file")
    if isinstance(options, StackExchangeOptions):
        return checked_rows(read_posts(path, options, left_out, on_progress), left_out)
    return read_file(path, options, left_out, on_progress)
