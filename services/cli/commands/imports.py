"""`meteor data import` and what follows an import that runs as a job."""

import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import quote

import httpx
import typer
from pydantic import TypeAdapter, ValidationError

from services.cli.client import DEFAULT_DATA, FILES, Data, Json, Refused, ask, client, fetch, upload
from services.cli.documents import ROUTE, until_ended, zip_folder
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, page_of, show_page
from shared.contracts.errors import UserError
from shared.contracts.imports import DocumentsOptions, HubOptions
from shared.importing.rows import write_rows
from shared.importing.sources import Convertible, rows_of
from shared.platform.terminal import make_console

app = typer.Typer()
console = make_console()
TICK_S = 2.0  # between signs of life
HUB_ID = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
COLUMNS: Columns = {
    "import": lambda made: made["id"],
    "source": lambda made: made["source"]["type"],
    "status": lambda made: made["status"],
    "file": lambda made: (made["result"] or {}).get("file"),
    "why": lambda made: (made["error"] or {}).get("message") or made["status_reason"],
}
Import = Annotated[str, typer.Argument(help="an id, as `meteor data imports` shows it")]


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
    data: Data = DEFAULT_DATA,
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
        file = None
        if upload_it:
            with client(data) as api:
                file = upload(api, rows, _name(source))
    _tell(found | {"out": str(out) if out else None, "file": file}, as_json)


def _documents(
    options: DocumentsOptions, folder: Path, out: Path | None, usd: float | None, data: Path, quiet: bool
) -> dict[str, Any]:
    """Questions are written by the API's strong model, so the dataset is there in any case; --out fetches it."""
    with tempfile.TemporaryDirectory(prefix="meteor-import-") as scratch, client(data) as api:
        packed = Path(scratch) / f"{folder.resolve().name}.zip"
        zip_folder(folder, packed)
        raw = upload(api, packed, purpose="user_data")
        body = {"source": options.model_dump(), "file": raw["id"], "budget": {} if usd is None else {"max_usd": usd}}
        made = ask(api, "POST", ROUTE, json=body)
        return _dataset_of(api, until_ended(api, None if quiet else console, made), out)


def _dataset_of(api: httpx.Client, made: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """What an import that succeeded has made, fetched where somebody wants it."""
    file = ask(api, "GET", f"{FILES}/{made['result']['file']}")
    if out is not None:
        fetch(api, f"{FILES}/{file['id']}/content", out)
    return made["result"] | {"out": str(out) if out else None, "file": file}


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
    except OSError as error:
        rows.unlink(missing_ok=True)
        raise Refused(f"{error.filename or rows}: {error.strerror}") from error
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
        console.print(sentence(result["file"]), highlight=False, soft_wrap=True)


def sentence(file: dict[str, Any]) -> str:
    """One line about a file object."""
    parts = [file["id"], file["filename"], file["status"]]
    if file["n_rows"] is not None:
        splits = ", ".join(f"{name} {count}" for name, count in file["splits"].items())
        parts.append(f"{file['n_rows']} rows ({splits})")
    return "  ".join(parts + ([file["status_details"]] if file["status_details"] else []))


@app.command("imports")
def list_imports(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest imports that run, or ran, as jobs."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor data imports")


@app.command()
def watch(
    import_id: Import,
    out: Annotated[Path | None, typer.Option(help="where the rows go: a JSONL file")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Follow an import to its end. Exit code 3 when it is paused."""
    with client(data) as api:
        made = until_ended(api, None if as_json else console, ask(api, "GET", _route(import_id)))
        _tell(_dataset_of(api, made, out), as_json)


@app.command()
def cancel(import_id: Import, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Stop an import that runs as a job."""
    with client(data) as api:
        _tell_status(ask(api, "POST", _route(import_id) + "/cancel"), as_json)


@app.command()
def pause(import_id: Import, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Let an import rest."""
    with client(data) as api:
        _tell_status(ask(api, "POST", _route(import_id) + "/pause"), as_json)


@app.command()
def resume(import_id: Import, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Let a paused import go on."""
    with client(data) as api:
        _tell_status(ask(api, "POST", _route(import_id) + "/resume"), as_json)


@app.command("raise")
def raise_budget(
    import_id: Import,
    usd: Annotated[float, typer.Option(help="what it may spend in all, in USD")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give an import another budget. One that waits for its budget goes on."""
    with client(data) as api:
        _tell_status(ask(api, "PATCH", _route(import_id), json={"budget": {"max_usd": usd}}), as_json)


def _route(import_id: str) -> str:
    return f"{ROUTE}/{quote(import_id, safe='')}"


def _tell_status(made: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(made) if as_json else made["status"])
