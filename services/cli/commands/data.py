"""`meteor data ...`: datasets out of what people have, looked at, uploaded, listed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import FILES, Refused, client
from services.cli.commands import imports
from services.cli.commands.imports import sentence
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import Columns
from services.cli.verbs import Noun
from shared.contracts.data import LineError, bounded_lines, parse_lines
from shared.contracts.views import FileObject, FileVerdict, LineErrors
from shared.platform.terminal import emit, say

app = typer.Typer(help="Make datasets, check them, upload them.", no_args_is_help=True)
app.add_typer(imports.app)
SHOWN = 20  # bad lines that `validate` prints
COLUMNS: Columns[FileObject] = {
    "file": lambda file: file.id,
    "name": lambda file: file.filename,
    "purpose": lambda file: file.purpose,
    "status": lambda file: file.status,
    "rows": lambda file: file.n_rows,
    "bytes": lambda file: file.bytes,
}


class LocalVerdict(FileVerdict):
    """As the API's /validate answers, with the number of all bad lines."""

    n_bad: int


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
        uploaded = api.upload(file, purpose=purpose)
    emit(uploaded, as_json, sentence(uploaded))
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
def validate(
    file: Annotated[str, typer.Argument(help="a dataset (JSONL), or the id of an uploaded one")],
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Check a dataset as an upload would; a file that lies here needs no API. Exit code 1 when a line is bad."""
    if Path(file).is_file():
        verdict: FileVerdict = check(Path(file))
        bad, more = verdict.n_bad, ""
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
        for name, count in verdict.ignored_fields.items():
            say(f"  {name!r} stands in {count} rows and is not read")
    if not verdict.valid:
        raise typer.Exit(1)


def check(path: Path) -> LocalVerdict:
    """All lines are counted, the first bad ones named."""
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
    return LocalVerdict(
        valid=good > 0 and not bad,
        n_rows=good,
        n_bad=bad,
        errors=LineErrors(object="list", data=errors, has_more=bad > len(errors)),
        ignored_fields=dict(ignored),
    )


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as file:
            yield bounded_lines(file)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


noun = Noun(app, "meteor data", FILES, COLUMNS, "an id, as `meteor data list` shows it")
noun.add_list("The newest files.")
noun.add_show("One file: its rows by split, or what is wrong with it.", sentence)
noun.add_delete("Delete a file. Refused while a job needs it.")
