"""Phase 3, self-evolution (paper section 3.3): no call to the strong model.

High-compute decoding (beam search, or another strategy) against low-compute decoding (greedy) of one and the same student; a
preference loss anchored at the incoming student teaches it to prefer the first. Both sides come from one engine, dtype and
prompt ids: otherwise the pairs would show numerical noise instead of a better search. Or many samples are drawn, and what a
grader passes stands against what it does not (strategy verified; where it passes none, the record's reference may take that
place, `evolve.unsolved`), or what most samples agree on against what fewest say (agreement). Where the job's own file brings the
pairs (`evolve.pairs`), they take the place of all that.
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import JobContext, PhaseResult, State
from services.orchestrator.method.decide import kept_turn
from services.orchestrator.method.pairs import learnable_pairs, pairs_of_samples
from services.orchestrator.method.sampling import Draw, draw, figures_of, tell
from shared.contracts.data import Question
from shared.contracts.distillation import Phase
from shared.contracts.report import EvolveIteration, EvolveRecord, Figures, ReferencePairs, SampleFigures
from shared.contracts.rows import PreferencePair, asked
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, SearchParams, StepKind
from shared.plan.allocation import turn_samples


async def evolve(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the iteration that is best on dev; the incoming one when both decodings always agree."""
    settings, questions, student = ctx.spec.evolve, ctx.shards[Phase.EVOLVE], state.student
    iterations, students = list[EvolveIteration](), list[ModelRef]()
    for number in range(1, settings.turns + 1):
        pairs, iteration = await pairs_and_figures(ctx, student, number, questions)
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
        student, iterations = await kept_turn(ctx, state, students, iterations)
    with_rationale = state.student.tuned in state.writes_rationale
    return PhaseResult(
        student,
        EvolveRecord(turns=iterations),
        checkpoints=[(f"evolve-{n}", s) for n, s in enumerate(students, start=1)] if settings.turns > 1 else [],
        writes_rationale=frozenset(s.tuned for s in students) if with_rationale else frozenset(),
    )


async def pairs_and_figures(
    ctx: JobContext, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[list[PreferencePair], EvolveIteration]:
    """What can be learned of a turn's pairs, and its record before training."""
    settings, searched, sampled = ctx.spec.evolve, Figures(), None
    strategy = "file" if settings.pairs == "file" else settings.strategy.value
    if settings.pairs == "file":
        pairs = pairs_of(questions, ctx.shows_calls)
        missing = {"no_pair": len(questions) - len(pairs)}
    elif settings.strategy.samples:
        pairs, missing, sampled = await contrast(ctx, student, number, questions)
    else:
        pairs, searched = await search(ctx, student, number, questions)
        missing = {"too_long": len(questions) - len(pairs)}  # for the student's context
    pairs, dropped = learnable_pairs(pairs)
    record = EvolveIteration(
        strategy=strategy,
        questions=len(questions),
        pairs=len(pairs),
        dropped=dict(Counter(dropped) + Counter(missing)),
        search=searched,
    )
    wanted = settings.unsolved == "reference"
    update = {"sampled": sampled, "from_references": from_references(pairs) if wanted else None}
    return pairs, record.model_copy(update=update)


async def contrast(
    ctx: JobContext, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[list[PreferencePair], dict[str, int], SampleFigures]:
    """Pairs of the student's samples, how many questions gave none and why, and figures of what was drawn of fresh questions."""
    settings = ctx.spec.evolve
    seen = [
        q for phase in (Phase.DISTILL, Phase.ITERATE) for q in ctx.shards.get(phase, ()) if settings.reuse_questions
    ]
    how = Draw(
        student,
        turn_samples(settings.samples, settings.growth, number),
        settings.temperature,
        settings.agreement,
        references=settings.unsolved == "reference",
    )
    drawn = await draw(ctx, StepKey("evolve", number, "samples"), how, [*questions, *seen])
    pairs, missing = pairs_of_samples(ctx, drawn)
    figures = figures_of(drawn[: len(questions)], kept=len(pairs))
    await tell(ctx, f"evolve: turn {number}", figures, turn=number)
    return pairs, missing, figures


async def search(
    ctx: JobContext, student: ModelRef, number: int, questions: Sequence[Question]
) -> tuple[list[PreferencePair], Figures]:
    """Both decodings' answers of the student, and the search's figures. Each iteration may spend more than the one before."""
    settings = ctx.spec.evolve
    params = SearchParams(
        model=student,
        strategy=settings.strategy,
        beam_width=turn_samples(settings.beam_width, settings.growth, number),
        samples=turn_samples(settings.samples, settings.growth, number),
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


def from_references(pairs: Sequence[PreferencePair]) -> ReferencePairs:
    ids = [pair.id for pair in pairs if pair.from_reference]
    return ReferencePairs(questions=len(set(ids)), pairs=len(ids))


def pairs_of(questions: Sequence[Question], shows_calls: bool = True) -> list[PreferencePair]:
    """What the records themselves call better and worse."""
    return [
        PreferencePair(**asked(q, shows_calls), chosen=q.reference, rejected=q.rejected)
        for q in questions
        if q.reference and q.rejected
    ]
