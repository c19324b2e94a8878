"""`meteor data import FOLDER`: documents go to the API as one zip, whose import is a job that a strong model works on."""

import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from services.cli.client import Refused, Waits, ask
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


def until_ended(api: httpx.Client, console: Console | None, made: dict[str, Any]) -> dict[str, Any]:
    """Wait for an import's end; the import's object. console: told of every change, None: nobody is.

    Ctrl-C leaves it running. Raises Refused when it fails or is cancelled, Waits when it rests until somebody does something.
    """
    told = ""
    while True:
        percent = (made.get("progress") or {}).get("percent") or 0
        line = f"{made['id']}  {made['status']}  {percent:.0f} %  {made['usage']['usd_spent']:.4f} USD"
        if console is not None and line != told:
            console.print(line, highlight=False, soft_wrap=True)
            told = line
        if made["status"] == "paused":
            go_on = f"`meteor data raise {made['id']} --usd ...` or `meteor data resume {made['id']}` goes on"
            raise Waits(f"{made['id']} waits: {made['status_reason']}; {go_on}")
        if made["status"] in ENDED:
            break
        time.sleep(LOOK_S)
        made = ask(api, "GET", f"{ROUTE}/{made['id']}")
    if made["status"] != "succeeded":
        raise Refused(f"{made['id']} {made['status']}: {(made['error'] or {}).get('message', '')}")
    return made
