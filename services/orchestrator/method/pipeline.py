"""The whole method on one page: pilot; three phases, each judged on dev; the table on test; promotion."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.orchestrator.method.context import JobContext
from services.orchestrator.method.cut_off import tell_cut_off
from services.orchestrator.method.decide import PhaseOutcome
from services.orchestrator.method.distill import distill
from services.orchestrator.method.evolve import evolve
from services.orchestrator.method.iterate import iterate
from services.orchestrator.method.judge_trust import after_gate, is_proved
from services.orchestrator.method.pilot import pilot
from services.orchestrator.method.report import Outcome
from services.orchestrator.method.run import DistillationRun
from services.orchestrator.method.state import PhaseResult, State
from services.orchestrator.method.table import compare_on_test
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.phase_records import PhaseRecords
from shared.contracts.report import Report
from shared.plan.plan import judge_is_tried

PHASES: dict[Phase, Callable[[JobContext, State], Awaitable[PhaseResult]]] = {
    Phase.DISTILL: distill,
    Phase.ITERATE: iterate,
    Phase.EVOLVE: evolve,
}


async def meteor(ctx: JobContext, run: DistillationRun) -> Report:
    """Run a job's phases; returns the report. A phase that made dev worse is not built upon.

    run: the job itself, which only this page enters, pauses and publishes.
    """
    await ctx.data.announce()
    uses = run.plan.judge_uses()
    judge = await ctx.judge_trust.calibrate(uses, run.human_preferences() if uses else [])
    tries_judge = judge.decides and judge_is_tried(uses)
    gates_judge = tries_judge and not is_proved(judge)
    state = State(
        ctx.base, ctx.spec.guidance, judge_decides=judge.decides, tries_judge=tries_judge, gates_judge=gates_judge
    )
    records = PhaseRecords()
    if "pilot" in ctx.spec.stages:
        await run.enter("pilot")
        result = await pilot(ctx, state)
        await run.note_estimate(result.estimate)
        records = PhaseRecords(pilot=result.record)
        await tell_cut_off(ctx.emit, "pilot", result.record)
        judge = after_gate(judge, result.record.judge)
        state = replace(state, guidance=result.guidance, judge_decides=judge.decides)
        await run.pause_after("pilot")

    base_on_dev = on_dev = await ctx.measuring.measure_base(state, Split.DEV)
    state = replace(state, base_answers=base_on_dev.answers)
    outcomes: list[PhaseOutcome] = []
    for phase in ctx.spec.phases:
        await run.enter(phase.value)
        before, result = state.student, await PHASES[phase](ctx, state)
        records = records.model_copy(update={phase.value: result.record})
        await tell_cut_off(ctx.emit, phase.value, result.record)
        if result.student == before:
            await ctx.emit(f"{phase.value}: nothing to train on, the student stays as it was", level="warn")
        state = replace(
            state,
            student=result.student,
            examples=[*state.examples, *result.examples],
            checkpoints={**state.checkpoints, phase: result.checkpoints},
            writes_rationale=state.writes_rationale | result.writes_rationale,
        )
        outcome, measured = await ctx.decisions.on_phase(state, phase, on_dev, result.student)
        outcomes.append(outcome)
        if outcome.gain.decision == "rejected":
            state = replace(state, student=before)
        else:
            on_dev = measured
            run.note_finished(phase, result.student)
        await run.pause_after(phase.value)

    await run.enter("evaluate")
    forgotten = await ctx.forgetting.check(state)
    promotion = await ctx.decisions.on_promotion(
        state, await run.incumbent(), base_on_dev, on_dev, forgotten, run.look_at_dev(state.student)
    )
    if state.student != ctx.base:
        published = await run.publish(state.student, promotion.state)
        named = {"model": published.model, "served_meanwhile": published.served_meanwhile}
        promotion = promotion.model_copy(update=named)
    several = len(ctx.spec.phases) > 1  # with one phase the judge has compared its student with the base
    _, on_dev = await ctx.head_to_head.scored_over_base(state, base_on_dev, [on_dev], planned=several)
    base = await ctx.measuring.measure_base(state, Split.TEST)
    others = [
        *await ctx.baselines.measure_all(state),
        *await ctx.measuring.measure_phases(state, {o.phase: o.model for o in outcomes}),
    ]
    results = base, *_ = await ctx.head_to_head.scored_over_base(state, base, others)
    final = next((row for row in results[::-1] if row.model == state.student and row.bare), base)
    beside = await ctx.head_to_head.final_beside_others(state, results, final, ctx.spec.phases)
    table = compare_on_test(results, final, beside)
    comparisons = ctx.head_to_head.counted_comparisons()
    judged = await ctx.final_comparison.judge_final_model(base, final, calls_before=comparisons.get("calls", 0))
    outcome = Outcome(table, base, final, on_dev, outcomes, records, comparisons, judge, judged, promotion)
    report = ctx.reporter.build(outcome, run.job.id, run.stores.steps.of_job(run.job.id))
    await ctx.emit(table.verdict.words, type="metrics", **table.verdict.model_dump(mode="json"))
    return report
