"""The whole method on one page: pilot; three phases, each judged on dev; the table on test; promotion."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from services.orchestrator.method.context import DistillationRun, JobContext, PhaseResult, State
from services.orchestrator.method.distill import distill
from services.orchestrator.method.evaluate import (
    BASE,
    SERVED,
    EvalResult,
    announce_measure,
    forgetting,
    judge_phase,
    measure,
    measure_baselines,
    measure_phases,
)
from services.orchestrator.method.evolve import evolve
from services.orchestrator.method.iterate import iterate
from services.orchestrator.method.judging import calibrate, judge_final_model
from services.orchestrator.method.pilot import estimate_from_pilot, pilot
from services.orchestrator.method.report import Outcome, better_by_metric, build_report
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.jobs import Usage
from shared.contracts.steps import StepKind
from shared.evaluation.statistics import decide

PHASES: dict[Phase, Callable[[JobContext, State], Awaitable[PhaseResult]]] = {
    Phase.DISTILL: distill,
    Phase.ITERATE: iterate,
    Phase.EVOLVE: evolve,
}


async def meteor(run: DistillationRun) -> dict[str, Any]:
    """Run a job's phases; returns the report. A phase that made dev worse is not built upon."""
    ctx = run.context
    await announce_measure(ctx)
    uses = run.plan.judge_uses()
    judge = await calibrate(ctx, uses, run.human_preferences() if uses else [])
    state = State(student=ctx.base, guidance=ctx.spec.guidance, judge_decides=judge["decides"])
    records: dict[str, dict[str, Any]] = {}
    if "pilot" in ctx.spec.stages:
        await run.enter("pilot")
        result = await pilot(ctx, state)
        estimate = estimate_from_pilot(
            ctx, state.judge_decides, result, run.usage_by_phase().get("pilot", Usage()), run.prices
        )
        await run.note_estimate(estimate)
        records["pilot"] = result.record | {"estimate": estimate.model_dump()}
        state = replace(state, guidance=result.guidance)
        await run.pause_after("pilot")

    base_on_dev, state = await measure_base(ctx, state, Split.DEV)
    on_dev, decisions = base_on_dev, []
    for phase in ctx.spec.phases:
        await run.enter(phase.value)
        result = await PHASES[phase](ctx, state)
        records[phase.value] = result.record
        if result.student == state.student:
            await ctx.emit(f"{phase.value}: nothing to train on, the student stays as it was", level="warn")
        state, before = fold(state, phase, result), state.student
        decision, measured = await judge_phase(ctx, state, phase, on_dev, result.student)
        decisions.append(decision)
        if decision.decision == "rejected":
            state = replace(state, student=before)
        else:
            on_dev = measured
            run.note_finished(phase, result.student)
        await run.pause_after(phase.value)

    await run.enter("evaluate")
    forgotten = await forgetting(ctx, state)
    promotion = await promote(run, state, base_on_dev, on_dev, guarded=bool(forgotten and forgotten["guarded"]))
    base, state = await measure_base(ctx, state, Split.TEST)
    table = [base, *await measure_baselines(ctx, state), *await measure_phases(ctx, state, decisions)]
    final = next((row for row in table[::-1] if row.model == state.student and row.bare), base)
    judged = None
    if final.model != ctx.base:
        by_metric = None if ctx.judge_measures else better_by_metric(base, final, ctx.metric)
        judged = await judge_final_model(ctx, ctx.measured[Split.TEST], base.answers, final.answers, by_metric)
    outcome = Outcome(table, final, on_dev, decisions, records, judge, judged, promotion | {"forgetting": forgotten})
    report = build_report(ctx, outcome, run.job.id, run.usage_by_phase(), run.stores.steps.of_job(run.job.id))
    await ctx.emit(report["verdict"]["words"], type="metrics", **report["verdict"])
    return report


def fold(state: State, phase: Phase, result: PhaseResult) -> State:
    """The next state: the phase's student, and what it adds."""
    return replace(
        state,
        student=result.student,
        examples=[*state.examples, *result.examples],
        checkpoints={**state.checkpoints, phase: result.checkpoints},
        writes_rationale=state.writes_rationale | result.writes_rationale,
    )


async def measure_base(ctx: JobContext, state: State, split: Split) -> tuple[EvalResult, State]:
    """The base on a split, and the state with its answers."""
    base = await measure(ctx, state, BASE, split, ctx.base)
    return base, replace(state, base_answers={**state.base_answers, split: base.answers})


async def promote(
    run: DistillationRun, state: State, base_on_dev: EvalResult, on_dev: EvalResult, guarded: bool
) -> dict[str, Any]:
    """Compare the job's student with the version that is served (the base at first) and publish it accordingly.

    guarded: it forgot more than the job allows, and is undecided at best.
    """
    ctx = run.context
    if state.student == ctx.base:
        return {"state": "rejected", "against": "base", "model": None, "gain": None}
    served = run.served_version()
    against, incumbent = "base", base_on_dev
    if served is not None and served != state.student:
        ctx.expect(StepKind.ANSWER, len(ctx.measured[Split.DEV]))
        against, incumbent = "served", await measure(ctx, state, SERVED, Split.DEV, served)
    gain = on_dev.gain_over(incumbent, ctx.metric)
    decision = decide(gain)
    if guarded and decision == "promoted":
        decision = "undecided"
    model = await run.publish(state.student, decision)
    return {"state": decision, "against": against, "model": model, "gain": gain.rounded()}
