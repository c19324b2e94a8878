"""Phase 3, self-evolution (paper section 3.3): no call to the strong model.

Pairs of a better and a worse answer of one student; a preference loss anchored at that student teaches it to prefer the better one.
By default the better answer comes from high-compute decoding (beam search, or another strategy), the worse one from greedy decoding.
Both come from one engine, dtype and prompt ids: otherwise the pairs would show numerical noise instead of a better search.
Other sources: samples that a grader passes against samples that it does not (strategy verified; if none passes, the record's reference
may take the better side, `evolve.unsolved`); the answer that most samples agree on against one with the fewest votes (agreement); pairs
from the job's own file (`evolve.pairs`).
"""

from collections import Counter
from collections.abc import Sequence

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.pairs import from_references, learnable_pairs, pairs_of_file, pairs_of_samples
from services.orchestrator.method.samples import figures_of, tell_samples
from services.orchestrator.method.sampling import Draw
from services.orchestrator.method.state import PhaseResult, State
from shared.contracts.data import Question
from shared.contracts.distillation import Phase
from shared.contracts.phase_records import DevGain, EvolveIteration, EvolveRecord, Figures, SampleFigures
from shared.contracts.rows import PreferencePair
from shared.contracts.step_key import StepKey
from shared.contracts.steps import ModelRef, SearchParams, StepKind
from shared.plan.allocation import turn_samples


async def evolve(ctx: JobContext, state: State) -> PhaseResult:
    """The student after the iteration that is best on dev; the incoming one when both decodings always agree."""
    settings, questions, student = ctx.spec.evolve, ctx.shards[Phase.EVOLVE], state.student
    iterations, students = list[EvolveIteration](), list[ModelRef]()
    for number in range(1, settings.turns + 1):
        pairs, iteration = await pairs_and_figures(ctx, student, number, questions)
        told = iteration.model_dump(mode="json")
        await ctx.emit(f"evolve: turn {number}: {len(pairs)} pairs differ", type="metrics", turn=number, **told)
        if not pairs:
            iterations.append(iteration)
            break
        student, training = await ctx.students.train(
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
        pairs = pairs_of_file(ctx.students, questions)
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
    before = (Phase.DISTILL, Phase.ITERATE) if settings.reuse_questions else ()
    seen = [q for phase in before for q in ctx.shards.get(phase, ())]
    how = Draw(
        student,
        turn_samples(settings.samples, settings.growth, number),
        settings.temperature,
        settings.agreement,
        references=settings.unsolved == "reference",
    )
    drawn = await ctx.sampler.draw(StepKey("evolve", number, "samples"), how, [*questions, *seen])
    pairs, missing = pairs_of_samples(ctx.students, settings, drawn)
    figures = figures_of(drawn[: len(questions)], kept=len(pairs))
    await tell_samples(ctx.emit, f"evolve: turn {number}", figures, turn=number)
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
    prompts = [ctx.students.prompt(q) for q in questions]
    searched = await ctx.step(StepKey("evolve", number, "search"), StepKind.SEARCH, params, prompts)
    if "cut_off" not in searched.metrics:
        await ctx.emit(
            f"evolve: turn {number}: this search is of an earlier release and says of no text that it was cut off"
        )
    return searched.read(PreferencePair), Figures(**searched.metrics)


async def kept_turn(
    ctx: JobContext, state: State, students: Sequence[ModelRef], turns: Sequence[EvolveIteration]
) -> tuple[ModelRef, list[EvolveIteration]]:
    """The best of the turns' students on the part of dev that is there to choose, and the turns, each but the first with the gain of its
    student over the best before it. The last student where dev is not parted: nothing is chosen then."""
    if len(students) < 2 or not ctx.choice:
        return students[-1], [*turns]
    best, told = await ctx.measuring.measure_to_choose(state, "evolve-1", students[0]), [*turns]
    for number, student in enumerate(students[1:], start=2):
        after = await ctx.measuring.measure_to_choose(state, f"evolve-{number}", student)
        gain = await ctx.head_to_head.gain(state, best, after)
        dev = DevGain(gain=gain.rounded(), kept=gain.value > 0)
        told[number - 1] = told[number - 1].model_copy(update={"dev": dev})
        best = after if dev.kept else best
    await ctx.emit(f"evolve: the student of {best.name} is kept, by {len(ctx.choice)} questions of dev")
    return best.model, told
