"""What a worker and a step that runs on another machine tell each other: small objects below the step's checkpoints.

    checkpoints/<step>/run/owner         of the worker: which run has the step, and a count that grows while somebody follows it
    checkpoints/<step>/run/<run>.progress  of the run
    checkpoints/<step>/run/<run>.ended     of the run: its result or its error

Rows, models and results travel as artifacts. Whatever clears a step's checkpoints clears these, too. Raises ObjectsUnavailable.
"""

from dataclasses import dataclass

from services.trainer.spec import Failed
from shared.artifacts.objects import Objects
from shared.artifacts.opening import CHECKPOINTS, checkpoints_of_all
from shared.contracts.steps import Progress, StepKind, Wire
from shared.jobs.step_store import Claim
from shared.platform.settings import PlatformSettings


class Run(Wire):
    """One start of a step on another machine: what `python -m services.trainer.remote_step` is given. id: of the run."""

    id: str
    step_id: str
    job_id: str
    project_id: str
    key: str
    kind: StepKind
    input_hash: str
    attempt: int
    abandoned_after_s: float

    @property
    def claim(self) -> Claim:
        return Claim(self.step_id, self.job_id, self.project_id, self.key, self.kind, self.input_hash, self.attempt)


class Owner(Wire):
    """run: that may go on; None: none. attempt: of the worker that wrote this. beat: grows as long as a worker follows the run."""

    attempt: int
    run: str | None
    beat: int = 0


class Ended(Wire):
    """result: the content hash of a StepResult."""

    result: str | None = None
    failed: Failed | None = None


@dataclass(frozen=True)
class Runs:
    """The runs of one step."""

    settings: PlatformSettings
    step_id: str

    @property
    def _objects(self) -> Objects:
        return Objects(self.settings.artifacts_url)

    def _key(self, name: str) -> str:
        return f"{CHECKPOINTS}/{self.step_id}/run/{name}"

    def owner(self) -> Owner | None:
        content = self._objects.get(self._key("owner"))
        return None if content is None else Owner.model_validate_json(content)

    def own(self, owner: Owner) -> bool:
        """False where a newer attempt has the step; then nothing is written."""
        there = self.owner()
        if there is not None and there.attempt > owner.attempt:
            return False
        self._objects.put(self._key("owner"), owner.model_dump_json().encode())
        return True

    def progress(self, run: str) -> Progress | None:
        content = self._objects.get(self._key(f"{run}.progress"))
        return None if content is None else Progress.model_validate_json(content)

    def report(self, run: str, progress: Progress) -> None:
        self._objects.put(self._key(f"{run}.progress"), progress.model_dump_json().encode())

    def ended(self, run: str) -> Ended | None:
        content = self._objects.get(self._key(f"{run}.ended"))
        return None if content is None else Ended.model_validate_json(content)

    def end(self, run: str, ended: Ended) -> None:
        self._objects.put(self._key(f"{run}.ended"), ended.model_dump_json().encode())

    def clear(self) -> None:
        """With the step's checkpoints."""
        for remote in checkpoints_of_all(self.settings, self.step_id):
            remote.clear()
