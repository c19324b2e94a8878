"""The API as the commands see it: here or on another machine, with the caller's key, errors in the API's own words."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from shared.contracts.errors import UserError
from shared.platform import run_state

ROUTE = "/v1/distillation/jobs"
FILES = "/v1/files"
UPLOAD_S = 3600
ELSEWHERE = ("METEOR_URL", "METEOR_API_URL")
Data = Annotated[Path, typer.Option(envvar="METEOR_DATA", help="the data folder of the run")]
DEFAULT_DATA = Path(".meteor")
Json = Annotated[bool, typer.Option("--json", help="the API's answer, for scripts")]


PAUSED_EXIT = 3


class Refused(UserError):
    code = "refused"


class Waits(Refused):
    """Something rests until somebody says that it goes on; the command ends with PAUSED_EXIT."""

    code = "paused"


def elsewhere() -> str | None:
    """The address of an API that is not the one of a data folder: METEOR_URL, which `meteor --url` sets."""
    return next((os.environ[name].rstrip("/") for name in ELSEWHERE if os.environ.get(name)), None)


def client(data: Path) -> httpx.Client:
    """METEOR_URL names another API than the one that runs on the data folder; METEOR_API_KEY is its key."""
    url = elsewhere()
    key = api_key(None if url else data)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url or run_state.api_url(data), headers=headers, timeout=httpx.Timeout(30, read=60))


def api_key(data: Path | None) -> str:
    """METEOR_API_KEY, else the first of the keys that a local api was given, else the internal token of the data folder.

    data: of the API that is asked; None for one elsewhere, which must never be shown the token. Empty: nothing was found.
    """
    given = os.environ.get("METEOR_API_KEY") or os.environ.get("METEOR_API_KEYS", "").partition(",")[0].strip()
    if given or data is None:
        return given
    token = run_state.token_path(data)
    return os.environ.get("METEOR_INTERNAL_TOKEN") or (token.read_text().strip() if os.access(token, os.R_OK) else "")


def ask(api: httpx.Client, method: str, path: str, **body: Any) -> Any:
    """body: as httpx takes it (json, files, data). Raises Refused with the API's own words."""
    return answer_of(api, method, path, **body).json()


def answer_of(api: httpx.Client, method: str, path: str, **body: Any) -> httpx.Response:
    """The whole answer, where it is not JSON. Raises Refused."""
    try:
        answer = api.request(method, path, **body)
    except httpx.HTTPError as error:
        raise Refused(f"{api.base_url} does not answer: {error}") from error
    if answer.is_error:
        raise Refused(words(answer))
    return answer


def words(answer: httpx.Response) -> str:
    """An error's message, in the API's own words where it has some."""
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"


def upload(api: httpx.Client, path: Path, name: str | None = None, purpose: str = "fine-tune") -> dict[str, Any]:
    """The API's file object. Raises Refused, also for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            parts = {"file": (name or path.name, file)}
            return ask(api, "POST", FILES, files=parts, data={"purpose": purpose}, timeout=UPLOAD_S)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error


def body_of(job: Path) -> dict[str, Any]:
    """A job's body from a file. Raises Refused for what is no JSON object."""
    found = json_of(job)
    if not isinstance(found, dict):
        raise Refused(f"{job} is not a JSON object")
    return found


def json_of(path: Path) -> Any:
    """Raises Refused for a file that cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from error


def fetch(api: httpx.Client, path: str, out: Path) -> None:
    """Download into a file, whole or not at all. Raises Refused."""
    part = out.with_name(out.name + ".part")
    try:
        with api.stream("GET", path) as answer, part.open("wb") as file:
            if answer.is_error:
                answer.read()
                raise Refused(words(answer))
            for piece in answer.iter_bytes():
                file.write(piece)
        os.replace(part, out)
    except httpx.HTTPError as error:
        raise Refused(f"{api.base_url}{path} could not be fetched: {error}") from error
    except OSError as error:
        raise Refused(f"{out} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def the_job(api: httpx.Client, job: str) -> str:
    """The id; `last` is the newest job's. Raises Refused when there is none."""
    if job != "last":
        return job
    page = ask(api, "GET", f"{ROUTE}?limit=1")
    if not page["data"]:
        raise Refused("there is no job yet")
    return page["data"][0]["id"]
