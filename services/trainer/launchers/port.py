"""Where the work of a training step is done.

A `Launcher` does a step's work and returns its result: `local` in a guarded process beside the worker, `OnCluster` on another machine.
OnCluster knows a `Cluster` only: what starts a command somewhere, tells its state and ends it. Another scheduler (Slurm, a Kubernetes Job,
a cloud's training service) is a class with these methods and a line in `launchers/choose.py`. It has to start

    python -m services.trainer.remote_step RUN        (RUN: JSON of services.trainer.runs.Run)

on a machine that has METEOR's trainer, the students' folders (METEOR_STUDENT_PATH, METEOR_STUDENTS) and credentials for
METEOR_ARTIFACTS_URL. That process runs the same step as a worker would, with the same checkpoints, and tells the worker what became of it
through the object storage (services/trainer/runs.py).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from shared.contracts.errors import Postponed
from shared.contracts.steps import StepKind, StepRequest, StepResult
from shared.queue.step_task import StepContext

AGAIN_S = 15.0

# The kinds of steps that a launcher runs. Conversions, pushes and probes stay with the worker, which has the programs and the token for them.
COMPUTE = (StepKind.SFT, StepKind.DPO, StepKind.SEARCH, StepKind.SCORE, StepKind.MERGE)
TOGETHER = (StepKind.SFT, StepKind.DPO)  # several devices compute one step


class Launcher(Protocol):
    slots: int  # steps of these kinds at once

    def check(self) -> None:
        """At the worker's start, before it forks. Raises MeteorError with what to mend."""
        ...

    async def run(self, request: StepRequest, context: StepContext) -> StepResult:
        """Raises what the step's handler raises. When this is cancelled, the work has ended before it returns, unless
        context.moves_on()."""
        ...


class State(StrEnum):
    WAITING = "waiting"  # for a machine
    RUNNING = "running"
    ENDED = "ended"
    STOPPED = "stopped"
    NO_ROOM = "no room"  # it was given up before it began

    @property
    def is_over(self) -> bool:
        return self not in (State.WAITING, State.RUNNING)


class Status(NamedTuple):
    """message: the cluster's own words."""

    state: State
    message: str = ""


class Submission(NamedTuple):
    """id: unique in the cluster for ever."""

    id: str
    command: Sequence[str]
    environment: Mapping[str, str]
    devices: int


class ClusterAway(Postponed):
    """The cluster does not answer. What runs there runs on."""

    code = "cluster_unavailable"

    def __init__(self, message: str):
        super().__init__(message, again_in_s=AGAIN_S)


class Cluster(Protocol):
    """Every method may raise ClusterAway."""

    async def submitted(self, prefix: str) -> Mapping[str, Status]:
        """What was submitted under ids that begin so, as far as the cluster remembers."""
        ...

    async def submit(self, submission: Submission) -> None:
        """Does nothing where something was submitted under this id before: of two workers that submit a step, one does."""
        ...

    async def status(self, run: str) -> Status | None:
        """None: the cluster does not know it."""
        ...

    async def stop(self, run: str) -> None:
        """Ask it to end; it may have ended."""
        ...

    async def log(self, run: str) -> str: ...


class Clusters(Protocol):
    """How a step comes to its cluster: connections belong to the event loop that opened them."""

    def check(self) -> None: ...

    def open(self) -> AbstractAsyncContextManager[Cluster]: ...
