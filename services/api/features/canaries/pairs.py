"""Two answers to one question, of the served version and of a copy for the canary, scored by the canary's grader."""

from services.api.context import ProjectContext
from services.api.features.canaries.recorder import CanaryRecorder
from services.api.features.graders import service as graders
from shared.contracts.errors import MeteorError
from shared.grading.attempt import Attempt, Graded
from shared.jobs.canary_store import Trial, UnitKey
from shared.platform.log import get_logger

log = get_logger(__name__)
OF_THE_ANSWER = ("", "slow", "crash")  # why a score is what it is: the answer's own doing


async def compare(
    context: ProjectContext,
    recorder: CanaryRecorder,
    trial: Trial,
    user: UnitKey,
    question: str,
    served: str | None,
    canary: str | None,
) -> None:
    """Counts the pair. Answers without a text (calls of tools), and those that the grader cannot grade, are counted as ungraded."""
    if trial.grader is None:
        return
    scores: list[float | None] = [None, None]
    if served is not None and canary is not None:
        attempts = [Attempt.of(answer, "", question) for answer in (served, canary)]
        try:
            found, _ = await graders.grade(context, trial.grader, attempts)
            scores = [_score(one) for one in found]
        except MeteorError as error:
            log.warning("a canary's answers were not graded", canary=trial.canary_id, error=error.message)
    recorder.pair(trial, user, scores[0], scores[1])


def _score(graded: Graded) -> float | None:
    return min(max(graded.score, 0.0), 1.0) if graded.why in OF_THE_ANSWER else None
