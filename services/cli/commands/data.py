"""`meteor data ...`: datasets out of what people have, looked at, uploaded, listed."""

import os
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path
from rich.table import Table
from rich.text import Text

from services.cli.client import FILES, UPLOAD_S, ApiClient, JsonObject, Refused, client
from services.cli.commands import generate, imports
from services.cli.commands.imports import HUB_ID, sentence
from services.cli.options import (
    DEFAULT_DATA,
    DEFAULT_LIMIT,
    After,
    AllAnswers,
    Data,
    Json,
    Limit,
    Maps,
    MaskIt,
    Member,
    SkipBad,
    given,
    read_options,
)
from services.cli.output import Columns, emit_page, minute, one_line
from services.cli.verbs import Noun
from shared.artifacts.token_counts import token_counter
from shared.contracts.data import DEV_SHARE, TEST_SHARE, LineError, Question, Split
from shared.contracts.file_reading import FileReading, Lengths, Preview, PreviewRequest, ReadOptions, StudentFit
from shared.contracts.imports import HubOptions
from shared.contracts.versions import DatasetRow, FileDiff, RowChange
from shared.contracts.views import FileObject, FileVerdict, LineErrors, Listed
from shared.importing import dataset
from shared.importing.dataset import DataFile
from shared.importing.hub import hub_files
from shared.platform.terminal import emit, say

app = typer.Typer(help="Make datasets, check them, upload them.", no_args_is_help=True)
app.add_typer(imports.app)
app.add_typer(generate.app)
SHOWN = 20  # bad lines that `validate` prints
MOST_ROWS = 10**9
COLUMNS: Columns[FileObject] = {
    "file": lambda file: file.id,
    "name": lambda file: file.filename,
    "purpose": lambda file: file.purpose,
    "status": lambda file: file.status,
    "rows": lambda file: file.n_rows,
    "bytes": lambda file: file.bytes,
    "expires": lambda file: minute(file.expires_at),
}


class LocalVerdict(FileVerdict):
    """As the API's /validate answers, with the number of all bad lines."""

    n_bad: int


