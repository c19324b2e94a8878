"""`meteor models export` and `meteor exports`: a version's files made by the API, fetched, checked and unpacked."""

import hashlib
import json
import tarfile
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from services.cli.client import DEFAULT_DATA, Data, Json, Refused, Waits, ask, client
from services.cli.output import DEFAULT_LIMIT, After, Columns, Limit, minute, page_of, show_page
from shared.contracts.errors import FatalError
from shared.contracts.exports import ExportFormat
from shared.platform.terminal import make_console

app = typer.Typer(
    help="Exports: list, look at, fetch, pause, cancel; `meteor models export` makes one.", no_args_is_help=True
)
console = make_console()
ROUTE = "/v1/exports"
COLUMNS: Columns = {
    "export": lambda export: export["id"],
    "model": lambda export: export["model"],
    "formats": lambda export: " ".join(export["formats"]),
    "status": lambda export: export["status"],
    "made": lambda export: minute(export["created_at"]),
    "why": lambda export: (export["error"] or {}).get("message") or export["status_reason"],
}
Export = Annotated[str, typer.Argument(help="an id, as `meteor exports list` shows it")]
Out = Annotated[Path, typer.Option("--out", help="the folder that the files go into")]
ENDS = ("succeeded", "failed", "cancelled", "paused")
LOOK_S = 1.0
TRIES = 5  # of one download, each going on where the last one broke off
CHUNK = 1 << 20


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
    body: dict[str, Any] = {"formats": [one.value for one in form]}
    if push:
        body["push"] = {"repo": push, "private": not public}
    with client(data) as api:
        made = ask(api, "POST", f"/v1/models/{quote(model, safe='')}/export", json=body)
        if not as_json:
            console.print(f"{made['id']}: {made['model']}", highlight=False)
        _take(api, made["id"], out, as_json)


@app.command("list")
def list_exports(
    limit: Limit = DEFAULT_LIMIT, after: After = None, as_json: Json = False, data: Data = DEFAULT_DATA
) -> None:
    """The newest exports."""
    with client(data) as api:
        page = page_of(api, ROUTE, limit, after)
    show_page(console, page, COLUMNS, as_json, "meteor exports list")


@app.command()
def show(export_id: Export, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """One export: its files, and how they compare with what is served."""
    with client(data) as api:
        found = ask(api, "GET", _route(export_id))
    print(json.dumps(found)) if as_json else console.print_json(json.dumps(found))


@app.command("fetch")
def fetch_export(export_id: Export, out: Out = Path(), as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Wait for an export's end and fetch its files."""
    with client(data) as api:
        _take(api, export_id, out, as_json)


@app.command()
def cancel(export_id: Export, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Stop an export."""
    _tell_status(export_id, "cancel", as_json, data)


@app.command()
def pause(export_id: Export, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Let an export rest."""
    _tell_status(export_id, "pause", as_json, data)


@app.command()
def resume(export_id: Export, as_json: Json = False, data: Data = DEFAULT_DATA) -> None:
    """Let a paused export go on."""
    _tell_status(export_id, "resume", as_json, data)


def _tell_status(export_id: str, move: str, as_json: bool, data: Path) -> None:
    with client(data) as api:
        found = ask(api, "POST", f"{_route(export_id)}/{move}")
    print(json.dumps(found) if as_json else found["status"])


def _route(export_id: str) -> str:
    return f"{ROUTE}/{quote(export_id, safe='')}"


def _take(api: httpx.Client, export_id: str, out: Path, as_json: bool) -> None:
    """Wait for the end, then tell how the files compare and fetch them. Raises Refused where there are none, Waits."""
    made = _until_ended(api, export_id)
    if made["status"] != "succeeded":
        reason = (made["error"] or {}).get("message") or made["status_reason"] or ""
        kind = Waits if made["status"] == "paused" else Refused
        raise kind(f"the export is {made['status']}: {reason}")
    if not as_json:
        _show_parity(made["parity"])
    if made["pushed"] and not as_json:
        console.print(f"pushed to {made['pushed']}", highlight=False, soft_wrap=True)
    out.mkdir(parents=True, exist_ok=True)
    wanted = [file for file in made["result"] if file["format"] is not None]  # card and manifest lie in each archive
    folders: list[str] = []
    for file in wanted:
        folders.append(str(_unpacked(fetch(api, file, out), out)))
        if not as_json:
            console.print(folders[-1], highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(made | {"folders": folders}))


def _until_ended(api: httpx.Client, export_id: str) -> dict[str, Any]:
    """The export once it has ended or rests."""
    with console.status("in the queue") as status:  # shows nothing where there is no terminal
        while True:
            found = ask(api, "GET", _route(export_id))
            if found["status"] in ENDS:
                return found
            waits = f"; waits for {found['status_reason']}" if found["status_reason"] else ""
            status.update(f"{found['status']}: {found['progress']['percent']:.0f} %{waits}")
            time.sleep(LOOK_S)


def _show_parity(found: dict[str, Any]) -> None:
    merged, served = found["merged"], found["served"]
    console.print(
        f"{found['prompts']} prompts: merged model and adapter agree on {merged['greedy_agreement']:.0%}, logits differ by "
        f"{merged['logit_difference_max']:.2g} at most; served model and adapter agree on {served['greedy_agreement']:.0%}",
        highlight=False,
        soft_wrap=True,
    )


def fetch(api: httpx.Client, file: dict[str, Any], out: Path) -> Path:
    """One download into `out`. What a broken connection left is gone on from. Raises FatalError when the hash is another."""
    part = out / f".{file['sha256'][:16]}-{file['name']}.part"
    columns = (TextColumn(file["name"]), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=file["bytes"])
        for attempt in range(1, TRIES + 1):
            try:
                _go_on(api, file, part, lambda done: progress.update(bar, completed=done))
                break
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise Refused(f"{file['name']} cannot be fetched: {error}") from error
                time.sleep(LOOK_S)
    with part.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    if digest != file["sha256"]:
        part.unlink()
        raise FatalError(f"{file['name']} came with SHA-256 {digest} and not {file['sha256']}; fetch it again")
    return part


def _go_on(api: httpx.Client, file: dict[str, Any], part: Path, tell: Any) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= file["bytes"]:
        return
    headers = {"range": f"bytes={have}-", "if-range": f'"{file["sha256"]}"'}
    with api.stream("GET", file["url"], headers=headers) as answer:
        if answer.is_error:
            answer.read()
            raise Refused(f"{file['name']}: {answer.status_code} {answer.text[:300]}")
        with part.open("ab" if answer.status_code == 206 else "wb") as target:
            for chunk in answer.iter_bytes(CHUNK):
                target.write(chunk)
                tell(target.tell())


def _unpacked(archive: Path, out: Path) -> Path:
    """The folder in it, laid into `out`; the archive goes."""
    with tarfile.open(archive) as tar:
        tar.extractall(out, filter="data")
        top = tar.getnames()[0].partition("/")[0]
    archive.unlink()
    return out / top
