"""`meteor data ...`: datasets out of what people have, looked at, uploaded, listed."""

import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from services.local.documents_cli import ROUTE as IMPORTS
from services.local.documents_cli import fetch, run_import, zip_folder
from services.local.progress import make_console
from services.local.remote import Data, ask, client
from shared.contracts.data import LineError, bounded_lines, parse_lines
from shared.contracts.errors import UserError
from shared.contracts.imports import DocumentsOptions, HubOptions
from shared.importing.rows import write_rows
from shared.importing.sources import Convertible, rows_of

app = typer.Typer(help="Make datasets, check them, upload them.", no_args_is_help=True)
console = make_console()
ROUTE = "/v1/files"
SHOWN = 20  # bad lines that `validate` prints
TICK_S = 2.0  # between signs of life
Json = Annotated[bool, typer.Option("--json", help="one JSON object instead of sentences, for scripts")]
HUB_ID = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


def kind_of(source: str) -> str:
    """What a source is taken for when nobody says. Raises UserError."""
    path = Path(source)
    if path.is_dir():
        return "documents"
    if path.suffix.lower() in (".xml", ".zip", ".7z"):
        return "stackexchange"
    if path.is_file():
        return "chat"
    if not path.exists() and HUB_ID.fullmatch(source):
        return "hub"
    raise UserError(f"{source} is neither a file nor a hub id; --kind says what it is", code="source_not_found")


def options_of(kind: str, **given: Any) -> Convertible | DocumentsOptions:
    """The source's options. Raises UserError for one that this kind does not have, or that is out of range."""
    kinds = {option.model_fields["type"].default: option for option in (*get_args(Convertible), DocumentsOptions)}
    if kind not in kinds:
        raise UserError(f"--kind must be one of {', '.join(kinds)}, not {kind!r}", code="invalid_value")
    wanted = {name: value for name, value in given.items() if value not in (None, [], {})}
    foreign = sorted(set(wanted) - set(kinds[kind].model_fields))
    if foreign:
        names = ", ".join(
            "--" + name.replace("_", "-").replace("columns", "map").replace("tags", "tag") for name in foreign
        )
        raise UserError(f"an import of the kind {kind} has no option {names}", code="unknown_option")
    try:
        return TypeAdapter(kinds[kind]).validate_python(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", code="invalid_value") from error


@app.command("import")
def import_data(
    source: Annotated[
        str, typer.Argument(help="Posts.xml (or a zip of it), a JSONL file, or a hub id such as org/name")
    ],
    kind: Annotated[str | None, typer.Option(help="chat, stackexchange, hub or documents; guessed")] = None,
    out: Annotated[Path | None, typer.Option(help="where the rows go: a JSONL file")] = None,
    upload_it: Annotated[bool, typer.Option("--upload", help="upload the rows as well")] = False,
    site: Annotated[
        str | None, typer.Option(help="stackexchange: for the links, such as stats.stackexchange.com")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="stackexchange: `paper` takes the paper's four fields")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="stackexchange: only these (may be repeated)")] = None,
    min_score: Annotated[int | None, typer.Option(help="stackexchange: of the question (1)")] = None,
    min_answer_score: Annotated[int | None, typer.Option(help="stackexchange: of the answer (0)")] = None,
    columns: Annotated[list[str] | None, typer.Option("--map", help="hub: FIELD=COLUMN, question=instruction")] = None,
    revision: Annotated[str | None, typer.Option(help="hub: a branch, tag or commit (main)")] = None,
    config: Annotated[str | None, typer.Option(help="hub: the folder of a configuration")] = None,
    split: Annotated[str | None, typer.Option(help="hub: the dataset's own split to read (train)")] = None,
    domain: Annotated[str | None, typer.Option(help="documents: the field, in a few words")] = None,
    questions: Annotated[int | None, typer.Option(help="documents: how many (200)")] = None,
    provider: Annotated[str | None, typer.Option(help="documents: the strong model that writes them")] = None,
    usd: Annotated[float | None, typer.Option(help="documents: what the strong model may cost")] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many rows")] = None,
    data: Data = Path(".meteor"),
    as_json: Json = False,
) -> None:
    """Make a dataset of something else: rows with question, reference and source."""
    if out is None and not upload_it:
        raise UserError("say where the rows go: --out FILE, or --upload", code="missing_option")
    kind = kind or kind_of(source)
    options = options_of(
        kind, site=site, preset=preset, tags=tags, min_score=min_score, min_answer_score=min_answer_score,
        columns=_columns(columns), revision=revision, config=config, split=split, limit=limit,
        dataset=source if kind == "hub" else None, domain=domain, questions=questions, provider=provider,
    )  # fmt: skip
    if isinstance(options, DocumentsOptions):
        _tell(_documents(options, Path(source), out, usd, data, as_json), as_json)
        return
    with tempfile.TemporaryDirectory(prefix="meteor-import-") as folder:
        rows = Path(folder) / "rows.jsonl" if out is None else out.with_name(out.name + ".part")
        found = convert(options, source, rows, as_json)
        if out is not None:
            os.replace(rows, out)
            rows = out
        file = send(data, rows, _name(source)) if upload_it else None
    _tell(found | {"out": str(out) if out else None, "file": file}, as_json)