@app.command("upload")
def upload_file(
    file: Annotated[
        Path, typer.Argument(help="a dataset: JSONL, JSON, CSV, XLSX, Parquet", exists=True, dir_okay=False)
    ],
    purpose: Annotated[
        str, typer.Option(help="fine-tune: a dataset; user_data: raw material for an import")
    ] = "fine-tune",
    maps: Maps = None,
    skip_bad: SkipBad = False,
    all_answers: AllAnswers = False,
    mask: MaskIt = False,
    member: Member = "",
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Upload a file. Exit code 1 when it has bad lines. `meteor data preview` shows before what becomes of it."""
    with client(data) as api:
        options = read_options(maps, skip_bad, all_answers, mask, member)
        uploaded = api.upload(file, purpose=purpose, options=options)
    emit(uploaded, as_json, sentence(uploaded))
    if uploaded.reading and not as_json:
        _say_reading(uploaded.reading)
    if uploaded.status == "error":
        raise typer.Exit(1)


@app.command()
def download(
    file: Annotated[str, typer.Argument(help="an id, as `meteor data list` shows it")],
    out: Annotated[Path, typer.Option("--out", help="where it goes")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Fetch a file as it was uploaded, or as an import made it."""
    with client(data) as api:
        description = api.get(FILES, file)
        api.download(FILES.path(file, "content"), out)
    emit(description.model_dump(mode="json", exclude_unset=True) | {"out": str(out)}, as_json, str(out))


@app.command()
def preview(
    file: Annotated[str, typer.Argument(help="a data file, the id of an uploaded one, or a hub id such as org/name")],
    maps: Maps = None,
    skip_bad: SkipBad = False,
    all_answers: AllAnswers = False,
    revision: Annotated[str | None, typer.Option(help="hub: a branch, tag or commit (main)")] = None,
    config: Annotated[str | None, typer.Option(help="hub: the folder of a configuration")] = None,
    split: Annotated[str | None, typer.Option(help="hub: the dataset's own split to read (train)")] = None,
    student: Annotated[
        str | None, typer.Option(help="count lengths in this student's tokens: a name, or the folder of a model")
    ] = None,
    mask: MaskIt = False,
    member: Member = "",
    rows: Annotated[int, typer.Option(min=0, max=50, help="how many rows are shown")] = 3,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show what becomes of a file as a dataset: how it is read, its first rows, its splits, what is left out. Nothing is
    stored, and a file that lies here needs no API. Exit code 1 when the file would be refused."""
    options = read_options(maps, skip_bad, all_answers, mask, member)
    request = PreviewRequest(**dict(options), rows=rows, student=student)
    if Path(file).is_file():
        shown = _previewed(Path(file), request)
    elif file.startswith("file-"):
        body = options.model_dump(exclude_unset=True) | {"rows": rows} | given(student=student)
        with client(data) as api:
            shown = api.ask(Preview, "POST", FILES.path(file, "preview"), json=body)
    elif not Path(file).exists() and HUB_ID.fullmatch(file):
        about = given(revision=revision, config=config, split=split) | {"dataset": file}
        name, path = next(hub_files(HubOptions.model_validate(about)))
        if not as_json:
            say(f"the first file of the dataset: {name}")
        shown = _previewed(path, request)
    else:
        raise typer.BadParameter(f"there is no file {file}")
    emit(shown, as_json, _rows_table(shown))
    if not as_json:
        _say_preview(shown)
    if not shown.valid:
        raise typer.Exit(1)


def _previewed(path: Path, request: PreviewRequest) -> Preview:
    options = ReadOptions.model_validate(request.model_dump(include=set(ReadOptions.model_fields)))
    tokens = token_counter(request.student, _folder_of(request.student)) if request.student else None
    return dataset.preview(_opened(path, options), request, DEV_SHARE, TEST_SHARE, MOST_ROWS, tokens)


def _folder_of(student: str) -> Path:
    """A folder that is named, or that of a prepared model."""
    models = os.environ.get("METEOR_MODELS") or user_cache_path("meteor") / "models"
    return Path(student) if Path(student).is_dir() else Path(models) / student


def _rows_table(shown: Preview) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("line", "question", "reference", "more"):
        table.add_column(title, overflow="fold")
    for row in shown.rows:
        if row.after is None:
            told = row.error.message if row.error else ""
            table.add_row(str(row.line), Text(f"bad row: {told}", style="red"), "", "")
            continue
        more = row.after.model_dump(exclude={"id", "question", "reference"}, exclude_none=True)
        beside = "; ".join(f"{name}: {one_line(str(value), 40)}" for name, value in more.items())
        reference = one_line(row.after.reference or "-", 80)
        table.add_row(str(row.line), Text(one_line(row.after.question, 80)), Text(reference), Text(beside))
    return table


def _say_preview(shown: Preview) -> None:
    splits = ", ".join(f"{name} {count}" for name, count in shown.splits.items())
    say(f"{shown.n_rows} rows ({splits}), {shown.reading.references} with a reference, {shown.n_bad} bad")
    for name, lengths in (("questions", shown.question_length), ("references", shown.reference_length)):
        if lengths:
            say(f"{name}: {_lengths(lengths)}")
    if shown.student:
        _say_student(shown.student)
    if shown.languages:
        say("languages, guessed: " + ", ".join(f"{name} {count}" for name, count in list(shown.languages.items())[:10]))
    if shown.categories:
        say("categories: " + ", ".join(f"{name} {count}" for name, count in list(shown.categories.items())[:10]))
    if shown.duplicates:
        say(f"{shown.duplicates} rows repeat the question of an earlier row")
    _say_reading(shown.reading)
    if shown.problem:
        say(f"refused: {shown.problem}")
    for error in shown.errors[:SHOWN] if shown.n_bad else []:
        say(f"  line {error.line}: {error.message}")


def _say_student(fit: StudentFit) -> None:
    limit = f"{fit.context} tokens" if fit.context else "unknown"
    say(f"for {fit.student}, whose context is {limit}, of the first {fit.rows} rows:")
    for name, lengths in (("questions", fit.question), ("references", fit.reference)):
        if lengths:
            say(f"  {name}: {_lengths(lengths, 'tokens')}")
    if fit.too_long or fit.cut:
        say(f"  {fit.too_long} questions fill the context, and {fit.cut} more leave no room for their reference")


def _lengths(lengths: Lengths, unit: str = "characters") -> str:
    return f"{lengths.median} {unit} (median), {lengths.p95} (95 %), {lengths.longest} (longest)"


def _say_reading(reading: FileReading) -> None:
    shapes = ", ".join(f"{name} ({count} rows)" for name, count in reading.shapes.items())
    say(f"read as {reading.format}" + (f"; {shapes}" if shapes else ""))
    say(f"  {reading.references} rows have a reference")
    for note, count in reading.notes.items():
        say(f"  {note}: {count} rows")
    for name, count in reading.ignored_fields.items():
        say(f"  {name!r} stands in {count} rows and is not read")
    for reason, count in reading.skipped.items():
        say(f"  left out, {reason}: {count}")
    if reading.mask:
        say(
            "  masked: " + (", ".join(f"{kind} {count}" for kind, count in sorted(reading.masked.items())) or "nothing")
        )
    for warning in reading.warnings:
        say(f"  {warning}")


@app.command()
def validate(
    file: Annotated[str, typer.Argument(help="a data file, or the id of an uploaded dataset")],
    maps: Maps = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Check a dataset as an upload would; a file that lies here needs no API. Exit code 1 when a line is bad."""
    verdict: FileVerdict
    if Path(file).is_file():
        verdict = local = check(Path(file), read_options(maps, skip_bad))
        bad, more = local.n_bad, ""
    elif file.startswith("file-"):
        with client(data) as api:
            verdict = api.ask(FileVerdict, "POST", FILES.path(file, "validate"))
        bad, more = len(verdict.errors.data), " or more" * verdict.errors.has_more  # the API stops reading there
    else:
        raise typer.BadParameter(f"there is no file {file}")
    emit(verdict, as_json, f"{verdict.n_rows} good rows, {bad} bad lines{more}")
    if not as_json:
        for error in verdict.errors.data[:SHOWN]:
            say(f"  line {error.line}: {error.message}")
        if bad > SHOWN:
            say(f"  and {bad - SHOWN} more")
        if verdict.reading:
            _say_reading(verdict.reading)
    if not verdict.valid:
        raise typer.Exit(1)


def check(path: Path, options: ReadOptions | None = None) -> LocalVerdict:
    """All lines are counted, the first bad ones named."""
    checked = dataset.check(_opened(path, options or ReadOptions()), None, SHOWN, MOST_ROWS, whole=True)
    return LocalVerdict(
        valid=checked.n_rows > 0 and not checked.errors,
        n_rows=checked.n_rows,
        n_bad=max(checked.n_bad, len(checked.errors)),
        errors=LineErrors(data=checked.errors, has_more=checked.n_bad > len(checked.errors)),
        ignored_fields=checked.reading.ignored_fields,
        reading=checked.reading,
    )


def _opened(path: Path, options: ReadOptions) -> DataFile:
    try:
        return DataFile.open(path, options)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


FileId = Annotated[str, typer.Argument(help="a dataset's id, as `meteor data list` shows it")]
VERSIONS: Columns[FileObject] = {
    "file": lambda file: file.id,
    "version": lambda file: file.version,
    "made from": lambda file: file.previous or "-",
    "rows": lambda file: file.n_rows,
    "splits": lambda file: ", ".join(f"{name} {count}" for name, count in (file.splits or {}).items()),
}
ROWS: Columns[DatasetRow] = {
    "row": lambda row: row.id,
    "split": lambda row: row.split,
    "question": lambda row: one_line(row.question),
    "reference": lambda row: one_line(row.reference or "-"),
}
CHANGES: Columns[RowChange] = {
    "change": lambda row: row.change,
    "row": lambda row: row.id,
    "before": lambda row: _row_words(row.before),
    "after": lambda row: _row_words(row.after),
}


@app.command()
def append(
    file: FileId,
    rows: Annotated[Path, typer.Argument(help="a data file with the new rows", exists=True, dir_okay=False)],
    maps: Maps = None,
    skip_bad: SkipBad = False,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Make a new version of a dataset with more rows. Rows that were there stay in their splits."""
    with client(data) as api:
        source = api.upload(rows, purpose="user_data", options=read_options(maps, skip_bad))
        try:
            made = api.ask(
                FileObject, "POST", FILES.path(file, "versions"), {"append_file": source.id}, timeout=UPLOAD_S
            )
        finally:
            api.delete(FILES, source.id)
    _say_version(made, as_json)


@app.command()
def edit(
    file: FileId,
    rows: Annotated[
        Path,
        typer.Argument(help="a data file; each row has the id of a row and what changes", exists=True, dir_okay=False),
    ],
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Make a new version of a dataset in which rows are corrected."""
    changes: list[JsonObject] = []
    for number, value in DataFile.open(rows).records():
        if isinstance(value, LineError):
            raise Refused(f"{rows}, line {number}: {value.message}")
        changes.append(value)
    with client(data) as api:
        made = _new_version(api, file, {"edit": [*changes]})
    _say_version(made, as_json)


@app.command()
def remove(
    file: FileId,
    rows: Annotated[list[str], typer.Argument(help="the ids of the rows")],
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Make a new version of a dataset without some rows."""
    with client(data) as api:
        made = _new_version(api, file, {"remove": [*rows]})
    _say_version(made, as_json)


@app.command()
def versions(
    file: FileId,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """The versions of a dataset, newest first."""
    query = {"limit": limit} | ({"after": after} if after else {})
    with client(data) as api:
        page = api.ask(Listed[FileObject], "GET", FILES.path(file, "versions"), params=query)
    emit_page(page, VERSIONS, as_json, f"meteor data versions {file}")


@app.command("rows")
def show_rows(
    file: FileId,
    split: Annotated[Split | None, typer.Option(help="only rows of this side")] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Show the rows of a dataset as jobs use them, each with its split."""
    named = {"split": split and split.value, "after": after}
    query = {"limit": limit} | {name: value for name, value in named.items() if value}
    with client(data) as api:
        page = api.ask(Listed[DatasetRow], "GET", FILES.path(file, "rows"), params=query, timeout=UPLOAD_S)
    again = f"meteor data rows {file}" + (f" --split {split.value}" if split else "")
    emit_page(page, ROWS, as_json, again)


@app.command()
def diff(
    file: FileId,
    against: Annotated[
        str | None, typer.Option(help="another dataset; else the version that this one was made from")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Show which rows differ between two versions of a dataset."""
    named = {"against": against, "after": after}
    query = {"limit": limit} | {name: value for name, value in named.items() if value}
    with client(data) as api:
        difference = api.ask(FileDiff, "GET", FILES.path(file, "diff"), params=query, timeout=UPLOAD_S)
    again = f"meteor data diff {file}" + (f" --against {against}" if against else "")
    if as_json:
        emit(difference, as_json)
        return
    say(
        f"{difference.removed} removed, {difference.changed} changed, {difference.added} added, {difference.unchanged} as before"
    )
    emit_page(Listed[RowChange].model_validate(difference.model_dump(exclude={"object"})), CHANGES, as_json, again)


def _new_version(api: ApiClient, file: str, change: JsonObject) -> FileObject:
    return api.ask(FileObject, "POST", FILES.path(file, "versions"), change, timeout=UPLOAD_S)


def _row_words(row: Question | None) -> str:
    return "" if row is None else one_line(f"{row.question} -> {row.reference or '-'}", 60)


def _say_version(made: FileObject, as_json: bool) -> None:
    emit(made, as_json, f"{made.id}: version {made.version}; {sentence(made)}")
    if made.reading and not as_json:
        _say_reading(made.reading)


noun = Noun(app, "meteor data", FILES, COLUMNS, "an id, as `meteor data list` shows it")
noun.add_list("The newest files.")
noun.add_show("One file: its rows by split, or what is wrong with it.", sentence)
noun.add_delete("Delete a file. Refused while a job needs it.")
