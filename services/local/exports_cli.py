"""`meteor models export`: a version's files made by the API, fetched, checked and unpacked."""

import hashlib
import tarfile
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from services.local.progress import make_console
from services.local.remote import Data, Refused, ask, client
from shared.contracts.errors import FatalError
from shared.contracts.exports import ExportFormat

console = make_console()
ENDS = ("succeeded", "failed", "cancelled", "paused")
LOOK_S = 1.0
TRIES = 5  # of one download, each going on where the last one broke off
CHUNK = 1 << 20


def export(
    model: Annotated[str, typer.Argument(help="an alias, alias@version, or a version's id")],
    form: Annotated[list[ExportFormat], typer.Option("--format", help="may be repeated")],
    out: Annotated[Path, typer.Option("--out", help="the folder that the files go into")] = Path(),
    push: Annotated[str | None, typer.Option(help="also to this repository on a model hub: owner/name")] = None,
    public: Annotated[bool, typer.Option("--public", help="a new repository is public; else it is private")] = False,
    data: Data = Path(".meteor"),
) -> None:
    """Make a version's files, compare them with what is served, and fetch them."""
    body: dict[str, Any] = {"formats": [one.value for one in form]}
    if push:
        body["push"] = {"repo": push, "private": not public}
    with client(data) as api:
        made = ask(api, "POST", f"/v1/models/{quote(model, safe='')}/export", json=body)
        console.print(f"{made['id']}: {made['model']}", highlight=False)
        made = _until_ended(api, made["id"])
        if made["status"] != "succeeded":
            reason = (made["error"] or {}).get("message") or made["status_reason"] or ""
            raise Refused(f"the export is {made['status']}: {reason}")
        _show_parity(made["parity"])
        if made["pushed"]:
            console.print(f"pushed to {made['pushed']}", highlight=False, soft_wrap=True)
        out.mkdir(parents=True, exist_ok=True)
        for file in made["result"]:
            if file["format"] is not None:  # the card and the manifest lie in each archive
                console.print(str(_unpacked(fetch(api, file, out), out)), highlight=False, soft_wrap=True)


def _until_ended(api: httpx.Client, export_id: str) -> dict[str, Any]:
    with console.status("in the queue") as status:
        while True:
            found = ask(api, "GET", f"/v1/exports/{export_id}")
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
