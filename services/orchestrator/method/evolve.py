"""Phase 3, self-evolution (paper section 3.3): no call to the strong model.

High-compute decoding (beam search, or another strategy) against low-compute decoding (greedy) of one and the same student; a
preference loss anchored at the incoming student teaches it to prefer the first. Both sides come from one engine, dtype and
prompt ids: otherwise the pairs would show numerical noise instead of a better search. Where the job's own file brings the pairs
(`evolve.pairs`), they take the place of the search.
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import JobContext, PhaseResult, State
from services.orchestrator.method.decide import kept_turn
from shared.contracts.data import Question
from shared.contracts.distillation import Phase
from shared.contracts.report import EvolveIteration, EvolveRecord, Figures
from shared.contracts.rows import PreferencePair, asked
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, SearchParams, StepKind

MAX_SAMPLES = 64  # beams or samples, however often an iteration multiplies them


async def evolve(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the iteration that is best on dev; the incoming one when both decodings always agree."""
    settings, questions, student = ctx.spec.evolve, ctx.shards[Phase.EVOLVE], state.student
    from_file = settings.pairs == "file"
    iterations: list[EvolveIteration] = []
    students: list[ModelRef] = []
    for number in range(1, settings.turns + 1):
        pairs, figures = (
            (pairs_of(questions, ctx.shows_calls), Figures())
            if from_file
            else await search(ctx, student, number, questions)
        )
        unpaired = len(questions) - len(pairs)  # too long for the model's context, or without both sides in the file
        pairs, dropped = learnable_pairs(pairs)
        iteration = EvolveIteration(
            strategy="file" if from_file else settings.strategy.value,
            questions=len(questions),
            pairs=len(pairs),
            dropped=dropped | ({"no_pair" if from_file else "too_long": unpaired} if unpaired else {}),
            search=figures,
        )
        await ctx.emit(
            f"evolve: turn {number}: {len(pairs)} pairs differ",
            type="metrics",
            turn=number,
            **iteration.model_dump(mode="json"),
        )
        if not pairs:
            iterations.append(iteration)
            break
        student, training = await ctx.train(
            StepKey("evolve", number, "train"),
            StepKind.DPO,
            pairs,
            student,
            settings.epochs,
            settings.learning_rate,
            beta=settings.beta,
            sft_weight=settings.sft_weight,
        )
        students.append(student)
        iterations.append(iteration.model_copy(update={"training": training}))
    if students:
        student, gains = await kept_turn(ctx, state, Phase.EVOLVE, students)
        gained = zip(iterations, [*gains, None], strict=False)
        iterations = [turn.model_copy(update={"dev": gain}) if gain else turn for turn, gain in gained]
    with_rationale = state.student.tuned in state.writes_rationale
    return PhaseResult(
        student,
        EvolveRecord(turns=iterations),
        checkpoints=[(f"evolve-{n}", s) for n, s in enumerate(students, start=1)] if settings.turns > 1 else [],
        writes_rationale=frozenset(s.tuned for s in students) if with_rationale else frozenset(),
    )


async def search(
    ctx: JobContext, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[list[PreferencePair], Figures]:
    """Both decodings' answers of the student, and the search's figures. Each iteration may spend more than the one before."""
    settings = ctx.spec.evolve
    params = SearchParams(
        model=student,
        strategy=settings.strategy,
        beam_width=min(MAX_SAMPLES, settings.beam_width * settings.growth ** (number - 1)),
        samples=min(MAX_SAMPLES, settings.samples * settings.growth ** (number - 1)),
        temperature=settings.temperature,
        max_new_tokens=ctx.spec.student_tokens,
        batch_size=settings.search_batch,
        seed=ctx.seed,
    )
    prompts = [ctx.prompt(q) for q in questions]
    searched = await ctx.step(StepKey("evolve", number, "search"), StepKind.SEARCH, params, prompts)
    if "cut_off" not in searched.metrics:
        await ctx.emit(
            f"evolve: turn {number}: this search is of an earlier release and says of no text that it was cut off"
        )
    return searched.read(PreferencePair), Figures(**searched.metrics)


def pairs_of(questions: Sequence[Question], shows_calls: bool = True) -> list[PreferencePair]:
    """What the records themselves call better and worse."""
    return [
        PreferencePair(**asked(q, shows_calls), chosen=q.reference, rejected=q.rejected)
        for q in questions
        if q.reference and q.rejected
    ]


def learnable_pairs(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs whose two sides are whole, not empty and differ, and how many were dropped for which reason."""
    kept: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        if pair.cut_off:
            dropped["cut_off"] += 1
        elif not pair.chosen.strip() or not pair.rejected.strip():
            dropped["empty"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, dict(dropped)
