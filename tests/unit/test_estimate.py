"""Estimates: bounds that hold whatever the settings, fixed prompts within their allowance, calls counted by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.strong_model.worker.prompts import teach_messages
from shared.contracts.distillation import Distillation, Guidance, Phase, Teacher
from shared.contracts.estimate import Estimate, Price, Spend
from shared.contracts.rows import ComparisonInput, JudgeInput
from shared.judging.prompts import compare_messages, critique_messages, repair_messages, review_messages
from shared.plan.allocation import allocate
from shared.plan.estimate import RULES, Known, Pilot, Work, estimate, sizes
from tests.fakes.simulated import questions

PRICES = {"default": Price(1.0, 2.0), "judge": Price(10.0, 20.0)}


def of(
    train: int = 40,
    references: bool = True,
    prices: dict[str, Price] = PRICES,
    pilot: Pilot | None = None,
    judge_measures: bool = False,
    judge_decides: bool = True,
    material: int = 0,
    **spec,
):
    made = Distillation(domain="d", **spec)
    rows = sizes(questions(train=train, dev=0, test=0, references=references))
    counts = allocate(train, made)
    dev, test = sizes(questions(train=0, dev=10, test=0)), sizes(questions(train=0, dev=0, test=20))
    work = Work(dict.fromkeys(counts, rows), counts, dev, test, judge_measures, judge_decides, material)
    return estimate(made, work, prices, pilot)


def calls(estimated: Estimate) -> dict[str, tuple[float, float]]:
    return {name: (spend.calls.low, spend.calls.high) for name, spend in estimated.phases.items()}


@pytest.mark.parametrize(
    ("references", "spec", "expected"),
    [
        # 16 in the pilot, which the 40 of the phase hold; a guideline may come out otherwise, or an answer be unusable
        (True, {"phases": ["distill"], "guidance": "none"}, {"pilot": (16, 16), "distill": (24, 40)}),
        (True, {"phases": ["distill"], "guidance": "auto"}, {"pilot": (32, 32), "distill": (24, 40)}),
        (True, {"phases": ["distill"], "guidance": "best"}, {"pilot": (32, 32), "distill": (48, 80)}),
        # the judge compares, in both orders and again where a reply is none, after it was tried on four answers
        (False, {"phases": ["distill"], "guidance": "auto"}, {"pilot": (68, 104), "distill": (24, 40)}),
        (True, {"phases": ["distill"], "distill": {"answers": "references"}}, {}),
        # hints for all but the last try, each perhaps asked for twice
        (True, {"phases": ["iterate"], "judge": {"grader": "chrf"}}, {"iterate": (0, 160)}),
        (False, {"phases": ["iterate"], "judge": {"grader": "chrf"}}, {"iterate": (40, 240)}),
        (True, {"phases": ["iterate"], "iterate": {"rounds": 4}}, {"iterate": (10, 240)}),
        (
            True,
            {"phases": ["iterate"], "judge": {"grader": "chrf"}, "iterate": {"tries": 1, "on_failure": "teacher"}},
            {"iterate": (0, 40)},
        ),
        (True, {"phases": ["evolve"]}, {}),
        (
            True,
            {"phases": ["evolve"], "evaluation": {"judged_questions": 30, "max_judge_calls": 50}},
            {"evaluate": (24, 48)},
        ),
        (
            True,
            {"phases": ["evolve"], "evaluation": {"judged_questions": 30}, "batch_size": 8},
            {"evaluate": (32, 160)},
        ),
    ],
)
def test_calls_are_counted_as_the_phases_make_them(references: bool, spec: dict[str, Any], expected: dict[str, Any]):
    assert calls(of(references=references, **spec)) == expected


@given(
    guidance=st.sampled_from(list(Guidance)),
    references=st.booleans(),
    phases=st.sampled_from([["distill"], ["iterate"], ["distill", "iterate", "evolve"]]),
    grader=st.sampled_from([None, "chrf"]),
    train=st.integers(4, 60),
    ground=st.booleans(),
    max_tokens=st.integers(1, 2000),
)
def test_low_is_never_above_high_and_the_total_is_the_sum(
    guidance, references, phases, grader, train, ground, max_tokens
):
    estimated = of(
        train, references, guidance=guidance, phases=phases, judge={"grader": grader},
        teacher={"ground": ground, "max_tokens": max_tokens}, evaluation={"judged_questions": 5},
    )  # fmt: skip
    for spend in (*estimated.phases.values(), estimated.total):
        for name in Spend.model_fields:
            span = getattr(spend, name)
            assert 0 <= span.low <= span.high, name
    for name in ("calls", "input_tokens", "output_tokens", "usd"):
        assert getattr(estimated.total, name).high == pytest.approx(
            sum(getattr(spend, name).high for spend in estimated.phases.values())
        )


def test_each_role_is_paid_by_its_own_provider():
    estimated = of(phases=["distill", "iterate"], guidance="none", judge={"provider": "judge"})
    for name, price in (("distill", PRICES["default"]), ("iterate", PRICES["judge"])):
        spend = estimated.phases[name]
        assert spend.usd is not None
        assert spend.usd.high == pytest.approx(price.usd(spend.input_tokens.high, spend.output_tokens.high))


def test_a_price_that_is_not_known_leaves_the_usd_open():
    estimated = of(phases=["iterate"], judge={"provider": "other"})
    assert estimated.total.usd is None
    assert any("'other' is not known" in line for line in estimated.assumptions)
    assert any("price of 0" in line for line in of(prices={"default": Price(0.0, 0.0)}).assumptions)


def test_the_fixed_parts_of_the_real_prompts_are_within_the_allowance():
    """The texts and the domain are counted apart; what a second request adds is the reply (counted) and the complaint."""
    judged = JudgeInput(id="a", question="Q", answer="A", rationale="R", reference="F")
    compared = ComparisonInput(id="a", question="Q", first="A", second="B", reference="F")
    asked = [
        teach_messages("D", "Q", notes, "F" * length, ground)
        for notes in (None, "N")
        for length in (1, 300)
        for ground in (True, False)
    ]
    for messages in (review_messages("D", judged), critique_messages("D", judged), compare_messages("D", compared)):
        asked += [messages, repair_messages(messages, "", ["critique", "correct"])]
    for messages in asked:
        fixed = sum(len(message["content"].encode()) for message in messages)
        assert RULES[0] <= fixed <= RULES[1] - 100, messages  # 100: what a template puts around the messages


def test_after_the_pilot_its_calls_take_the_place_of_the_bounds():
    spec: dict[str, Any] = {"phases": ["distill"], "guidance": "auto", "distill": {"questions": 40}}
    before = of(**spec)
    known = {"unguided": Known(input_tokens=200, output_tokens=20, bytes=30, spread=0.1)}
    paid = Spend()
    after = of(pilot=Pilot(paid, Guidance.NONE, known, usable=14), **spec)
    assert (before.basis, after.basis) == ("price list", "pilot")
    assert calls(after) == {"pilot": (0, 0), "distill": (24, 26)}
    distill = after.phases["distill"]
    assert distill.output_tokens.low == pytest.approx(24 * 18)
    assert distill.output_tokens.high == pytest.approx(26 * 22)
    assert distill.input_tokens.low / 24 == pytest.approx(200, rel=0.05)
    bounds = before.phases["distill"]
    assert bounds.input_tokens.low < distill.input_tokens.low
    assert distill.input_tokens.high < bounds.input_tokens.high


def test_bytes_are_those_of_utf8():
    changes = {"question": "größe", "reference": None, "teacher_context": "é"}
    row = questions(train=1, dev=0, test=0)[0].model_copy(update=changes)
    measured = sizes([row])
    assert (measured.question.tolist(), measured.reference.tolist(), measured.material.tolist()) == ([7], [0], [2])


def test_each_sample_of_the_teacher_is_a_call():
    spec: dict[str, Any] = {"phases": ["distill", "iterate"], "guidance": "none", "iterate": {"on_failure": "teacher"}}
    spec |= {"judge": {"grader": "string_check"}}
    once, thrice = of(**spec), of(teacher={"samples": 3}, **spec)
    for stage in ("pilot", "distill"):
        assert calls(thrice)[stage] == tuple(3 * count for count in calls(once)[stage])
        before, after = once.phases[stage], thrice.phases[stage]
        assert after.input_tokens.high == pytest.approx(3 * before.input_tokens.high)
        assert after.output_tokens.low == pytest.approx(3 * before.output_tokens.low)
    corrected = calls(thrice)["iterate"][1] - calls(once)["iterate"][1]
    assert corrected == 2 * allocate(40, Distillation(domain="d", **spec))[Phase.ITERATE]
    assert any("3 calls for each question" in line for line in thrice.assumptions)


def test_samples_need_a_temperature():
    assert Distillation(domain="d", teacher=Teacher(samples=3)).teacher.temperature == 0.7
    assert Teacher(samples=3, temperature=1.0).temperature == 1.0
    with pytest.raises(ValidationError, match="at temperature 0 all samples are one answer"):
        Teacher(samples=3, temperature=0)
    assert Teacher().temperature == 0


def test_material_is_read_with_every_call():
    spec: dict[str, Any] = {"phases": ["distill"], "guidance": "none"}
    without, with_it = of(**spec), of(material=10_000, **spec)
    for stage, calls_at_least, calls_at_most in (("pilot", 16, 16), ("distill", 24, 40)):
        before, after = (estimated.phases[stage].input_tokens for estimated in (without, with_it))
        assert after.low - before.low == pytest.approx(calls_at_least * 10_000 / 5)
        assert after.high - before.high == pytest.approx(calls_at_most * 10_000 / 2.5)
        assert after.at_most is not None
        assert before.at_most is not None
        assert after.at_most - before.at_most == pytest.approx(calls_at_most * 10_000)
    assert without.phases["distill"].output_tokens == with_it.phases["distill"].output_tokens


def test_where_the_judge_measures_its_comparisons_are_counted():
    """20 test and 10 dev questions, both orders, each reply perhaps asked for twice."""
    spec: dict[str, Any] = {"phases": ["iterate"], "iterate": {"rounds": 2}}
    estimated = of(judge_measures=True, evaluation={"baselines": ["few_shot"], "shot_seeds": 3}, **spec)
    on_dev, on_test = (
        1 + 2 + 1,
        1 + 2 + 3 + 3,
    )  # phase, rounds, served; phase, rounds, draws, and draws with the final model
    assert calls(estimated)["evaluate"] == (0, 4 * (10 * on_dev + 20 * on_test))
    capped = of(judge_measures=True, evaluation={"baselines": [], "dev_questions": 3, "test_questions": 2}, **spec)
    assert calls(capped)["evaluate"] == (0, 4 * (3 * on_dev + 2 * 3))
    assert "evaluate" not in of(**spec).phases


def test_a_judge_no_better_than_chance_is_asked_for_hints_alone():
    """What labels have found is known when the pilot's estimate is made."""
    spec: dict[str, Any] = {"phases": ["distill", "iterate"], "guidance": "best", "distill": {"questions": 20}}
    bare = calls(of(references=False, judge_measures=True, judge_decides=False, **spec))
    assert bare == {"pilot": (32, 32), "distill": (8, 40), "iterate": (0, 0), "evaluate": (0, 0)}
    assert calls(of(references=False, judge_measures=True, **spec))["iterate"] == (20, 120)
    graded = of(judge_decides=False, phases=["iterate"], judge={"grader": "chrf"})
    assert calls(graded) == {"iterate": (0, 160)}


def test_without_references_in_train_no_baseline_is_measured():
    spec: dict[str, Any] = {"phases": ["iterate"], "judge_measures": True}
    assert calls(of(references=False, **spec))["evaluate"] == (0, 4 * (10 * 2 + 20))
    assert calls(of(**spec))["evaluate"] == (0, 4 * (10 * 2 + 20 * (4 + 3)))
