"""Functions over whole data files that a service runs aside: each opens its file by itself and returns little."""

from pathlib import Path
from typing import NamedTuple

from shared.artifacts.store import Artifacts
from shared.artifacts.token_counts import TokenCounter
from shared.contracts.file_reading import Preview, PreviewRequest, ReadOptions
from shared.datasets.rows import References, Spool
from shared.datasets.splits import Splitter
from shared.importing import dataset
from shared.importing.dataset import Checked, DataFile


class Limits(NamedTuple):
    """dev, test: shares of the split. errors: bad rows that are listed. rows: the longest dataset."""

    dev: float
    test: float
    errors: int
    rows: int


def stored(path: Path, options: ReadOptions, limits: Limits, artifacts: Artifacts) -> tuple[Checked, References | None]:
    """Check a file and store its rows with their splits. None: it has none, or bad ones. Raises UserError, DiskLow."""
    spool, splitter = Spool(), Splitter(limits.dev, limits.test)
    checked = dataset.check(DataFile.open(path, options), splitter, limits.errors, limits.rows, spool=spool)
    if checked.errors or not checked.n_rows:
        return checked, None
    return checked, spool.store(artifacts, checked.assigned, splitter)


def checked(path: Path, options: ReadOptions, limits: Limits) -> Checked:
    """Raises UserError."""
    return dataset.check(DataFile.open(path, options), None, limits.errors, limits.rows)


def previewed(
    path: Path, options: ReadOptions, limits: Limits, request: PreviewRequest, tokens: TokenCounter | None = None
) -> Preview:
    """Raises UserError."""
    return dataset.preview(DataFile.open(path, options), request, limits.dev, limits.test, limits.rows, tokens)
