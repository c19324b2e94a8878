"""The whole method on one page: pilot; three phases, each judged on dev; the table on test; promotion."""

from services.orchestrator.method.context import Run
from services.orchestrator.method.distill import distill
from services.orchestrator.method.evaluate import (
    SERVED,
    Candidate,
    Measured,
    forgetting,
    judge_phase,
    measure,
    measure_on_test,
)
from services.orchestrator.method.evolve import evolve
from services.orchestrator.method.iterate import iterate
from services.orchestrator.method.judging import hear_labels, say_what_measures
from services.orchestrator.method.pilot import pilot
from services.orchestrator.method.report import build_report
from shared.contracts.data import Split
from shared.contracts.distillation import Phase
from shared.contracts.steps import StepKind
from shared.evaluation.statistics import decide

PHASES = {Phase.DISTILL: distill, Phase.ITERATE: iterate, Phase.EVOLVE: evolve}


async def meteor(run: Run) -> dict:
    """Run the job's phases on `run.student`; returns the report. A phase that made dev worse is not built upon."""
    await say_what_measures(run)
    await hear_labels(run)
    if "pilot" in run.spec.stages:
        await run.enter("pilot")
        run.guidance = await pilot(run)
        await run.pause_after("pilot")
    current = await measure(run, "base", Split.DEV, run.base)
    base_on_dev = current
    candidates: list[Candidate] = []
    for phase in run.spec.phases:
        await run.enter(phase.value)
        before = run.student
        after = await PHASES[phase](run)
        if after == before:
            await run.say(f"{phase.value}: nothing to train on, the student stays as it was", level="warn")
        candidate, measured = await judge_phase(run, phase.value, current, after)
        candidates.append(candidate)
        rejected = candidate.decision == "rejected"
        run.student, current = (before, current) if rejected else (after, measured)
        run.finished |= {} if rejected or after == run.base else {phase.value: after}
        await run.pause_after(phase.value)

    await run.enter("evaluate")
    forgot = await forgetting(run)
    promotion = await decide_promotion(run, base_on_dev, current, guarded=bool(forgot and forgot["guarded"]))
    table = await measure_on_test(run, candidates)
    final = next((m for m in table[::-1] if m.model == run.student and m.bare), table[0])  # not the base shown examples
    report = await build_report(run, table, candidates, final, current, promotion | {"forgetting": forgot})
    await run.say(report["verdict"]["words"], type="metrics", **report["verdict"])
    return report


async def decide_promotion(run: Run, base_on_dev: Measured, current: Measured, guarded: bool) -> dict:
    """Compare the job's student with the version that is served (the base at first) and publish it accordingly.

    guarded: it forgot more than the job allows, and is undecided at best.
    """
    if run.student == run.base:
        return {"state": "rejected", "against": "base", "model": None, "gain": None}
    served = run.served_version()
    against, incumbent = "base", base_on_dev
    if served is not None and served != run.student:
        run.expect(StepKind.ANSWER, len(run.measured(Split.DEV)))
        against, incumbent = "served", await measure(run, SERVED, Split.DEV, served)
    interval = current.gain_over(incumbent, run.metric)
    state = decide(interval)
    if guarded and state == "promoted":
        state = "undecided"
    model = await run.publish(state)
    return {"state": state, "against": against, "model": model, "gain": interval.rounded()}
