"""Work in a process of its own, so that a service goes on answering and its memory stays small."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from shared.contracts.errors import MeteorError, TransientError
from shared.platform.loading import loading_a_service

P = ParamSpec("P")
T = TypeVar("T")
AT_ONCE = threading.BoundedSemaphore(2)  # such processes of one service
NICE = 10  # the service itself comes first


class AsideEnded(TransientError):
    code = "aside_ended"


def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns or raises, in another process; blocks. Function, arguments and result must be picklable.

    Raises AsideEnded if the process is killed."""
    task = pickle.dumps((work, args, kwargs))
    with AT_ONCE:
        argv = [sys.executable, "-m", __name__]
        done = subprocess.run(argv, input=task, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise AsideEnded(f"the process for this work ended with code {done.returncode}; try again")
    result, error = pickle.loads(done.stdout)  # noqa: S301  from our own process
    if error is not None:
        raise error
    return result


def main() -> None:
    """Reads a pickled task from standard input, writes what came of it to standard output."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the work prints is no answer
    os.nice(NICE)
    if hasattr(os, "SCHED_BATCH"):  # Linux: it takes no turn from the service when it wakes
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with loading_a_service():
        work, args, kwargs = pickle.loads(sys.stdin.buffer.read())  # noqa: S301  from our own process
    outcome: tuple[Any, MeteorError | None]
    try:
        outcome = work(*args, **kwargs), None
    except MeteorError as error:
        outcome = None, error
    with os.fdopen(answers, "wb") as out:
        out.write(pickle.dumps(outcome))


if __name__ == "__main__":
    main()
