"""What schemathesis is told besides the document: ids that exist, and checks of our own. It loads this file by itself."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(os.environ["PROVE_KNOWN"])  # path parameter -> ids that exist
COUNTS = Path(os.environ["PROVE_COUNTS"])
# What of our inside must not stand in an answer: where files lie, how the database is asked, how Python fails.
INSIDE = re.compile(
    r"Traceback \(most recent|File \"[^\"]+\", line \d|sqlalchemy|sqlite3|psycopg|\bSELECT .+ FROM\b|\bINSERT INTO\b"
    r"|site-packages|/services/api/|\bpydantic_core\b|0x[0-9a-f]{8,}|" + re.escape(os.environ["PROVE_DATA"])
)
AWAY = {"gateway_unavailable", "engine_unavailable", "engine_timeout", "model_not_loaded", "not_ready"}
SLOW_S = 20.0
seen: Counter[str] = Counter()
last_written = 0.0


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Every second id is one that exists; which one follows from what was generated, so that a run can be repeated."""
    for name, value in (path_parameters or {}).items():
        choice = hash_of(str(value))
        if KNOWN.get(name) and choice % 2:
            path_parameters[name] = KNOWN[name][choice // 2 % len(KNOWN[name])]
    return path_parameters


@schemathesis.hook
def before_call(context, case, kwargs):
    """The stream of a job that has not ended goes on and on; those that were cancelled end theirs, and are asked for it."""
    if case.path.endswith("/events"):
        ended = case.path_parameters.get("job_id") in KNOWN["ended"]
        case.headers = {**(case.headers or {}), "Accept": "text/event-stream" if ended else "application/json"}


@schemathesis.hook
def map_query(context, query):
    """A long poll is slow because it was asked to be."""
    if isinstance((query or {}).get("wait"), int | float):
        query["wait"] = min(query["wait"], 0.1)
    return query


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
    found = INSIDE.search(response.content.decode("utf-8", "replace"))
    assert found is None, f"the answer tells of our inside: {found[0] if found else ''!r}"


@schemathesis.check
def refusals_have_our_form(context, response, case) -> None:
    assert response.headers.get("x-request-id"), "no x-request-id"
    if response.status_code >= 400:
        error = response.json().get("error", {})
        assert set(error) == {"message", "type", "param", "code"}, "not our error object"
        assert error["message"], "no message"
        assert len(response.content) < 16_384, "the refusal repeats what was sent at full length"


@schemathesis.check
def answers_soon(context, response, case) -> None:
    assert response.elapsed < SLOW_S, f"{response.elapsed:.1f} s"
