"""404 and 405: a path that no route has, and a method that its routes lack. The answer says what is offered instead."""

from collections.abc import Iterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from rapidfuzz import fuzz, process
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.contracts.errors import TYPE_OF_STATUS, ErrorBody
from shared.platform.http import error_response

# OpenAI's routes that this server lacks: the first part of the path below /v1 -> what there is instead.
NOT_OFFERED = {
    "uploads": "uploads in parts are not offered: POST /v1/files takes a whole file, however long its transfer lasts",
    "graders": "graders are not kept by themselves: GET /v1/graders lists the kinds, a job takes them in distillation.judge.grader and distillation.primary_metric, and POST /v1/fine_tuning/alpha/graders/run tries one",
    "embeddings": "embeddings are not offered: the served models write text, see POST /v1/chat/completions",
    "batches": "batches are not offered: send many requests to POST /v1/chat/completions at once",
    "moderations": "moderation is not offered",
    "images": "images are not offered: the served models write text",
    "videos": "videos are not offered: the served models write text",
    "audio": "speech is not offered: the served models read and write text",
    "realtime": "realtime sessions are not offered: POST /v1/chat/completions streams with `stream: true`",
    "assistants": "assistants are not offered: see POST /v1/chat/completions and POST /v1/responses",
    "threads": "threads are not offered: send the whole conversation to POST /v1/chat/completions",
    "conversations": "conversations are not stored: send the whole conversation to POST /v1/chat/completions",
    "vector_stores": "vector stores are not offered",
    "containers": "containers are not offered",
    "chatkit": "ChatKit is not offered: see POST /v1/chat/completions",
    "skills": "skills are not offered",
    "organization": "an organization is not kept: see /v1/projects, /v1/keys and /v1/audit",
    "messages": "Anthropic's API is not offered: see POST /v1/chat/completions",
    "engines": "engines are not offered: see GET /v1/models",
}
UNDER_FINE_TUNING = {
    "alpha": "graders are checked by POST /v1/fine_tuning/alpha/graders/validate, and tried by .../run",
    "checkpoints": "permissions of checkpoints are not offered: a version belongs to its project",
}
SHOWN = 3  # nearest routes
ALIKE = 60.0  # of 100, from which on a route is worth naming


async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Every HTTPException of Starlette and ours in OpenAI's shape, with what is offered where nothing fits."""
    app, path = request.app, request.url.path
    message, code = str(error.detail), "invalid_request"
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    methods = methods_of(app, path) if error.status_code in (404, 405) else []
    if error.status_code == 405:
        headers["allow"] = ", ".join(methods)
        message = f"{request.method} is not offered at {path[:200]}; its methods: {', '.join(methods)}"
        code = "method_not_allowed"
    elif error.status_code == 404:
        code = "not_found"
        if not methods:
            named = f" {request.method} {path[:200]}" if path.startswith("/v1/") else ""
            message = f"there is no such route{named}{_instead(app, path)}"
    elif isinstance(error.__cause__, RecursionError):
        message = "the body cannot be read: its lists and objects are nested too deeply"
    body = ErrorBody(message=message, type=TYPE_OF_STATUS.get(error.status_code, "server_error"), code=code)
    return error_response(body, error.status_code, headers)


def methods_of(app: FastAPI, path: str) -> list[str]:
    """All methods of the routes with this path; HEAD is answered wherever GET is."""
    scope = {"type": "http", "method": "", "path": path, "root_path": "", "headers": []}
    methods = {
        method for route in _routes(app) if route.matches(scope)[0] is not Match.NONE for method in route.methods
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _routes(app: FastAPI) -> Iterator[APIRoute]:
    yield from (route for route in app.routes if isinstance(route, APIRoute))


def _instead(app: FastAPI, path: str) -> str:
    parts = [part for part in path.split("/") if part]
    below = parts[1:] if parts[:1] == ["v1"] else parts
    told = NOT_OFFERED.get(below[0]) if below else None
    if below[:1] == ["fine_tuning"] and len(below) > 1:
        told = UNDER_FINE_TUNING.get(below[1])
    if told is not None:
        return f": {told}. GET /docs lists all routes"
    for mended, why in (
        ("/" + "/".join(parts), "without a slash at the end and double ones"),
        ("/v1/" + "/".join(parts), "a client's base URL ends with /v1"),
        ("/" + "/".join(parts[1:]), "a client's base URL ends with one /v1"),
    ):
        if mended not in (path, "/") and methods_of(app, mended):
            return f"; {mended[:200]} is offered ({why})"
    names = list(dict.fromkeys(route.path for route in _routes(app) if route.include_in_schema))
    same_end = [name for name in names if below and name.endswith("/" + "/".join(below))]
    alike = process.extract(path, names, scorer=fuzz.ratio, limit=SHOWN, score_cutoff=ALIKE)  # pyrefly: ignore[no-matching-overload]
    near = list(dict.fromkeys([*same_end, *(name for name, _, _ in alike)]))[:SHOWN]
    return f"; near it: {', '.join(near)}" if near else "; GET /docs lists all routes"
