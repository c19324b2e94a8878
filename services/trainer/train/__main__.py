"""`python -m services.trainer.train spec.json`: one training or search, then the end. Started by services.trainer."""

import sys
import traceback
from pathlib import Path

from services.trainer.spec import Spec
from services.trainer.train import progress
from services.trainer.train.failures import as_error
from shared.contracts.steps import StepKind


def main() -> int:
    reporter = progress.Reporter(progress.take_stdout())
    try:
        # imported here: where memory is short, loading the libraries fails already
        from services.trainer.train import memory
        from services.trainer.train.model import use_cores

        spec = Spec.model_validate_json(Path(sys.argv[1]).read_bytes())
        use_cores(spec.threads)
        function = work(spec.kind)
        memory.limit(spec.memory_gb)
        try:
            figures = function(spec, reporter)
        finally:
            memory.lift()
        reporter.done(figures)
    except Exception as error:  # the supervisor decides; the traceback stays in the log
        traceback.print_exc()
        reporter.failed(as_error(error))
        return 1
    return 0


def work(kind: StepKind):
    """The function for a kind. Imported when needed: TRL takes seconds that a search does not need."""
    if kind is StepKind.SFT:
        from services.trainer.train.sft import fine_tune as work
    elif kind is StepKind.PREFER:
        from services.trainer.train.preference import prefer as work
    elif kind is StepKind.SCORE:
        from services.trainer.train.score import score as work
    else:
        from services.trainer.train.search import search as work
    return work


if __name__ == "__main__":
    sys.exit(main())
