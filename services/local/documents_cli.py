"""`meteor data import FOLDER`: documents go to the API as one zip, whose import is a job that a strong model works on."""

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from services.local.remote import Refused, ask
from shared.contracts.errors import UserError
from shared.importing.documents import DOCUMENT_BYTES, ENDINGS

ROUTE = "/v1/imports"
LOOK_S = 1.0
ENDED = ("succeeded", "failed", "cancelled")


def zip_folder(folder: Path, target: Path) -> int:
    """The Markdown and text files below a folder, by their relative names; returns how many. Links are not followed.

    Raises UserError when there is none, or one is too long.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.is_symlink())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in found:
            if path.stat().st_size > DOCUMENT_BYTES:
                raise UserError(f"{path} is longer than {DOCUMENT_BYTES} bytes; divide it", code="document_too_long")
            archive.write(path, path.relative_to(folder).as_posix())
    if not found:
        raise UserError(f"{folder} holds no {', '.join(ENDINGS)} files", code="source_not_found")
    return len(found)


def run_import(api: httpx.Client, console: Console | None, body: dict[str, Any]) -> dict[str, Any]:
    """Post an import and wait for its end; the import's object. console: told of every change, None: nobody is.

    Ctrl-C leaves it running. Raises Refused when it fails, is cancelled, or waits for somebody.
    """
    made = ask(api, "POST", ROUTE, json=body)
    told = ""
    while True:
        percent = (made.get("progress") or {}).get("percent") or 0
        line = f"{made['id']}  {made['status']}  {percent:.0f} %  {made['usage']['usd_spent']:.4f} USD"
        if console is not None and line != told:
            console.print(line, highlight=False, soft_wrap=True)
            told = line
        if made["status"] == "paused":
            raise Refused(f"{made['id']} waits: {made['status_reason']}; PATCH {ROUTE}/{made['id']} raises its budget")
        if made["status"] in ENDED:
            break
        time.sleep(LOOK_S)
        made = ask(api, "GET", f"{ROUTE}/{made['id']}")
    if made["status"] != "succeeded":
        raise Refused(f"{made['id']} {made['status']}: {(made['error'] or {}).get('message', '')}")
    return made


def fetch(api: httpx.Client, path: str, out: Path) -> None:
    """Download into a file, whole or not at all. Raises Refused."""
    part = out.with_name(out.name + ".part")
    try:
        with api.stream("GET", path) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                file.write(piece)
        os.replace(part, out)
    except httpx.HTTPError as error:
        raise Refused(f"{api.base_url}{path} could not be fetched: {error}") from error
    finally:
        part.unlink(missing_ok=True)
