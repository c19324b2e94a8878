"""Measuring students: on dev for every decision, on test for the report and nothing else.

All students answer the bare question through one prompt and are graded on the answer alone, rationale apart.
"""

from collections.abc import Callable, Sequence

from services.orchestrator import selection
from services.orchestrator.nearest import Nearest
from services.orchestrator.preferred import preferred_over_base
from services.orchestrator.results import Candidate, Measured, mean_of
from services.orchestrator.run import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Baseline, Grader, Phase
from shared.contracts.rows import TOO_LONG, Asked, Attempt, Example, Grades, Judged
from shared.contracts.steps import JudgeParams, ModelRef, Sampling, StepKind
from shared.statistics import decide

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

    async def one(index: int, batch: Sequence[Question]) -> list[tuple[Attempt, Grades]]:
        key = f"evaluate/{name}"
        rows = [Asked(id=q.id, question=q.text, shots=shots(q) if shots else []) for q in batch]
        answered = await run.step(f"{key}/answers/{index}", StepKind.ANSWER, run.asking(sampling, model), rows)
        attempts = [Attempt(**row) for row in answered.rows]
        if not graders:
            return [(attempt, Grades(id=attempt.id, scores={})) for attempt in attempts]
        judged = [
            Judged(id=a.id, question=q.text, answer=a.answer, reference=q.reference)
            for q, a in zip(batch, attempts, strict=True)
        ]
        graded = await run.step(f"{key}/grades/{index}", StepKind.GRADE, grading, judged)
        return list(zip(attempts, [Grades(**row) for row in graded.rows], strict=True))

    pairs = [pair for batch in await run.gather(one, questions) for pair in batch]
    scores = {grader.value: [grades.scores[grader] for _, grades in pairs] for grader in dict.fromkeys(graders)}
    answers = [attempt.answer for attempt, _ in pairs]
    unread = sum(attempt.finish_reason == TOO_LONG for attempt, _ in pairs)
    return Measured(name.rpartition("/")[2], model, scores, answers, bare=shots is None, too_long=unread)


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


async def measure_on_test(run: Run, candidates: Sequence[Candidate]) -> list[Measured]:
    """The rows of the final table: base, the baselines a user would try first if there are references, every phase."""
    rows = [await measure(run, "base", Split.TEST, run.base)]
    train = [q for phase in run.spec.phases for q in run.shard(phase)]
    baselines = run.spec.evaluation.baselines if any(q.reference for q in train) else []
    if Baseline.FEW_SHOT in baselines:
        rows.append(await random_shots(run, train))
    if Baseline.FEW_SHOT_NEAREST in baselines:
        rows.append(await nearest_shots(run, train))
    if Baseline.SFT_REFERENCES in baselines:
        model = await train_on_references(run, train)
        rows.append(await measure(run, "sft_references", Split.TEST, model))
    for candidate in candidates:
        for name, model in run.rounds if candidate.phase == Phase.ITERATE else []:
            rows.append(await measure(run, name, Split.TEST, model))
        rows.append(await measure(run, candidate.phase, Split.TEST, candidate.model))
    return rows


async def random_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with examples in its prompt, drawn once for all questions, or several times and averaged."""
    draws = []
    for draw in range(run.spec.evaluation.shot_seeds):
        shots = selection.shots(train, run.spec.evaluation.shots, run.seed, draw)
        name = f"few_shot-{draw}" if draw else "few_shot"
        draws.append(await measure(run, name, Split.TEST, run.base, lambda _, shots=shots: shots))
    return mean_of("few_shot", draws)


async def nearest_shots(run: Run, train: Sequence[Question]) -> Measured:
    """The base with the train questions most like each question in its prompt."""
    index, count = Nearest(selection.seeded_order(train, run.seed, "shots")), run.spec.evaluation.shots
    return await measure(run, "few_shot_nearest", Split.TEST, run.base, lambda q: index.shots(q.text, count))


async def train_on_references(run: Run, train: Sequence[Question]) -> ModelRef:
    """The baseline without any teacher: the base fine-tuned on the references of all questions that the job used."""
    examples = [Example(id=q.id, question=q.text, completion=q.reference) for q in train if q.reference]
    params = run.training(run.spec.distill.epochs, run.spec.distill.learning_rate, model=run.base)
    model, _ = await run.fine_tune("evaluate/sft_references/train", examples, params)
    return model
