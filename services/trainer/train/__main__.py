"""`python -m services.trainer.train spec.json`: one training, search or other work for the device, then the end. Started by services.trainer."""

import sys
import traceback
from pathlib import Path
from typing import Any

from services.trainer.spec import Spec
from services.trainer.train import progress
from services.trainer.train.failures import as_error
from shared.contracts.steps import StepKind

LIGHT = (StepKind.GGUF, StepKind.PUSH)  # they load no model


def main() -> int:
    reporter = progress.Reporter(progress.take_stdout())
    try:
        spec = Spec.model_validate_json(Path(sys.argv[1]).read_bytes())
        reporter.done(work(spec.kind)(spec, reporter) if spec.kind in LIGHT else with_model(spec, reporter))
    except Exception as error:  # the supervisor decides; the traceback stays in the log
        traceback.print_exc()
        reporter.failed(as_error(error))
        return 1
    return 0


def with_model(spec: Spec, reporter: progress.Reporter) -> dict[str, Any]:
    """Under the limits that a model in this process has. Imported here: where memory is short, loading the libraries fails
    already."""
    from services.trainer.train import memory
    from services.trainer.train.model import use_cores

    use_cores(spec.threads)
    function = work(spec.kind)
    memory.limit(spec.memory_gb)
    try:
        return function(spec, reporter)
    finally:
        memory.lift()


def work(kind: StepKind):
    """The function for a kind. Imported when needed: TRL takes seconds that a search does not need."""
    if kind is StepKind.SFT:
        from services.trainer.train.sft import fine_tune as work
    elif kind is StepKind.DPO:
        from services.trainer.train.preference import prefer as work
    elif kind is StepKind.SCORE:
        from services.trainer.train.score import score as work
    elif kind is StepKind.MERGE:
        from services.trainer.train.merge import merge as work
    elif kind is StepKind.GGUF:
        from services.trainer.train.gguf import convert as work
    elif kind is StepKind.PUSH:
        from services.trainer.train.push import push as work
    else:
        from services.trainer.train.search import search as work
    return work


if __name__ == "__main__":
    sys.exit(main())
