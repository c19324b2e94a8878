"""One plan tells progress, estimate and checks what a job asks of the workers."""

from dataclasses import replace

import pytest

from shared.contracts.data import Split
from shared.contracts.distillation import Distillation, Guidance, Phase
from shared.contracts.step_kinds import cost, rows_of
from shared.contracts.steps import ModelRef, Sampling, StepKind, StudentParams, TeachParams
from shared.plan.plan import (
    JUDGE_GATE,
    JudgeUse,
    PilotOutcome,
    Plan,
    Pool,
    Sizes,
    judge_is_tried,
    make_plan,
    students_measured,
    weighted,
)

SAMPLING = {"max_tokens": 8, "seed": 1}
SPLITS = {Split.TRAIN: 100, Split.DEV: 20, Split.TEST: 30}


def plan_of(spec: Distillation, without_reference: int = 0, judge_measures: bool = False) -> Plan:
    return make_plan(spec, Sizes.of_splits(spec, SPLITS, without_reference, judge_measures))


def work(spec: Distillation, without_reference: int = 0, judge_measures: bool = False) -> float:
    return weighted(plan_of(spec, without_reference, judge_measures).rows())


def test_more_epochs_are_more_work():
    short = work(Distillation.model_validate({"domain": "d", "distill": {"epochs": 1}}))
    long = work(Distillation.model_validate({"domain": "d", "distill": {"epochs": 5}}))
    assert long > short


def test_without_guidance_there_is_less_work():
    guided = work(Distillation(domain="d", guidance=Guidance.WEAK))
    assert work(Distillation(domain="d", guidance=Guidance.NONE)) < guided


def test_a_judge_that_measures_is_work_for_every_student_on_dev_and_test():
    spec = Distillation.model_validate({"domain": "d", "iterate": {"rounds": 2}, "evolve": {"turns": 3}})
    by_references, by_judge = (work(spec, without_reference=100, judge_measures=it) for it in (False, True))
    assert students_measured(spec, references=False) == (3, 2 + 1, 3, 3 + 2 + 3, 2)
    dev = (
        3 + 2 + 2 + 1
    )  # phases, rounds, turns after the first, each with the one before it; the final model with the base
    test = 3 + 2 + 3 + 2  # phases, rounds and turns with the base; the final model with the other phases
    assert by_judge - by_references == pytest.approx(cost(StepKind.COMPARE, dev * 20 + test * 30))


def test_rounds_and_turns_are_measured_on_the_part_of_dev_that_is_there_to_choose():
    spec = Distillation.model_validate({"domain": "d", "iterate": {"rounds": 2}, "evolve": {"turns": 3}})
    sizes = Sizes.of_splits(spec, SPLITS)
    unknown, whole, parted = (
        make_plan(spec, replace(sizes, choice=choice)).rows()["evaluate", StepKind.ANSWER] for choice in (None, 0, 8)
    )
    assert unknown - whole == 20 * 3, "the turns are measured only where dev is parted"
    assert whole - parted == (20 - 12) * 4 + (20 - 8) * 3 - 8 * 3


def test_baselines_are_work_where_references_make_them():
    spec = Distillation.model_validate({"domain": "d", "evaluation": {"shot_seeds": 5}})
    assert students_measured(spec, references=True) == (3, 0, 0, 3 + 3 + 4, 3 + 4 + 2)
    assert work(spec) > work(spec, without_reference=100)


def test_the_work_of_a_default_job_is_what_it_always_was():
    """But for the four answers that the judge decides on in the pilot."""
    assert work(Distillation(domain="d")) == pytest.approx(1102.5 + cost(StepKind.REVIEW, JUDGE_GATE))


def test_stages_stand_in_the_order_in_which_a_job_enters_them():
    spec = Distillation(domain="d")
    assert [stage.name for stage in plan_of(spec).stages] == [*spec.stages, "evaluate"]


def test_what_relies_on_the_judge_follows_from_the_references():
    spec = Distillation.model_validate({"domain": "d", "guidance": "auto", "evaluation": {"judged_questions": 5}})
    assert plan_of(spec, without_reference=1).judge_uses() == [JudgeUse.GUIDANCE, JudgeUse.ITERATE, JudgeUse.EVALUATION]
    assert plan_of(spec, judge_measures=True).judge_uses()[0] == JudgeUse.MEASURING
    graded = {"judge": {"grader": "string_check"}, "evaluation": {"judged_questions": 0}}
    assert plan_of(Distillation.model_validate({"domain": "d"} | graded)).judge_uses() == []


def test_the_pilot_tries_the_judge_where_more_than_the_last_comparison_relies_on_it():
    last = Distillation.model_validate({"domain": "d", "phases": ["distill"], "evaluation": {"judged_questions": 5}})
    assert plan_of(last).judge_uses() == [JudgeUse.EVALUATION]
    assert not judge_is_tried(plan_of(last).judge_uses())
    assert judge_is_tried(plan_of(Distillation(domain="d")).judge_uses())


def test_the_pilot_settles_which_way_the_teacher_is_asked():
    spec = Distillation(domain="d", guidance=Guidance.AUTO)
    sizes = Sizes.of_splits(spec, SPLITS)
    _, distill, *_ = make_plan(spec, sizes, PilotOutcome(Guidance.NONE, usable=10)).stages
    (teach,) = [step for step in distill.steps if step.kind is StepKind.TEACH]
    assert not teach.guided
    assert teach.most.total == sizes.questions[Phase.DISTILL] - 10


def test_a_pool_bounds_how_many_rows_have_no_reference():
    assert Pool(10, 4).without_reference_of(8) == (2, 4)


def test_an_ended_step_counts_what_was_planned_for_it():
    spec = Distillation.model_validate(
        {
            "domain": "d",
            "guidance": "none",
            "phases": ["distill", "evolve"],
            "teacher": {"samples": 5},
            "evolve": {"strategy": "agreement", "samples": 7, "questions": 20},
        }
    )
    planned = {
        step.kind: step.rows for stage in plan_of(spec).stages if stage.name == "distill" for step in stage.steps
    }
    teach = TeachParams.model_validate({"teacher": "default", "domain": "d", "sampling": SAMPLING, "samples": 5})
    assert rows_of(teach, 80) == planned[StepKind.TEACH] == 400
    planned = {step.kind: step.rows for stage in plan_of(spec).stages if stage.name == "evolve" for step in stage.steps}
    student = StudentParams(
        model=ModelRef(base="s", base_hash="0"), domain="d", sampling=Sampling.model_validate(SAMPLING), n=7
    )
    assert rows_of(student, 20) == planned[StepKind.SAMPLE] == 140
