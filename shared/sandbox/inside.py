"""The process that runs untrusted Python: `python -I inside.py`, started by outside.py and by nothing else.

One JSON line comes in: limits, the folder of its own, what may be read, the source. Then a line per call: the names and values
it is run with. Out goes a JSON line per call. Standard library only.
"""

import contextlib
import importlib.util
import io
import json
import os
import sys
import traceback
from pathlib import Path
from types import CodeType
from typing import Any, TextIO

MOST_WORDS = 2_000  # characters of an error that are told


def main() -> None:
    confine = _module("confine")
    begin = json.loads(sys.stdin.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.chdir(begin["own"])
    confine.limit(begin["memory"], begin["seconds"], begin["file_bytes"])
    confine.confine(begin["readable"], begin["own"])
    try:
        code = compile(begin["source"], "<source>", "exec")
    except Exception as error:  # whatever it is, it is the source's
        _say(answers, {"error": _words(error)})
        return
    _say(answers, {"ready": True})
    for line in lines:
        _say(answers, _run(code, json.loads(line)))


def _run(code: CodeType, call: dict[str, Any]) -> dict[str, Any]:
    """call: `values`, the names that the source finds; `function` and `arguments`, what is called of it then."""
    names: dict[str, Any] = {"__name__": "__main__", **call.get("values", {})}
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            exec(code, names)  # noqa: S102 the purpose of this file
            function = call.get("function")
            result = names[function](*call["arguments"]) if function else None
        return {"result": json.loads(json.dumps(result))}
    except MemoryError:
        return {"error": "it needs more memory than it may have"}
    except BaseException as error:  # SystemExit too
        return {"error": _words(error)}


def _words(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[:MOST_WORDS]


def _say(answers: TextIO, line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()


def _module(name: str) -> Any:
    """A file beside this one; the project's packages are out of reach here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
