"""OpenAI's chat rows as rows of a dataset: the conversion of an upload, with the result as a file."""

from collections.abc import Iterator
from pathlib import Path

from shared.contracts.data import LineError, parse_lines
from shared.contracts.errors import UserError
from shared.importing.rows import Progress, Row, unwatched, watched_lines

SHOWN = 10  # bad lines in one error message


def read_chat(path: Path, on_progress: Progress = unwatched) -> Iterator[Row]:
    """Raises UserError with the first bad lines; one bad line refuses the file. on_progress: bytes of both passes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        lines = watched_lines(file, on_progress, 0, 2 * size)
        bad = [item for item in parse_lines(lines) if isinstance(item, LineError)]
    if bad:
        shown = "; ".join(f"line {error.line}: {error.message[:200]}" for error in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{len(bad)} bad lines: {shown}{more}", param="file", code="invalid_row")
    with path.open("rb") as file:
        for item in parse_lines(watched_lines(file, on_progress, size, 2 * size)):
            if not isinstance(item, LineError):
                yield item.model_dump(exclude={"split"})
