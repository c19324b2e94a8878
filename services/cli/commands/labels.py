"""`meteor labels ...`: what people prefer, so that the judge can be held against it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, Data, Json, Refused, ask, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, one_line, page_of, show_page
from shared.contracts.data import LineError, checked, json_line
from shared.contracts.errors import UserError
from shared.contracts.labels import MOST_AT_ONCE, Label
from shared.platform.terminal import make_console

app = typer.Typer(help="Human preferences between two answers; jobs measure their judge on them.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/labels"
SHOWN = 10  # bad lines that one error names
BODY_BYTES = 4 * 2**20  # of one request
COLUMNS: Columns = {
    "label": lambda label: label["id"],
    "preferred": lambda label: label["preferred"],
    "question": lambda label: one_line(label["question"]),
}


def read_labels(path: Path) -> list[Label]:
    """All rows of a JSONL file. Raises UserError that names the bad lines by their numbers."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    lines = enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1)
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
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
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
    if as_json:
        print(json.dumps({"added": added, "known": known, "total": total}))
    else:
        console.print(f"{added} labels added, {known} were known; {total} in all", highlight=False)


@app.command("list")
def list_labels(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest labels."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor labels list")


@app.command()
def delete(
    labels: Annotated[list[str], typer.Argument(help="ids, as `meteor labels list` shows them")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Take labels back. Jobs that were posted before go on with them."""
    with client(data) as api:
        for label_id in labels:
            answer = ask(api, "DELETE", f"{ROUTE}/{quote(label_id, safe='')}")
            print(json.dumps(answer)) if as_json else console.print(f"{label_id} taken back", highlight=False)
