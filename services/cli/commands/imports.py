"""`meteor data import`, and the imports that run as jobs of the API."""

import os
import re
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from services.cli.client import FILES, ApiClient, JsonObject, Refused, Resource, Waits, client, problem_of
from services.cli.options import DEFAULT_DATA, Data, Json, Maps, MaskIt, given, mapping_of
from services.cli.output import Columns
from services.cli.verbs import Noun
from shared.contracts.coverage import REVIEW
from shared.contracts.errors import UserError
from shared.contracts.imports import DocumentsOptions, HubOptions, ImportObject
from shared.contracts.views import FileObject, Listed
from shared.importing.conversion import ENDINGS, HTMLS
from shared.importing.documents import DOCUMENT_BYTES
from shared.importing.personal_data import masked_row
from shared.importing.rows import write_rows
from shared.importing.sources import Convertible, rows_of
from shared.importing.stackexchange import site_of
from shared.platform.terminal import QUIET_S, console, emit, say

app = typer.Typer()
IMPORTS = Resource("/v1/imports", ImportObject, Listed[ImportObject])
LOOK_S = 1.0
LIVE_S = 2.0  # between two signs of life on a terminal
ENDED = ("succeeded", "failed", "cancelled")
ALONE = (".pdf", ".docx", *HTMLS, ".md", ".markdown")  # documents by their name alone; a .txt may be a table
HUB_ID = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
COLUMNS: Columns[ImportObject] = {
    "import": lambda item: item.id,
    "source": lambda item: item.source.type,
    "status": lambda item: item.status,
    "file": lambda item: item.result.file if item.result else None,
    "why": lambda item: item.error.message if item.error else item.status_reason,
}
Import = Annotated[str, typer.Argument(help="an id, as `meteor data imports` shows it")]


class Imported(BaseModel):
    """A dataset that was made. out: where it was written; file: as which it was uploaded. left_out: rows by reason."""

    rows: int
    references: int
    left_out: dict[str, int]
    masked: dict[str, int] = Field(default={}, exclude_if=lambda counts: not counts)
    out: str | None
    file: FileObject | None


def kind_of(source: str) -> str:
    """What a source is taken for when nobody says. Raises UserError."""
    path = Path(source)
    if path.is_dir():
        return "documents"
    if path.suffix.lower() in (".xml", ".7z") or (path.suffix.lower() == ".zip" and _holds_posts(path)):
        return "stackexchange"
    if path.is_file():
        return "documents" if path.suffix.lower() in ALONE else "chat"
    if not path.exists() and HUB_ID.fullmatch(source):
        return "hub"
    raise UserError(f"{source} is neither a file nor a hub id; --kind says what it is", code="source_not_found")


def _holds_posts(path: Path) -> bool:
    """Whether a zip is a Stack Exchange dump; one that cannot be read is taken for it, and its reader says why it cannot."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == "Posts.xml" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return True


def options_of(kind: str, **given: Any) -> Convertible | DocumentsOptions:
    """The source's options. Raises UserError for one that this kind does not have, or that is out of range."""
    kinds = {option.model_fields["type"].default: option for option in (*get_args(Convertible), DocumentsOptions)}
    kind = "chat" if kind == "file" else kind
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
        raise UserError(problem_of(error), code="invalid_value") from error


