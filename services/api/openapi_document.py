"""The OpenAPI document: what FastAPI reads off the routes, put right where the wire is another.

FastAPI documents its own form of a refused request (422, `{"detail": ...}`); ours is OpenAI's error object, under the statuses
that a route really answers with. What every route has in common is added here, so that a route says only what is its own:
`responses=may_answer(409)`.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from shared.contracts.errors import TYPE_OF_STATUS, ErrorResponse
from shared.contracts.json_types import Json

METHODS = ("get", "put", "post", "patch", "delete")
ABOUT = (
    "METEOR teaches a small language model a domain of yours, in jobs that OpenAI's clients can post and follow. "
    "Objects, lists, errors and streams have OpenAI's shapes; fields of our own are added, none is changed. "
    "The examples were recorded from this program with simulated models: their shapes are real, their figures mean nothing."
)
TAGS = {
    "files": "Datasets: one JSON object a line.",
    "jobs": "Distillation jobs: post, follow and control them, and read their results.",
    "fine_tuning": "The same jobs under the names that OpenAI's clients use.",
    "evals": "Evals are sets of graders; their runs measure models.",
    "recipes": "Jobs that are made again, by new rows or by time.",
    "experiments": "Variants of one job, compared with one another.",
    "graders": "Checked, and tried on an answer.",
    "labels": "What people prefer; the judge is held against it.",
    "models": "The models that can be asked, and which version an alias serves.",
    "chat": "Asking a model.",
    "stored_chats": "Chats that were stored: read, judged by people, forgotten.",
    "completions": "Asking a model without the form of a conversation.",
    "imports": "Datasets out of other people's formats.",
    "exports": "Models to take away.",
    "webhooks": "Addresses that are told when something happens.",
    "keys": "API keys, and the projects that they belong to.",
    "providers": "The strong models, what each can do, and what was learned of it; the operator's.",
    "usage": "What calls to strong models have cost, and the budgets that they count against.",
    "system": "Processes, queues, and how calls to strong models end; the operator's.",
    "projects": "What belongs together and is seen by nobody else.",
    "audit": "Who did what.",
    "health": "For whoever watches over the processes. No key is asked for.",
}
WHEN = {
    400: ("InvalidRequest", "Something in the request is wrong; `param` names it."),
    401: ("NotAuthenticated", "No valid API key was sent."),
    402: ("BudgetExceeded", "The next call to a strong model might cost more than is left."),
    403: ("NotAllowed", "The key may not do this; or, without keys, the caller is not on this machine."),
    404: ("NotFound", "There is no such object in the caller's project."),
    409: ("Conflict", "The object is in a state that forbids this. Asking again does not help (`x-should-retry: false`)."),
    412: ("Changed", "The object is another than the one that `If-Match` names."),
    413: ("TooLarge", "The body is longer than the server takes."),
    416: ("NoSuchRange", "The range that was asked for is not in the file."),
    422: ("KeyUsedBefore", "The Idempotency-Key was used with another request."),
    429: ("TooMany", "A limit is reached; `retry-after` says when to ask again."),
    502: ("UpstreamFailed", "A server that was asked in turn gave no usable answer."),
    503: ("Unavailable", "A part is away or still starting; `retry-after` says when to ask again."),
    504: ("TooSlow", "The engine took the request and fell silent."),
}  # fmt: skip
RETRY_AFTER = {429, 503}
Responses = dict[int | str, Json]  # `responses=` of a route: status -> response object
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def may_answer(*statuses: int) -> Responses:
    """`responses=` of a route: errors of its own, beside those that every route of its kind has."""
    return {status: {"description": WHEN[status][1]} for status in statuses}


def operation_id(route: APIRoute) -> str:
    """The handler's name: short, and the same for as long as the handler is called so."""
    return f"fine_tuning_{route.name}" if _tells_openai_names(route.path) else route.name


