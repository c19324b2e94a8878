"""How the commands show pages of lists. Single objects: shared.platform.terminal.emit."""

from collections.abc import Callable, Mapping
from datetime import datetime

from rich.table import Table
from rich.text import Text

from services.cli.client import Item
from shared.contracts.views import Listed
from shared.platform.terminal import emit

Columns = Mapping[str, Callable[[Item], object]]  # title -> cell of an object; None is shown as nothing


def emit_page(page: Listed[Item], columns: Columns[Item], as_json: bool, command: str) -> None:
    """command: the one that shows the next page, with `--after`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, overflow="fold")
    for item in page.data:
        cells = [cell_of(item) for cell_of in columns.values()]
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
    emit(page, as_json, table)
    if page.has_more and not as_json:
        emit(page, False, f"more: {command} --after {page.last_id}")


def minute(at: float | None) -> str | None:
    """Unix seconds as people write them, in the time of this machine."""
    return None if at is None else f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M}"


def one_line(text: str, length: int = 60) -> str:
    """A text's beginning, without its line breaks."""
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 3] + "..."