def _documents(
    options: DocumentsOptions, folder: Path, out: Path | None, usd: float | None, data: Path, quiet: bool
) -> dict[str, Any]:
    """Questions are written by the API's strong model, so the dataset is there in any case; --out fetches it."""
    with tempfile.TemporaryDirectory(prefix="meteor-import-") as scratch:
        packed = Path(scratch) / f"{folder.resolve().name}.zip"
        zip_folder(folder, packed)
        raw = send(data, packed, purpose="user_data")
    body = {"source": options.model_dump(), "file": raw["id"], "budget": {} if usd is None else {"max_usd": usd}}
    with client(data) as api:
        result = run_import(api, None if quiet else console, body)["result"]
        file = ask(api, "GET", f"{ROUTE}/{result['file']}")
        if out is not None:
            fetch(api, f"{ROUTE}/{file['id']}/content", out)
    return result | {"out": str(out) if out else None, "file": file}


def convert(options: Convertible, source: str, rows: Path, quiet: bool) -> dict[str, Any]:
    """Write the rows; {rows, left_out}. A half-written file does not stay."""
    path = None if isinstance(options, HubOptions) else Path(source)
    if path is not None and not path.is_file():
        raise UserError(f"there is no file {source}", code="source_not_found")
    left_out: Counter[str] = Counter()
    told = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal told
        if not quiet and time.monotonic() - told > TICK_S:
            told = time.monotonic()
            console.print(f"  {100 * done / max(total, 1):.0f} %", highlight=False)

    try:
        count = write_rows(rows_of(options, path, left_out, on_progress), rows)
    except BaseException:
        rows.unlink(missing_ok=True)
        raise
    return {"rows": count, "left_out": dict(sorted((+left_out).items()))}


def _columns(given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or []]
    if not all(name and equals and column for name, equals, column in pairs):
        raise UserError("--map takes FIELD=COLUMN, such as question=instruction", code="invalid_value")
    return {name: column for name, _, column in pairs}


def _name(source: str) -> str:
    return f"{Path(source).stem or 'rows'}.jsonl"


def _tell(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    console.print(f"{result['rows']} rows" + (f" in {result['out']}" if result["out"] else ""), highlight=False)
    for reason, count in result["left_out"].items():
        console.print(f"  left out, {reason}: {count}", highlight=False, markup=False)
    if result["file"]:
        console.print(_sentence(result["file"]), highlight=False, soft_wrap=True)


def send(data: Path, path: Path, name: str | None = None, purpose: str = "fine-tune") -> dict[str, Any]:
    """Upload a file; the API's file object."""
    with client(data) as api, path.open("rb") as file:
        api.timeout = 3600
        return ask(api, "POST", ROUTE, files={"file": (name or path.name, file)}, data={"purpose": purpose})


def _sentence(file: dict[str, Any]) -> str:
    """One line about a file object."""
    parts = [file["id"], file["filename"], file["status"]]
    if file["n_rows"] is not None:
        splits = ", ".join(f"{name} {count}" for name, count in file["splits"].items())
        parts.append(f"{file['n_rows']} rows ({splits})")
    return "  ".join(parts + ([file["status_details"]] if file["status_details"] else []))


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(help="a dataset (JSONL)", exists=True, dir_okay=False)],
    purpose: Annotated[
        str, typer.Option(help="fine-tune: a dataset; user_data: raw material for an import")
    ] = "fine-tune",
    data: Data = Path(".meteor"),
    as_json: Json = False,
) -> None:
    """Upload a file. Exit code 1 when it has bad lines."""
    found = send(data, file, purpose=purpose)
    print(json.dumps(found)) if as_json else console.print(_sentence(found), highlight=False, soft_wrap=True)
    if found["status"] == "error":
        raise typer.Exit(1)


