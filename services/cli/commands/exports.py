"""`meteor models export` and `meteor exports`: files of a version, made by the API, fetched, checked and unpacked."""

import time
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from services.cli.client import ApiClient, JsonObject, Refused, Resource, Waits, client
from services.cli.downloads import download, unpack
from services.cli.options import DEFAULT_DATA, Data, Json
from services.cli.output import Columns, minute
from services.cli.verbs import Noun
from shared.contracts.exports import ExportFormat, ExportObject
from shared.contracts.views import Listed
from shared.platform.terminal import console, emit, say

app = typer.Typer(
    help="Exports: list, look at, fetch, pause, cancel; `meteor models export` makes one.", no_args_is_help=True
)
EXPORTS = Resource("/v1/exports", ExportObject, Listed[ExportObject])
COLUMNS: Columns[ExportObject] = {
    "export": lambda export: export.id,
    "model": lambda export: export.model,
    "formats": lambda export: " ".join(export.formats),
    "status": lambda export: export.status,
    "made": lambda export: minute(export.created_at),
    "why": lambda export: export.error.message if export.error else export.status_reason,
}
Out = Annotated[Path, typer.Option("--out", help="the folder that the files go into")]
ENDED = ("succeeded", "failed", "cancelled", "paused")
LOOK_S = 1.0


def export(
    model: Annotated[str, typer.Argument(help="an alias, alias@version, or a version's id")],
    form: Annotated[list[ExportFormat], typer.Option("--format", help="may be repeated")],
    out: Out = Path(),
    push: Annotated[str | None, typer.Option(help="also to this repository on a model hub: owner/name")] = None,
    public: Annotated[bool, typer.Option("--public", help="a new repository is public; else it is private")] = False,
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Make a version's files, compare them with what is served, and fetch them. Exit code 3 when the export waits."""
    body: JsonObject = {"formats": [name.value for name in form]}
    if push:
        body["push"] = {"repo": push, "private": not public}
    with client(data) as api:
        created = api.ask(ExportObject, "POST", f"/v1/models/{quote(model, safe='')}/export", body)
        if not as_json:
            say(f"{created.id}: {created.model}")
        fetch_files(api, created.id, out, as_json)


@app.command("fetch")
def fetch_export(
    export_id: Annotated[str, typer.Argument(help="an id, as `meteor exports list` shows it")],
    out: Out = Path(),
    as_json: Json = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Wait for an export's end and fetch its files."""
    with client(data) as api:
        fetch_files(api, export_id, out, as_json)


def fetch_files(api: ApiClient, export_id: str, out: Path, as_json: bool) -> None:
    """Wait for the end, show how the files compare, fetch them. Raises Refused where there are none, Waits."""
    export = until_ended(api, export_id)
    if export.status != "succeeded":
        reason = (export.error.message if export.error else export.status_reason) or ""
        raise (Waits if export.status == "paused" else Refused)(f"the export is {export.status}: {reason}")
    if not as_json:
        say(parity_of(export))
        if export.pushed:
            say(f"pushed to {export.pushed}")
    out.mkdir(parents=True, exist_ok=True)
    folders: list[str] = []
    for file in export.result or []:
        if file.format is None:  # card and manifest are in each archive
            continue
        folders.append(str(unpack(download(api, file, out), out)))
        if not as_json:
            say(folders[-1])
    if as_json:
        emit(export.model_dump(mode="json", exclude_unset=True) | {"folders": folders}, True)


def until_ended(api: ApiClient, export_id: str) -> ExportObject:
    """The export once it has ended or is paused."""
    with console.status("in the queue") as status:  # shows nothing where there is no terminal
        while (export := api.get(EXPORTS, export_id)).status not in ENDED:
            waits = f"; waits for {export.status_reason}" if export.status_reason else ""
            status.update(f"{export.status}: {export.progress.percent:.0f} %{waits}")
            time.sleep(LOOK_S)
    return export


def parity_of(export: ExportObject) -> str:
    parity = export.parity or {}
    merged, served = parity["merged"], parity["served"]
    return (
        f"{parity['prompts']} prompts: merged model and adapter agree on {merged['greedy_agreement']:.0%}, logits differ by "
        f"{merged['logit_difference_max']:.2g} at most; served model and adapter agree on {served['greedy_agreement']:.0%}"
    )


noun = Noun(app, "meteor exports", EXPORTS, COLUMNS, "an id, as `meteor exports list` shows it")
noun.add_list("The newest exports.")
noun.add_show("One export: its files, and how they compare with what is served.")
noun.add_act("cancel", "Stop an export.")
noun.add_act("pause", "Pause an export.")
noun.add_act("resume", "Continue a paused export.")
