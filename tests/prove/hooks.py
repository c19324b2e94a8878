"""What schemathesis is told besides the document: ids that exist, and checks of our own. It loads this file by itself."""

import itertools
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.contract.everything import AFTER

KNOWN: dict[str, list[str]] = json.loads(os.environ["PROVE_KNOWN"])  # path parameter -> ids that exist
COUNTS = Path(os.environ["PROVE_COUNTS"])
# What of our inside must not stand in an answer: where files lie, how the database is asked, how Python fails.
INSIDE = re.compile(
    r"Traceback \(most recent|File \"[^\"]+\", line \d|sqlalchemy|sqlite3|psycopg|\bSELECT .+ FROM\b|\bINSERT INTO\b"
    r"|site-packages|/services/api/|\bpydantic_core\b|0x[0-9a-f]{8,}|" + re.escape(os.environ["PROVE_DATA"])
)
AWAY = {"gateway_unavailable", "engine_unavailable", "engine_timeout", "model_not_loaded", "not_ready"}
SLOW_S = 20.0
TOO_LARGE = 413
# Fields of bodies, wherever they stand, and the `after` of lists: which of the known ids they name.
NAMES = {
    "training_file": "file_id", "validation_file": "file_id", "file": "file_id", "model": "model", "project": "project_id",
    "example": "example_id",
}  # fmt: skip
seen: Counter[str] = Counter()
last_written = 0.0
fresh = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    """The stream of a job that has not ended goes on and on; those that were cancelled end theirs, and are asked for it. What
    fits the document is led to objects that exist; a long poll is slow because it was asked to be."""
    headers, query = dict(case.headers or {}), dict(case.query or {})
    if (
        fits(case, ParameterLocation.PATH) and case.meta.phase.name != TestPhase.STATEFUL
    ):  # there links name what was made
        case.path_parameters = {
            name: known(name, value) if name in KNOWN else value for name, value in (case.path_parameters or {}).items()
        }
    if case.path.endswith("/events"):
        ended = (case.path_parameters or {}).get("job_id") in KNOWN["ended"]
        headers["Accept"] = "text/event-stream" if ended else "application/json"
    if re.fullmatch(r"\d+(\.\d+)?", str(query.get("wait"))):
        query["wait"] = min(float(query["wait"]), 0.1)
    if (
        fits(case, ParameterLocation.HEADER) and "Idempotency-Key" in headers
    ):  # most are new, else 422 would hide all else
        number = next(fresh)
        headers["Idempotency-Key"] = f"key-{number if number % 8 else number % 64}"
    if fits(case, ParameterLocation.QUERY) and "after" in query and case.path in AFTER:
        query["after"] = known(AFTER[case.path], query["after"])
    # schemathesis judges anew what is set, and cannot judge everything: only what is changed is
    if fits(case, ParameterLocation.BODY) and case.media_type == "application/json" and led(case.body) != case.body:
        case.body = led(case.body)
    case.headers, case.query = headers, query


def fits(case, location) -> bool:
    """Whether this part of the request was made to be as the document has it."""
    part = case.meta.components.get(location) if case.meta is not None else None
    return part is not None and part.mode.is_positive


def led(body):
    """A body whose names of other objects are those of some that exist, every second time."""
    if isinstance(body, dict):
        return {name: known(NAMES[name], value) if name in NAMES else led(value) for name, value in body.items()}
    return [led(part) for part in body] if isinstance(body, list) else body


def known(kind: str, value):
    """A text of the generated ones, or the id of something; which one follows from the text, so that a run can be repeated."""
    choice = hash_of(value) if isinstance(value, str) else 0
    return KNOWN[kind][choice // 2 % len(KNOWN[kind])] if choice % 2 else value


def hash_of(text: str) -> int:
    return sum(text.encode("utf-8", "replace"))


@schemathesis.check
def counted(context, response, case) -> None:
    """Not a check: how many requests there were, by status."""
    global last_written
    seen[str(response.status_code)] += 1
    if time.monotonic() - last_written > 0.5:
        COUNTS.write_text(json.dumps(seen))
        last_written = time.monotonic()


@schemathesis.check
def nothing_fails(context, response, case) -> None:
    """Never 500; 502 to 504 only where a part that is asked in turn is away, with the word for it and when to ask again."""
    if response.status_code < 500:
        return
    error = response.json().get("error", {})
    assert response.status_code in (502, 503, 504), f"status {response.status_code}"
    assert error.get("code") in AWAY, f"status {response.status_code} with code {error.get('code')}"
    assert response.status_code != 503 or "retry-after" in response.headers, "503 without retry-after"


@schemathesis.check
def nothing_leaks(context, response, case) -> None:
    match = INSIDE.search(response.content.decode("utf-8", "replace"))
    assert match is None, f"the answer tells of our inside: {match[0] if match else ''!r}"


@schemathesis.check
def refusals_have_our_form(context, response, case) -> None:
    assert response.headers.get("x-request-id"), "no x-request-id"
    if response.status_code >= 400:
        error = response.json().get("error", {})
        assert set(error) - {"errors"} == {"message", "type", "param", "code"}, "not our error object"
        assert error["message"], "no message"
        assert len(response.content) < 16_384, "the refusal repeats what was sent at full length"


@schemathesis.check
def what_is_malformed_is_rejected(context, response, case) -> None:
    """A .../check says with 200 what is wrong with a job; a body that is too large is refused as such, whatever else is wrong with it."""
    if not case.path.endswith("/check") and response.status_code != TOO_LARGE:
        negative_data_rejection(context, response, case)


@schemathesis.check
def answers_soon(context, response, case) -> None:
    assert response.elapsed < SLOW_S, f"{response.elapsed:.1f} s"