@app.command("list")
def list_files(data: Data = Path(".meteor"), limit: int = 20, after: str | None = None, as_json: Json = False) -> None:
    """The newest files; --after goes on behind one."""
    with client(data) as api:
        page = ask(api, "GET", ROUTE, params={"limit": limit} | ({"after": after} if after else {}))
    if as_json:
        print(json.dumps(page))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "name", "purpose", "status", "rows", "bytes"):
        shown.add_column(title, overflow="fold")
    for file in page["data"]:
        rows = "" if file["n_rows"] is None else str(file["n_rows"])
        shown.add_row(file["id"], file["filename"], file["purpose"], file["status"], rows, str(file["bytes"]))
    console.print(shown)
    if page["has_more"]:
        console.print(f"more: meteor data list --after {page['last_id']}", highlight=False, soft_wrap=True)


@app.command("imports")
def list_imports(data: Data = Path(".meteor"), limit: int = 20, as_json: Json = False) -> None:
    """The newest imports that run, or ran, as jobs."""
    with client(data) as api:
        page = ask(api, "GET", f"{IMPORTS}?limit={limit}")
    if as_json:
        print(json.dumps(page))
        return
    for made in page["data"]:
        end = (made["result"] or {}).get("file") or (made["error"] or {}).get("message") or made["status_reason"] or ""
        console.print(f"{made['id']}  {made['source']['type']}  {made['status']}  {end}", highlight=False, markup=False)


@app.command()
def cancel(import_id: str, data: Data = Path(".meteor")) -> None:
    """Stop an import that runs as a job."""
    with client(data) as api:
        console.print(ask(api, "POST", f"{IMPORTS}/{import_id}/cancel")["status"])


@app.command()
def delete(file: str, data: Data = Path(".meteor")) -> None:
    """Delete a file. Refused while a job needs it."""
    with client(data) as api:
        ask(api, "DELETE", f"{ROUTE}/{file}")
    console.print(f"{file} deleted", highlight=False)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="a dataset (JSONL)", exists=True, dir_okay=False)], as_json: Json = False
) -> None:
    """Check a dataset as an upload would, without an API. Exit code 1 when a line is bad."""
    ignored: Counter[str] = Counter()
    rows, bad = 0, 0
    errors: list[LineError] = []
    with _lines(file) as lines:
        for item in parse_lines(lines, ignored):
            if isinstance(item, LineError):
                bad += 1
                errors += [item] if len(errors) < SHOWN else []
            else:
                rows += 1
    valid = rows > 0 and not bad
    if as_json:
        shown = [error.model_dump() for error in errors]
        print(json.dumps({"valid": valid, "rows": rows, "bad": bad, "errors": shown, "ignored_fields": ignored}))
    else:
        _tell_verdict(rows, bad, errors, ignored)
    if not valid:
        raise typer.Exit(1)


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    with path.open("rb") as file:
        yield bounded_lines(file)


def _tell_verdict(rows: int, bad: int, errors: list[LineError], ignored: Counter[str]) -> None:
    console.print(f"{rows} good rows, {bad} bad lines", highlight=False)
    for error in errors:
        console.print(f"  line {error.line}: {error.message}", highlight=False, markup=False, soft_wrap=True)
    if bad > len(errors):
        console.print(f"  and {bad - len(errors)} more", highlight=False)
    for name, count in ignored.items():
        console.print(f"  {name!r} stands in {count} rows and is not read", highlight=False, markup=False)