@app.command("import")
def import_data(
    source: Annotated[
        str,
        typer.Argument(
            help="a data file, Posts.xml (or a zip of it), a document or a folder of them, or a hub id such as org/name"
        ),
    ],
    kind: Annotated[str | None, typer.Option(help="file, stackexchange, hub or documents; guessed")] = None,
    out: Annotated[Path | None, typer.Option(help="where the rows go: a JSONL file")] = None,
    upload_it: Annotated[bool, typer.Option("--upload", help="upload the rows as well")] = False,
    site: Annotated[
        str | None,
        typer.Option(
            help="stackexchange: such as stats.stackexchange.com; guessed by the name of the file or its folder"
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="stackexchange: `paper` takes the paper's four fields")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="stackexchange: only these (may be repeated)")] = None,
    min_score: Annotated[int | None, typer.Option(help="stackexchange: of the question (1)")] = None,
    min_answer_score: Annotated[int | None, typer.Option(help="stackexchange: of the answer (0)")] = None,
    columns: Maps = None,
    skip_bad: Annotated[
        bool | None,
        typer.Option("--skip-bad", help="file: leave bad rows out and count them, as an import from a hub does"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="hub: a branch, tag or commit (main)")] = None,
    config: Annotated[str | None, typer.Option(help="hub: the folder of a configuration")] = None,
    split: Annotated[str | None, typer.Option(help="hub: the dataset's own split to read (train)")] = None,
    domain: Annotated[str | None, typer.Option(help="documents: the domain, in a few words")] = None,
    questions: Annotated[int | None, typer.Option(help="documents: how many (200)")] = None,
    provider: Annotated[str | None, typer.Option(help="documents: the strong model that writes them")] = None,
    usd: Annotated[float | None, typer.Option(help="documents: what the strong model may cost")] = None,
    limit: Annotated[int | None, typer.Option(help="at most so many rows")] = None,
    mask: MaskIt = False,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Make a dataset of something else: rows with question, reference and source."""
    if out is None and not upload_it:
        raise UserError("say where the rows go: --out FILE, or --upload", code="missing_option")
    kind = kind or kind_of(source)
    if kind == "stackexchange" and site is None:
        site = site_of(Path(source).name) or site_of(Path(source).resolve().parent.name)
    options = options_of(
        kind, site=site, preset=preset, tags=tags, min_score=min_score, min_answer_score=min_answer_score,
        columns=mapping_of(columns), skip_bad=skip_bad, revision=revision, config=config, split=split, limit=limit,
        dataset=source if kind == "hub" else None, domain=domain, questions=questions, provider=provider,
    )  # fmt: skip
    if isinstance(options, DocumentsOptions):
        with client(data) as api:
            emit_imported(_import_documents(api, options, Path(source), out, usd, mask, as_json), as_json)
        return
    with tempfile.TemporaryDirectory(prefix="meteor-import-") as folder:
        rows = Path(folder) / "rows.jsonl" if out is None else out.with_name(out.name + ".part")
        count, references, left_out, hidden = convert(options, source, rows, mask, as_json)
        if out is not None:
            os.replace(rows, out)
            rows = out
        file = None
        if upload_it:
            with client(data) as api:
                file = api.upload(rows, f"{Path(source).stem or 'rows'}.jsonl")
    emit_imported(
        Imported(
            rows=count,
            references=references,
            left_out=left_out,
            masked=hidden,
            out=str(out) if out else None,
            file=file,
        ),
        as_json,
    )


def _import_documents(
    api: ApiClient,
    options: DocumentsOptions,
    folder: Path,
    out: Path | None,
    usd: float | None,
    mask: bool,
    quiet: bool,
) -> Imported:
    """The API's strong model writes the questions, so the dataset is uploaded in any case; --out fetches it."""
    raw = packed_documents(api, folder)
    body: JsonObject = {"source": options.model_dump(), "file": raw, "budget": given(max_usd=usd), "mask": mask}
    return dataset_of(api, until_ended(api, api.ask(ImportObject, "POST", IMPORTS.route, body), quiet), out)


def packed_documents(api: ApiClient, folder: Path) -> str:
    """Upload a document, or those of a folder, as one zip; returns the file's id."""
    with tempfile.TemporaryDirectory(prefix="meteor-import-") as scratch:
        packed = Path(scratch) / f"{folder.resolve().stem}.zip"
        zip_folder(folder, packed)
        return api.upload(packed, purpose="user_data").id


def zip_folder(folder: Path, target: Path) -> int:
    """Pack the documents below a folder, or one document, by their relative names; returns how many. Links are not followed.

    Raises UserError when there is none, or one is too long.
    """
    if folder.is_file():
        folder, documents = folder.parent, [folder]
    else:
        paths = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.is_symlink())
        documents = sorted(paths)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in documents:
            if path.stat().st_size > DOCUMENT_BYTES:
                raise UserError(f"{path} is longer than {DOCUMENT_BYTES} bytes; divide it", code="document_too_long")
            archive.write(path, path.relative_to(folder).as_posix())
    if not documents:
        raise UserError(f"{folder} holds no {', '.join(ENDINGS)} files", code="source_not_found")
    return len(documents)