def document(app: FastAPI) -> Json:
    """The document of an application made by `create_app`. It is made once; nothing in it depends on settings."""
    if app.openapi_schema is None:
        made = FastAPI.openapi(app)
        made["info"]["description"] = ABOUT
        used = {operation["tags"][0] for _, _, operation in operations(made)}
        for path, method, operation in operations(made):
            _put_right(path, method, operation)
            if _tells_openai_names(path):
                operation["tags"] = ["fine_tuning"]
                used.add("fine_tuning")
        _put_bounds_right(made["components"]["schemas"])
        for name, schema in made["components"]["schemas"].items():
            if (
                "-" in name
            ):  # ...-Input and ...-Output have one title, and generated clients would know one of them alone
                schema["title"] = name.replace("-", "")
        made["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
        _add_components(made)
        _add_examples(made)
    return app.openapi_schema or {}


def operations(made: Json) -> Iterable[tuple[str, str, Json]]:
    """(path, method, operation), in the order of the routes."""
    for path, item in made["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def _tells_openai_names(path: str) -> bool:
    return path.startswith("/v1/fine_tuning/")


def _put_right(path: str, method: str, operation: Json) -> None:
    own = operation["responses"]
    if own.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "").endswith(
        "/HTTPValidationError"
    ):  # fmt: skip
        del own["422"]
    for status in _common_errors(path, operation):
        own.setdefault(str(status), {})
    for status, answer in own.items():
        if int(status) >= 400 and "content" not in answer:
            own[status] = {"$ref": f"#/components/responses/{WHEN[int(status)][0]}"}
        else:
            answer.setdefault("headers", {})["x-request-id"] = {"$ref": "#/components/headers/RequestId"}
            if status == "201":
                answer["headers"]["location"] = {"$ref": "#/components/headers/Location"}
    operation["responses"] = {status: own[status] for status in sorted(own)}
    if path.startswith("/v1/"):
        operation["security"] = [{"bearer": []}]


def _common_errors(path: str, operation: Json) -> Iterable[int]:
    """What any route of this form may answer."""
    parameters = operation.get("parameters", [])
    if parameters or "requestBody" in operation:
        yield 400
    if path.startswith("/v1/"):
        yield from (401, 403, 429, 503)
    if any(parameter["in"] == "path" for parameter in parameters):
        yield 404
    if "requestBody" in operation:
        yield 413


def _put_bounds_right(part: Any) -> None:
    """Bounds of a number that a function of ours checks, too: pydantic calls them by Python's names, which say nothing in a JSON
    schema. And FastAPI makes floats of all."""
    if isinstance(part, list):
        for inner in part:
            _put_bounds_right(inner)
    if not isinstance(part, dict):
        return
    for inner in list(part.values()):
        _put_bounds_right(inner)
    if "anyOf" in part and isinstance(part.get("default"), dict):
        del part["default"]  # generators of clients drop a whole model for an object as default beside null
    for one in part["anyOf"] if isinstance(part.get("anyOf"), list) else ():
        if isinstance(one, dict) and isinstance(one.get("const"), str):
            one["enum"] = [one.pop("const")]  # the same; generated clients refuse the other forms beside a const
    for python, name in BOUNDS.items():
        bound = part.pop(python, None) if isinstance(part.get(python), int | float) else part.get(name)
        if isinstance(bound, int | float):  # else it is a property of that name
            part[name] = int(bound) if bound == int(bound) else bound


def _add_components(made: Json) -> None:
    parts = made["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(name, None)
    schema = ErrorResponse.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    parts["schemas"] |= schema.pop("$defs") | {"ErrorResponse": schema}
    parts["schemas"] = dict(sorted(parts["schemas"].items()))
    parts["headers"] = {
        "RequestId": _header("string", "The request's id: the caller's own, if it sent one, else one made for it."),
        "RetryAfter": _header("integer", "Seconds after which the request may be sent again."),
        "ShouldRetry": _header("string", "`false`: sending the same request again would fail in the same way."),
        "Location": _header("string", "Where the new object can be read."),
    }
    parts["responses"] = {name: _error(status, name, text) for status, (name, text) in WHEN.items()}
    parts["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key. Where none was ever made, the API answers this machine alone and asks for none.",
        }
    }


def _header(kind: str, text: str) -> Json:
    return {"description": text, "schema": {"type": kind}}


def _error(status: int, name: str, text: str) -> Json:
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    if status in RETRY_AFTER:
        headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
    content: Json = {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}
    example = recorded()["errors"].get(str(status))
    if example is not None:
        content["example"] = example
    kind = TYPE_OF_STATUS.get(status, "server_error")
    return {
        "description": f"{text} `type` is `{kind}`.",
        "headers": headers,
        "content": {"application/json": content},
    }


@lru_cache
def recorded() -> Json:
    """What `python -m tests.examples` recorded: {"calls": {operation id: {request, status, response}}, "errors": ...}"""
    return json.loads(files("services.api").joinpath("examples.json").read_text())


def _add_examples(made: Json) -> None:
    for _, _, operation in operations(made):
        example = recorded()["calls"].get(operation["operationId"])
        if example is None:
            continue
        if "request" in example:
            operation["requestBody"]["content"]["application/json"]["example"] = example["request"]
        content = operation["responses"][str(example["status"])]["content"]
        content[example["media_type"]]["example"] = example["response"]
