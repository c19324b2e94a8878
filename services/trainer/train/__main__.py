"""`python -m services.trainer.train spec.json`: runs one step on the device and ends. Started by services.trainer."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from services.trainer.spec import Metrics, Spec
from services.trainer.train import processes, progress
from services.trainer.train.failures import as_error
from shared.contracts.steps import StepKind
from shared.platform.loading import loading
from shared.platform.process_guard import die_with_parent

WITHOUT_MODEL = (StepKind.GGUF, StepKind.PUSH)
Work = Callable[[Spec, progress.Reporter], Metrics]


def main() -> int:
    """One of several processes ends with torchrun, and reports only what went wrong where it is not the first."""
    out = progress.take_stdout()
    if processes.count() > 1:
        die_with_parent()
    reporter = progress.Reporter(out, only_failures=not processes.is_first())
    try:
        spec = Spec.model_validate_json(Path(sys.argv[1]).read_bytes())
        function = without_model if spec.kind in WITHOUT_MODEL else with_model
        reporter.done(function(spec, reporter))
    except Exception as error:  # the supervisor handles it; the traceback stays in the log
        traceback.print_exc()
        reporter.failed(as_error(error))
        if processes.count() > 1:  # at its end the interpreter may wait for the other processes, and they for this one
            sys.stderr.flush()
            os._exit(1)
        return 1
    return 0


def without_model(spec: Spec, reporter: progress.Reporter) -> Metrics:
    with loading():
        function = work(spec.kind)
    return function(spec, reporter)


def with_model(spec: Spec, reporter: progress.Reporter) -> Metrics:
    """Within the memory limit. Imported here, so that a lack of memory while loading the libraries is reported too."""
    with loading():
        from services.trainer.train import memory
        from services.trainer.train.model import use_cores, use_own_gpu

        function = work(spec.kind)
    use_cores(spec.threads, processes.count())
    use_own_gpu(processes.count())
    memory.limit(spec.memory_gb)
    try:
        return function(spec, reporter)
    finally:
        memory.lift()


def work(kind: StepKind) -> Work:
    """The function for a kind. Imported when needed: TRL takes seconds to load."""
    if kind is StepKind.SFT:
        from services.trainer.train.sft import fine_tune as work
    elif kind is StepKind.DPO:
        from services.trainer.train.dpo import dpo as work
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
