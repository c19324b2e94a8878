"""`meteor labels ...`: what people prefer, so that the judge can be held against it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.table import Table

from services.local.progress import make_console
from services.local.remote import Data, ask, client
from shared.contracts.data import LineError, checked, json_line
from shared.contracts.errors import UserError
from shared.contracts.labels import MOST_AT_ONCE, Label

app = typer.Typer(help="Human preferences between two answers; jobs measure their judge on them.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/labels"
SHOWN = 10  # bad lines that one error names
BODY_BYTES = 4 * 2**20  # of one request


def read_labels(path: Path) -> list[Label]:
    """All rows of a JSONL file. Raises UserError that names the bad lines by their numbers."""
    lines = enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
    values = [(number, json_line(number, raw)) for number, raw in lines]
    found = [checked(Label, number, value) if isinstance(value, dict) else value for number, value in values]
    bad = [row for row in found if isinstance(row, LineError)]
    if bad:
        shown = "; ".join(f"line {error.line}: {error.message[:200]}" for error in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(f"{path.name} has {len(bad)} bad lines, nothing was sent: {shown}{more}", code="invalid_row")
    return [row for row in found if isinstance(row, Label)]


def bodies(labels: list[Label]) -> Iterator[list[dict[str, str]]]:
    """The rows in order, in parts that a request may hold."""
    part: list[dict[str, str]] = []
    size = 0
    for label in labels:
        row = label.model_dump(mode="json")
        length = len(json.dumps(row))
        if part and (len(part) == MOST_AT_ONCE or size + length > BODY_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    yield part


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="JSONL: question, first, second, preferred (first, second, tie)")],
    data: Data = Path(".meteor"),
) -> None:
    """Add labels. The same label given twice is kept once."""
    labels = read_labels(file)
    if not labels:
        raise UserError(f"{file.name} has no rows; one JSON object per line is expected", code="empty_file")
    added = known = total = 0
    with client(data) as api:
        for rows in bodies(labels):
            answer = ask(api, "POST", ROUTE, json={"labels": rows})
            added, known, total = added + answer["added"], known + answer["known"], answer["total"]
    console.print(f"{added} labels added, {known} were known; {total} in all", highlight=False)


@app.command("list")
def list_labels(data: Data = Path(".meteor"), limit: int = 20, after: str | None = None) -> None:
    """The newest labels; --after goes on behind one."""
    with client(data) as api:
        params = {"limit": limit} | ({"after": after} if after else {})
        page = ask(api, "GET", ROUTE, params=params)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("label", "preferred", "question"):
        shown.add_column(title)
    for row in page["data"]:
        shown.add_row(row["id"], row["preferred"], " ".join(row["question"].split())[:60])
    console.print(shown)
    if page["has_more"]:
        console.print(f"more: meteor labels list --after {page['last_id']}", highlight=False, soft_wrap=True)


@app.command()
def delete(
    labels: Annotated[list[str], typer.Argument(help="ids, as `meteor labels list` shows them")],
    data: Data = Path(".meteor"),
) -> None:
    """Take labels back. Jobs that were posted before go on with them."""
    with client(data) as api:
        for label_id in labels:
            ask(api, "DELETE", f"{ROUTE}/{quote(label_id, safe='')}")
            console.print(f"{label_id} taken back", highlight=False)
