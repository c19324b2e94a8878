"""What a worker and a step that runs on another machine tell each other: small objects below the step's checkpoints.

    checkpoints/<step>/run/<attempt>.owner  of the worker: which run has the step, and a count that grows while somebody follows it
    checkpoints/<step>/run/<run>.progress   of the run
    checkpoints/<step>/run/<run>.ended      of the run: its result or its error

Each attempt writes an owner of its own, and the newest attempt's counts. So an older attempt that writes late changes nothing, also on
storage without conditional writes.

Rows, models and results travel as artifacts. Whatever clears a step's checkpoints clears these, too. Raises ObjectsUnavailable.
"""

from dataclasses import dataclass

from services.trainer.spec import Failed
from shared.artifacts.objects import Objects
from shared.artifacts.opening import CHECKPOINTS, checkpoints_of_all
from shared.contracts.steps import Progress, StepKind, Wire
from shared.jobs.step_store import Claim
from shared.platform.settings import PlatformSettings

OWNER = ".owner"


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

    @property
    def is_final(self) -> bool:
        """Whether another run would end in the same way."""
        return self.failed is None or self.failed.family != "transient"


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
        """The newest attempt's."""
        while attempts := self._attempts():
            content = self._objects.get(self._key(f"{attempts[-1]}{OWNER}"))
            if content is not None:  # else it was removed after it was listed
                return Owner.model_validate_json(content)
        return None

    def own(self, owner: Owner) -> bool:
        """False where a newer attempt has the step; then nothing is written."""
        attempts = self._attempts()
        if attempts and attempts[-1] > owner.attempt:
            return False
        self._objects.put(self._key(f"{owner.attempt}{OWNER}"), owner.model_dump_json().encode())
        # A folder's listing may miss a file that is made meanwhile, so the one before it stays.
        self._objects.delete(self._key(f"{attempt}{OWNER}") for attempt in attempts[:-2])
        return True

    def _attempts(self) -> list[int]:
        """That have written an owner, in ascending order."""
        names = (item.key.rpartition("/")[2] for item in self._objects.list(f"{CHECKPOINTS}/{self.step_id}/run"))
        return sorted(int(name.removesuffix(OWNER)) for name in names if name.endswith(OWNER))

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
