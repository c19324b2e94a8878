"""Phase 2, iterative training (paper section 3.2).

The student answers with its reasoning; the judge says what is wrong and hints at a better answer; the student tries
again, at most `tries` times. It is trained on what passed (what never did is dropped or, with on_failure, answered by
the teacher), and the next round begins with the better student on fresh questions, as long as dev shows a gain.
"""

from collections.abc import Sequence
from typing import Any

from services.orchestrator.attempts import (
    UNANSWERED,
    Judgement,
    another_try,
    answer_and_judge,
    cumulative,
    decidable,
    tell,
    tell_end,
)
from services.orchestrator.corrections import corrections
from services.orchestrator.phases.evaluate import measure
from services.orchestrator.results import Measured, triple
from services.orchestrator.run import Run
from shared.contracts.answer_format import MARKER, join_answer
from shared.contracts.data import Question, Split
from shared.contracts.distillation import Phase
from shared.contracts.rows import Example, asked
from shared.contracts.steps import ModelRef
from shared.plan.allocation import rounds_of


async def iterate(run: Run) -> ModelRef:
    """Returns the student after the last round that helped on dev; the incoming one when nothing ever passed."""
    settings = run.spec.iterate
    rounds: list[dict[str, Any]] = []
    run.records["iterate"] = {"rounds": rounds}
    best = await measure(run, "iterate-0", Split.DEV, run.student) if settings.rounds > 1 else None
    shards = rounds_of(run.shard(Phase.ITERATE), settings.rounds, settings.round_questions)
    for number, questions in enumerate(shards, start=1):
        record, examples = await one_round(run, number, questions)
        rounds.append(record)
        await tell(run, number, record)
        before = run.student
        if examples:
            run.student, record["training"] = await train(run, number, examples)
            if settings.rounds > 1:
                run.parts[Phase.ITERATE].append((f"iterate-{number}", run.student))
        if best is not None:
            best, record["dev"] = await look_at_dev(run, number, best)
        await tell_end(run, number, record)
        if best is not None and best.model != run.student:
            run.student = before
            break
    return run.student


async def train(run: Run, number: int, examples: list[Example]) -> tuple[ModelRef, dict[str, Any]]:
    """train_from last: go on with the adapter. base: the bare base anew, on all that phases 1 and 2 have gathered."""
    settings = run.spec.iterate
    run.gathered += examples
    anew = settings.train_from == "base"
    params = run.training(settings.epochs, settings.learning_rate, model=run.base if anew else run.student)
    student, figures = await run.fine_tune(f"iterate/{number}/train", run.gathered if anew else examples, params)
    if run.student.tuned in run.reasoning or any(MARKER in example.completion for example in examples):
        run.reasoning.add(student.tuned)
    return student, figures


async def look_at_dev(run: Run, number: int, best: Measured) -> tuple[Measured, dict[str, Any]]:
    """The better of the student before and after a round, by the mean gain on dev; without any gain the rounds end."""
    after = await measure(run, f"iterate-{number}", Split.DEV, run.student)
    gain = after.gain_over(best, run.metric)
    helped = gain.value > 0
    if not helped:
        await run.say(f"iterate: no gain is seen on dev after round {number} ({gain.value:+.3f}); the rounds end here")
    return (after if helped else best), {"gain": triple(gain), "kept": helped}


async def one_round(run: Run, number: int, questions: Sequence[Question]) -> tuple[dict, list[Example]]:
    """All tries of a round: the figures, and the rows that passed. What nobody can judge is not tried."""
    text = {q.id: q.text for q in questions}
    tried = [q for q in questions if decidable(run, q)]
    tries: list[list[Judgement]] = [[] for _ in range(run.spec.iterate.tries)]

    async def attempts(index: int, batch: Sequence[Question]) -> None:
        open_rows, by_id = [asked(q) for q in batch], {q.id: q for q in batch}
        for t, results in enumerate(tries, start=1):
            if not open_rows:
                return
            pairs = await answer_and_judge(run, f"iterate/{number}/try-{t}", index, t, open_rows, by_id)
            results += pairs
            open_rows = another_try(pairs, text)

    await run.gather(attempts, tried)
    passed = [a for results in tries for a, v in results if v.passed]
    examples = [Example(id=a.id, question=text[a.id], completion=join_answer(a.rationale, a.answer)) for a in passed]
    failed = [q for q in questions if q.id not in {a.id for a in passed}]
    corrected, dropped = await corrections(run, number, failed)
    verdicts = [v for results in tries for _, v in results]
    record = {
        "questions": len(questions),
        "undecidable": len(questions) - len(tried),
        "passed": len(passed),
        "corrected": len(corrected),
        "dropped_corrections": dropped,
        "asked_by_try": [len(results) for results in tries],
        "pass_rate": cumulative([sum(v.passed for _, v in results) for results in tries], len(tried)),
        "unparsed_verdicts": sum(v.by == "unparsed" for v in verdicts),
        "leaked_hints": sum(v.leaked for v in verdicts),
        "too_long": sum(v.by == UNANSWERED for v in verdicts),
        "missing_markers": sum(a.marker_missing for results in tries for a, _ in results),
        "with_rationale": sum(MARKER in example.completion for example in examples),
    }
    return record, sorted(examples + corrected, key=lambda e: e.id)
