"""`meteor data ...`: datasets out of what people have, looked at, uploaded, listed."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.cli.client import DEFAULT_DATA, FILES, Data, Json, Refused, ask, client, fetch, upload
from services.cli.commands import imports as imports_commands
from services.cli.commands.imports import sentence
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, page_of, show_page
from shared.contracts.data import LineError, bounded_lines, parse_lines
from shared.platform.terminal import make_console

app = typer.Typer(help="Make datasets, check them, upload them.", no_args_is_help=True)
app.add_typer(imports_commands.app)
console = make_console()
SHOWN = 20  # bad lines that `validate` prints
COLUMNS: Columns = {
    "file": lambda file: file["id"],
    "name": lambda file: file["filename"],
    "purpose": lambda file: file["purpose"],
    "status": lambda file: file["status"],
    "rows": lambda file: file["n_rows"],
    "bytes": lambda file: file["bytes"],
}
FileId = Annotated[str, typer.Argument(help="an id, as `meteor data list` shows it")]


@app.command("upload")
def upload_file(
    file: Annotated[Path, typer.Argument(help="a dataset (JSONL)", exists=True, dir_okay=False)],
    purpose: Annotated[
        str, typer.Option(help="fine-tune: a dataset; user_data: raw material for an import")
    ] = "fine-tune",
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Upload a file. Exit code 1 when it has bad lines."""
    with client(data) as api:
        found = upload(api, file, purpose=purpose)
    _tell(found, as_json)
    if found["status"] == "error":
        raise typer.Exit(1)


@app.command("list")
def list_files(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest files."""
    with client(data) as api:
        page = page_of(api, FILES, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor data list")


@app.command()
def show(file: FileId, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One file: its rows by split, or what is wrong with it."""
    with client(data) as api:
        _tell(ask(api, "GET", _route(file)), as_json)


@app.command()
def download(
    file: FileId,
    out: Annotated[Path, typer.Option("--out", help="where it goes")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Fetch a file as it was uploaded, or as an import made it."""
    with client(data) as api:
        found = ask(api, "GET", _route(file))
        fetch(api, _route(file) + "/content", out)
    print(json.dumps(found | {"out": str(out)})) if as_json else console.print(str(out), highlight=False, markup=False)


@app.command()
def delete(file: FileId, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Delete a file. Refused while a job needs it."""
    with client(data) as api:
        answer = ask(api, "DELETE", _route(file))
    print(json.dumps(answer)) if as_json else console.print(f"{file} deleted", highlight=False, markup=False)


def _route(file: str) -> str:
    return f"{FILES}/{quote(file, safe='')}"


def _tell(file: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(file))
    else:
        console.print(sentence(file), highlight=False, markup=False, soft_wrap=True)


@app.command()
def validate(
    file: Annotated[str, typer.Argument(help="a dataset (JSONL), or the id of an uploaded one")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Check a dataset as an upload would; a file that lies here needs no API. Exit code 1 when a line is bad."""
    if Path(file).is_file():
        found = _checked(Path(file))
    elif file.startswith("file-"):
        with client(data) as api:
            found = ask(api, "POST", _route(file) + "/validate")
    else:
        raise typer.BadParameter(f"there is no file {file}")
    if as_json:
        print(json.dumps(found))
    else:
        _tell_verdict(found)
    if not found["valid"]:
        raise typer.Exit(1)


def _checked(path: Path) -> dict[str, Any]:
    """As the API's /validate answers. All lines are counted, the first bad ones told."""
    ignored: Counter[str] = Counter()
    good, bad = 0, 0
    errors: list[LineError] = []
    with _lines(path) as lines:
        for item in parse_lines(lines, ignored):
            if isinstance(item, LineError):
                bad += 1
                errors += [item] if len(errors) < SHOWN else []
            else:
                good += 1
    told = {"object": "list", "data": [error.model_dump() for error in errors], "has_more": bad > len(errors)}
    return {
        "valid": good > 0 and not bad,
        "n_rows": good,
        "n_bad": bad,
        "errors": told,
        "ignored_fields": dict(ignored),
    }


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as file:
            yield bounded_lines(file)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


def _tell_verdict(found: dict[str, Any]) -> None:
    errors = found["errors"]
    bad = found.get("n_bad", len(errors["data"]))
    more = errors["has_more"] and "n_bad" not in found  # the API stops reading after so many
    console.print(f"{found['n_rows']} good rows, {bad} bad lines" + (" or more" if more else ""), highlight=False)
    for error in errors["data"][:SHOWN]:
        console.print(f"  line {error['line']}: {error['message']}", highlight=False, markup=False, soft_wrap=True)
    if bad > SHOWN:
        console.print(f"  and {bad - SHOWN} more", highlight=False)
    for name, count in found["ignored_fields"].items():
        console.print(f"  {name!r} stands in {count} rows and is not read", highlight=False, markup=False)
