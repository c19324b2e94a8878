"""Pages of lists: how a command asks for one, and how it shows it."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.client import ask

Limit = Annotated[int, typer.Option(min=1, max=100, help="at most so many")]
After = Annotated[str | None, typer.Option(help="go on behind this id")]
Columns = Mapping[str, Callable[[dict[str, Any]], Any]]
DEFAULT_LIMIT = 20


def page_of(api: httpx.Client, route: str, limit: int, after: str | None, **filters: Any) -> dict[str, Any]:
    """One page of a list. filters: query parameters; None leaves one out. Raises Refused."""
    asked = {"limit": limit, "after": after} | filters
    return ask(api, "GET", route, params={name: value for name, value in asked.items() if value is not None})


def show_page(console: Console, page: dict[str, Any], columns: Columns, as_json: bool, command: str) -> None:
    """columns: title -> what stands there for an object; None is shown as nothing. command: what shows the next page."""
    if as_json:
        print(json.dumps(page))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        shown.add_column(title, overflow="fold")
    for item in page["data"]:
        cells = [of(item) for of in columns.values()]
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in cells))
    console.print(shown)
    if page["has_more"]:
        console.print(f"more: {command} --after {page['last_id']}", highlight=False, markup=False, soft_wrap=True)


def minute(at: float | None) -> str | None:
    """Unix seconds as people write them, in the time of this machine."""
    return None if at is None else f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M}"


def one_line(text: str, length: int = 60) -> str:
    """A text's beginning, without its line breaks."""
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 3] + "..."
