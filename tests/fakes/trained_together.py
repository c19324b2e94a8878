"""One of several processes that torchrun started: `-m tests.fakes.trained_together SPEC OTHER...`.

SPEC runs as the trainer's process runs it, in the first process on a device of little memory. OTHERs follow, so that one start tests several
trainings; each ends in the middle once, and goes on from its checkpoint. Their figures are written beside their output.
"""

import json
import sys
from pathlib import Path
from typing import Any

from services.trainer.spec import Spec
from services.trainer.train import __main__ as process
from services.trainer.train.processes import rank
from shared.platform.loading import loading

with loading():  # torch and transformers come along
    from tests.fakes.little_memory import a_device_of

STOPPED_AT, MOST = 3, 40  # optimiser steps; tokens of a pass: those of a row, not of two


class Interrupted(Exception):
    """As if all processes were killed."""


class Reports:
    """Of a training that is to be interrupted after so many steps; 0: never."""

    def __init__(self, stop: int):
        self.stop = stop

    def tick(self, done: int, total: int, eta_s: float | None = None, **metrics: float) -> None:
        if done == self.stop:
            raise Interrupted


def interrupted_once(spec: Spec) -> dict[str, Any]:
    reports: Any = Reports(STOPPED_AT)
    try:
        process.work(spec.kind)(spec, reports)
    except Interrupted:
        reports.stop = 0
    else:
        raise AssertionError("it came to its end before it was interrupted")
    return process.work(spec.kind)(spec, reports)


def main() -> int:
    others = [Spec.model_validate_json(Path(path).read_bytes()) for path in sys.argv[2:]]
    if rank() == 0:
        with a_device_of(MOST) as refused:
            code = process.main()
        assert refused, "memory never ran out"
    else:
        code = process.main()
    for spec in others:
        figures = interrupted_once(spec)
        if rank() == 0:
            (spec.output / "figures.json").write_text(json.dumps(figures))
    return code


if __name__ == "__main__":
    sys.exit(main())
