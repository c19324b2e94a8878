"""The process behind bounded.py: one grader, then a line of texts at a time. Run as `python -m shared.grading.child BYTES`.

To grade, a line is an answer and its reference; to compare, it is a text that is read, or two that are compared.
"""

import json
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from shared.contracts.grader_kinds import VerifyingGrader, VerifyingKind
from shared.grading.attempt import Stopped
from shared.grading.verify import grader

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


def main() -> None:
    work, spec, files = json.loads(sys.stdin.readline())
    reply = {"grade": grading, "compare": comparing}[work](
        TypeAdapter[VerifyingGrader](VerifyingKind).validate_python(spec),
        {name: Path(path) for name, path in files.items()},
    )
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(reply(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
