"""The typed client of the API: answers are models of shared/contracts, errors carry the API's own words."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from shared.contracts.errors import UserError
from shared.contracts.file_reading import ReadOptions
from shared.contracts.jobs import JobObject
from shared.contracts.views import Deleted, FileObject, Listed
from shared.platform import run_state
from shared.platform.http_client import sync_client

UPLOAD_S = 3600
ELSEWHERE = ("METEOR_URL", "METEOR_API_URL")
PAUSED_EXIT = 3
Item = TypeVar("Item", bound=BaseModel)
JsonObject = dict[str, JsonValue]


class Refused(UserError):
    code = "refused"


class Waits(Refused):
    """What was waited for is paused; the command ends with PAUSED_EXIT."""

    code = "paused"


@dataclass(frozen=True)
class Resource(Generic[Item]):
    """A kind of object: its route and the models of one object and of a page."""

    route: str
    item: type[Item]
    page: type[Listed[Item]]

    def path(self, *parts: str) -> str:
        """/route/part/part, each part quoted."""
        return "/".join([self.route, *(quote(part, safe="") for part in parts)])


JOBS = Resource("/v1/distillation/jobs", JobObject, Listed[JobObject])
FILES = Resource("/v1/files", FileObject, Listed[FileObject])


def _form(options: ReadOptions | None) -> dict[str, str]:
    """The options that were given, as fields of a form."""
    given = options.model_dump(exclude_defaults=True) if options else {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


class ApiClient:
    """All methods raise Refused."""

    def __init__(self, http: httpx.Client):
        self.http = http

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        """request: as httpx takes it (json, files, params, timeout)."""
        try:
            answer = self.http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise Refused(f"{self.http.base_url} does not answer: {error}") from error
        if answer.is_error:
            raise Refused(error_text(answer))
        return answer

    def ask(self, model: type[Item], method: str, path: str, body: JsonObject | None = None, **request: Any) -> Item:
        """The answer as a model."""
        if body is not None:
            request["json"] = body
        return parsed(model, self.answer(method, path, **request))

    def page(self, of: Resource[Item], limit: int, after: str | None, **filters: str | None) -> Listed[Item]:
        """A page of a resource. filters: query parameters; None leaves one out."""
        return self.ask(of.page, "GET", of.route, params=query(limit, after, **filters))

    def get(self, of: Resource[Item], name: str) -> Item:
        return self.ask(of.item, "GET", of.path(name))

    def act(self, of: Resource[Item], name: str, verb: str, body: JsonObject | None = None) -> Item:
        """POST /route/name/verb: cancel, pause, resume, promote ..."""
        return self.ask(of.item, "POST", of.path(name, verb), body)

    def change(self, of: Resource[Item], name: str, body: JsonObject) -> Item:
        return self.ask(of.item, "PATCH", of.path(name), body)

    def delete(self, of: Resource[Item], name: str) -> Deleted:
        return self.ask(Deleted, "DELETE", of.path(name))

    def asks_no_key(self) -> bool:
        """Whether the API answers a caller without a key."""
        try:
            with sync_client(str(self.http.base_url), timeout=30) as without:
                return without.get("/v1/models").is_success
        except httpx.HTTPError as error:
            raise Refused(f"{self.http.base_url} does not answer: {error}") from error

    def job_id(self, job: str) -> str:
        """The id; `last` is the newest job's."""
        if job != "last":
            return job
        page = self.page(JOBS, 1, None)
        if not page.data:
            raise Refused("there is no job yet")
        return page.data[0].id

    def upload(
        self, path: Path, name: str | None = None, purpose: str = "fine-tune", options: ReadOptions | None = None
    ) -> FileObject:
        """Raises Refused, also for a file that cannot be read."""
        try:
            with path.open("rb") as file:
                parts = {"file": (name or path.name, file)}
                fields = {"purpose": purpose} | _form(options)
                return self.ask(FileObject, "POST", FILES.route, files=parts, data=fields, timeout=UPLOAD_S)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}") from error

    def download(self, path: str, out: Path) -> None:
        """Write a file, whole or not at all."""
        part = out.with_name(out.name + ".part")
        try:
            with self.http.stream("GET", path) as answer, part.open("wb") as file:
                if answer.is_error:
                    answer.read()
                    raise Refused(error_text(answer))
                for piece in answer.iter_bytes():
                    file.write(piece)
            os.replace(part, out)
        except httpx.HTTPError as error:
            raise Refused(f"{self.http.base_url}{path} could not be fetched: {error}") from error
        except OSError as error:
            raise Refused(f"{out} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)


def client(data: Path) -> ApiClient:
    """METEOR_URL names another API than the one that runs on the data folder; METEOR_API_KEY is its key."""
    url = elsewhere()
    key = api_key(None if url else data)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(30, read=60)
    return ApiClient(sync_client(url or run_state.api_url(data), headers, timeout=timeout))


def elsewhere() -> str | None:
    """The address of an API that is not the one of a data folder: METEOR_URL, which `meteor --url` sets."""
    return next((os.environ[name].rstrip("/") for name in ELSEWHERE if os.environ.get(name)), None)


def api_key(data: Path | None) -> str:
    """METEOR_API_KEY, else the first of the keys that a local API was given, else the internal token of the data folder.

    data: of the API that is asked; None for one elsewhere, which must never be shown the token. Empty: there is no key.
    """
    key = os.environ.get("METEOR_API_KEY") or os.environ.get("METEOR_API_KEYS", "").partition(",")[0].strip()
    if key or data is None:
        return key
    token = run_state.token_path(data)
    return os.environ.get("METEOR_INTERNAL_TOKEN") or (token.read_text().strip() if os.access(token, os.R_OK) else "")


def query(limit: int, after: str | None, **filters: str | None) -> dict[str, str | int]:
    return {name: value for name, value in ({"limit": limit, "after": after} | filters).items() if value is not None}


def parsed(model: type[Item], answer: httpx.Response) -> Item:
    """Raises Refused for an answer that this version cannot read."""
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise Refused(
            f"{answer.url.path}: the answer is not of this version: {problem_of(error)}; use the API's own version"
        ) from error


def problem_of(error: ValidationError) -> str:
    """The first problem: `place: what is wrong`."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def error_text(answer: httpx.Response) -> str:
    """An error's message, in the API's own words where it has some."""
    try:
        return answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"


def job_body(path: Path) -> JsonObject:
    """A job's body from a file. Raises Refused for what is no JSON object."""
    body = read_json(path)
    if not isinstance(body, dict):
        raise Refused(f"{path} is not a JSON object")
    return body


def read_json(path: Path) -> JsonValue:
    """Raises Refused for a file that cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from error
