"""OpenAI's chat rows as rows of a dataset: what an upload does by itself, here with the result to look at."""

from collections.abc import Iterator
from pathlib import Path

from shared.contracts.data import LineError, bounded_lines, parse_lines
from shared.contracts.errors import UserError
from shared.importing.rows import Row

SHOWN = 10  # bad lines that one error names


def read_chat(path: Path) -> Iterator[Row]:
    """Raises UserError that names the first bad lines: a file with one is refused whole."""
    with path.open("rb") as file:
        bad = [item for item in parse_lines(bounded_lines(file)) if isinstance(item, LineError)]
    if bad:
        shown = "; ".join(f"line {error.line}: {error.message[:200]}" for error in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{len(bad)} bad lines: {shown}{more}", param="file", code="invalid_row")
    with path.open("rb") as file:
        for item in parse_lines(bounded_lines(file)):
            if not isinstance(item, LineError):
                yield item.model_dump(exclude={"split"})
