"""The process behind bounded.py: one grader, then one answer and its reference a line. Run as `python -m shared.grading.child BYTES`."""

import json
import resource
import sys
from pathlib import Path

from pydantic import TypeAdapter

from shared.contracts.grader_kinds import VerifyingGrader, VerifyingKind
from shared.grading.verify import grader


def main() -> None:
    spec, files = json.loads(sys.stdin.readline())
    score = grader(
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
        answer, reference = json.loads(line)
        try:
            graded = [score(answer, reference), ""]
        except ValueError:
            graded = [0.0, "reference"]
        except MemoryError:
            graded = [0.0, "crash"]
        sys.stdout.write(json.dumps(graded) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