def until_ended(api: ApiClient, item: ImportObject, quiet: bool, stops_at_review: bool = False) -> ImportObject:
    """Wait for an import's end; print a line at each change unless quiet. Ctrl-C leaves the import running.

    stops_at_review: one that waits with its coverage map is returned. Raises Refused when it fails or is cancelled, Waits when it
    is paused.
    """
    shown = ""
    while True:
        line = f"{item.id}  {item.status}  {item.progress.percent:.0f} %  {item.usage.usd_spent:.4f} USD"
        if not quiet and line != shown:
            say(line)
            shown = line
        if item.status == "paused" and stops_at_review and (item.status_reason or "").startswith(REVIEW):
            return item
        if item.status == "paused":
            continues = f"`meteor data raise {item.id} --usd ...` or `meteor data resume {item.id}` continues it"
            raise Waits(f"{item.id} waits: {item.status_reason}; {continues}")
        if item.status in ENDED:
            break
        time.sleep(LOOK_S)
        item = api.get(IMPORTS, item.id)
    if item.status != "succeeded":
        raise Refused(f"{item.id} {item.status}: {item.error.message if item.error else ''}")
    return item


def dataset_of(api: ApiClient, item: ImportObject, out: Path | None) -> Imported:
    """The dataset of an import that succeeded, written to `out` when that is given."""
    result = item.result
    if result is None:
        raise Refused(f"{item.id} succeeded without a result")
    file = api.get(FILES, result.file)
    if out is not None:
        api.download(FILES.path(file.id, "content"), out)
    return Imported(
        rows=result.rows,
        references=result.references,
        left_out=result.left_out,
        masked=result.masked,
        out=str(out) if out else None,
        file=file,
    )


def convert(
    options: Convertible, source: str, rows: Path, mask: bool, quiet: bool
) -> tuple[int, int, dict[str, int], dict[str, int]]:
    """Write the rows; returns (count, those with a reference, rows left out by reason, masked personal data by kind). A half-written
    file is removed."""
    path = None if isinstance(options, HubOptions) else Path(source)
    if path is not None and not path.is_file():
        raise UserError(f"there is no file {source}", code="source_not_found")
    left_out: Counter[str] = Counter()
    hidden: Counter[str] = Counter()
    interval_s = LIVE_S if console.is_terminal else QUIET_S
    last_line = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last_line
        if not quiet and time.monotonic() - last_line > interval_s:
            last_line = time.monotonic()
            say(f"  {100 * done / max(total, 1):.0f} %")

    try:
        converted = rows_of(options, path, left_out, on_progress)
        count, references = write_rows((masked_row(row, hidden) for row in converted) if mask else converted, rows)
    except OSError as error:
        rows.unlink(missing_ok=True)
        raise Refused(f"{error.filename or rows}: {error.strerror}") from error
    except BaseException:
        rows.unlink(missing_ok=True)
        raise
    return count, references, dict(sorted((+left_out).items())), dict(hidden)


def emit_imported(result: Imported, as_json: bool) -> None:
    emit(
        result,
        as_json,
        f"{result.rows} rows, {result.references} with a reference"
        + (f"; they are in {result.out}" if result.out else ""),
    )
    if as_json:
        return
    for reason, count in result.left_out.items():
        say(f"  left out, {reason}: {count}")
    for kind, count in sorted(result.masked.items()):
        say(f"  masked, {kind}: {count}")
    if result.file:
        say(sentence(result.file))


def sentence(file: FileObject) -> str:
    """One line about a file."""
    parts = [file.id, file.filename, file.status]
    if file.n_rows is not None:
        splits = ", ".join(f"{name} {count}" for name, count in (file.splits or {}).items())
        known = f", {file.reading.references} with a reference" if file.reading else ""
        parts.append(f"{file.n_rows} rows ({splits}{known})")
    return "  ".join(parts + ([file.status_details] if file.status_details else []))


@app.command()
def watch(
    import_id: Import,
    out: Annotated[Path | None, typer.Option(help="where the rows go: a JSONL file")] = None,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Follow an import to its end. Exit code 3 when it is paused."""
    with client(data) as api:
        item = until_ended(api, api.get(IMPORTS, import_id), as_json)
        emit_imported(dataset_of(api, item, out), as_json)


@app.command("raise")
def raise_budget(
    import_id: Import,
    usd: Annotated[float, typer.Option(help="what it may spend in all, in USD")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give an import another budget. One that waits for its budget goes on."""
    with client(data) as api:
        item = api.change(IMPORTS, import_id, {"budget": {"max_usd": usd}})
    emit(item, as_json, item.status)


noun = Noun(app, "meteor data", IMPORTS, COLUMNS, "an id, as `meteor data imports` shows it")
noun.add_list("The newest imports that run, or ran, as jobs.", name="imports")
noun.add_act("cancel", "Stop an import that runs as a job.")
noun.add_act("pause", "Pause an import.")
noun.add_act("resume", "Continue a paused import.")
