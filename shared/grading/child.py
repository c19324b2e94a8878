"""The process behind bounded.py: one grader, then a line of texts at a time. Run as `python -m shared.grading.child BYTES`.

To grade, a line is an answer and its reference; to compare, it is a text that is read, or two that are compared. The first answer is READY,
or a JSON string that says why the grader is not fit.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from shared.platform.loading import loading

with loading():
    from pydantic import TypeAdapter

    from shared.contracts.grader_kinds import VerifyingGrader, VerifyingKind
    from shared.grading.attempt import Stopped
    from shared.grading.plugins import PluginFailed, PluginUnfit
    from shared.grading.verify import grader

READY = None  # the first answer of a process whose grader is fit
KEPT = 256  # texts that were read, so that each is read once however often it is compared
Reply = Callable[[Sequence[str]], Any]


def grading(spec: VerifyingGrader, files: Mapping[str, Path]) -> Reply:
    score = grader(spec, files)

    def reply(texts: Sequence[str]) -> list[float | str]:
        answer, reference = texts
        try:
            return [score(answer, reference), ""]
        except Stopped as stopped:
            return [0.0, stopped.why, str(stopped)]
        except PluginFailed as failed:
            return [0.0, "error", str(failed)]
        except ValueError:
            return [0.0, "reference"]
        except MemoryError:
            return [0.0, "crash"]

    return reply


def comparing(spec: VerifyingGrader, files: Mapping[str, Path]) -> Reply:
    from shared.grading import equality  # here: it takes longer to load than most answers to grade

    read_anew, same = equality.of(spec, files)
    read = lru_cache(KEPT)(read_anew)

    def reply(texts: Sequence[str]) -> list[str | None] | bool | None:
        try:
            said = [read(text) for text in texts]
            if len(said) == 1:
                return [said[0] if same is None else None]
            return same(*said) if same else said[0] == said[1]
        except (ValueError, RecursionError, MemoryError):
            return None if len(texts) == 1 else False

    return reply


def own_lines() -> tuple[TextIO, TextIO]:
    """What is read and written by line. A plugin's code that reads or prints gets neither."""
    asked, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    to_nothing(0, 1)
    return asked, replies


def to_nothing(*descriptors: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)


def main() -> None:
    asked, replies = own_lines()

    def say(value: Any) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    work, spec, files = json.loads(asked.readline())
    try:
        reply = {"grade": grading, "compare": comparing}[work](
            TypeAdapter[VerifyingGrader](VerifyingKind).validate_python(spec),
            {name: Path(path) for name, path in files.items()},
        )
    except PluginUnfit as unfit:
        say(str(unfit))
        return
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if spec["type"] == "plugin":
        to_nothing(2)  # where that is a file, no print to it would succeed within the limits
    say(READY)
    for line in asked:
        say(reply(json.loads(line)))


if __name__ == "__main__":
    main()
