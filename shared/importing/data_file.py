"""A data file of any format and shape as rows: the conversion of an upload, with the result as a file."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from shared.contracts.data import LineError, Reading, as_upload
from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions
from shared.contracts.imports import ChatOptions
from shared.importing.dataset import DataFile, unread
from shared.importing.rows import LOOK_EVERY, Progress, Row, unwatched

SHOWN = 10  # bad rows in one error message


def read_file(
    path: Path, options: ChatOptions, left_out: Counter[str], on_progress: Progress = unwatched
) -> Iterator[Row]:
    """Raises UserError with the first bad rows, unless options.skip_bad: then they are counted in left_out."""
    file = DataFile.open(path, ReadOptions(mapping=options.columns, skip_bad=options.skip_bad, member=options.member))
    bad: list[LineError] = []
    total, seen = 0, Reading()
    for total, item in enumerate(file.rows(seen), start=1):
        if total % LOOK_EVERY == 0:
            on_progress(0, total)
        if isinstance(item, LineError):
            bad += [item] if len(bad) <= SHOWN else []
            left_out[f"{item.param or 'row'}: {item.code}"] += 1
    if bad and not options.skip_bad:
        shown = "; ".join(f"line {error.line}: {error.message[:200]}" for error in bad[:SHOWN])
        count = sum(left_out.values())
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        left_out.clear()
        raise UserError(
            f"{count} bad lines: {shown}{more}. Correct them, or leave them out: skip_bad",
            param="file",
            code="invalid_row",
        )
    refuse_unread({**options.columns}, seen)
    good = (item for item in file.rows() if not isinstance(item, LineError))
    for number, item in enumerate(islice(good, options.limit)):
        if number % LOOK_EVERY == 0:
            on_progress(number, total)
        yield as_upload(item)


def refuse_unread(mapping: dict[str, str], seen: Reading) -> None:
    """Raises UserError where answers, or fields of the mapping, would be dropped without a word."""
    for error in unread(mapping, seen):
        raise UserError(error.message, param=error.param, code=error.code)
