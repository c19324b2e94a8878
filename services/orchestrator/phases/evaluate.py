"""Measuring students: on dev for every decision, on test for the report and nothing else.

All students answer the bare question through one prompt and are graded on the answer alone, rationale apart.
"""

from collections.abc import Callable, Sequence

from services.orchestrator.preferred import preferred_over_base
from services.orchestrator.results import Candidate, Measured
from services.orchestrator.run import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Grader
from shared.contracts.rows import TOO_LONG, Grades, JudgeInput, StudentCompletion, StudentPrompt
from shared.contracts.steps import JudgeParams, ModelRef, Sampling, StepKind
from shared.evaluation.statistics import decide

Shots = Callable[[Question], list[tuple[str, str]]]  # the worked examples that stand before a question


async def measure(run: Run, name: str, split: Split, model: ModelRef, shots: Shots | None = None) -> Measured:
    """Greedy answers to the split's questions with references, graded; without any, held against the base's by the judge."""
    graders = [] if run.judge_measures else [run.spec.primary_metric, *run.spec.evaluation.graders]
    asked = run.measured(split)
    found = await ask_all(run, f"{split.value}/{name}", asked, model, graders, run.spec.answer_tokens, shots)
    return await preferred_over_base(run, split, found) if run.judge_measures else found


async def ask_all(
    run: Run,
    name: str,
    questions: Sequence[Question],
    model: ModelRef,
    graders: Sequence[Grader],
    max_tokens: int,
    shots: Shots | None = None,
) -> Measured:
    """Greedy answers of `model` to questions, graded where there are graders. name: its last part is the measurement's."""
    sampling = Sampling(max_tokens=max_tokens, seed=run.seed)
    grading = JudgeParams(judge=run.spec.judge.provider, domain=run.spec.domain, sampling=sampling)

    async def one(index: int, batch: Sequence[Question]) -> list[tuple[StudentCompletion, Grades]]:
        key = f"evaluate/{name}"
        rows = [StudentPrompt(id=q.id, question=q.text, shots=shots(q) if shots else []) for q in batch]
        answered = await run.step(f"{key}/answers/{index}", StepKind.ANSWER, run.asking(sampling, model), rows)
        attempts = [StudentCompletion(**row) for row in answered.rows]
        if not graders:
            return [(attempt, Grades(id=attempt.id, scores={})) for attempt in attempts]
        judged = [
            JudgeInput(id=a.id, question=q.text, answer=a.answer, reference=q.reference)
            for q, a in zip(batch, attempts, strict=True)
        ]
        graded = await run.step(f"{key}/grades/{index}", StepKind.GRADE, grading, judged)
        return list(zip(attempts, [Grades(**row) for row in graded.rows], strict=True))

    pairs = [pair for batch in await run.gather(one, questions) for pair in batch]
    scores = {grader.value: [grades.scores[grader] for _, grades in pairs] for grader in dict.fromkeys(graders)}
    answers = [attempt.answer for attempt, _ in pairs]
    unread = sum(attempt.finish_reason == TOO_LONG for attempt, _ in pairs)
    unmarked = sum(attempt.rationale is None and attempt.finish_reason != TOO_LONG for attempt, _ in pairs)
    return Measured(
        name.rpartition("/")[2],
        model,
        scores,
        answers,
        bare=shots is None,
        too_long=unread,
        missing_markers=unmarked if model.tuned in run.reasoning else None,
    )


async def judge_phase(run: Run, phase: str, before: Measured, model: ModelRef) -> tuple[Candidate, Measured]:
    """Compare a phase's student with the one it came from, on dev."""
    after = await measure(run, phase, Split.DEV, model)
    metric = run.metric
    interval = after.gain_over(before, metric)
    candidate = Candidate(phase, model, decide(interval), interval)
    await run.say(
        f"{phase}: {metric} on dev {before.value(metric).value:.3f} -> {after.value(metric).value:.3f}, "
        f"gain {interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]: {candidate.decision}",
        type="metrics",
        phase=phase,
        decision=candidate.decision,
    )
    return candidate, after
