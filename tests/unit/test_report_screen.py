"""The report as tables: every row is there, in the method's order, with the figures of the report."""

import io

import pytest
from rich.console import Console

from services.cli.report_screen import show_report
from shared.contracts.report import read_report
from shared.reporting.markdown import as_markdown
from tests.fakes.reports import REPORT


def test_markdown_has_every_row_with_its_interval():
    text = as_markdown(read_report(REPORT))
    table, against, decisions, costs = (part for part in text.split("\n\n") if part.startswith("|"))
    assert len(table.splitlines()) == 2 + 3
    assert {line.count("|") for line in table.splitlines()} == {7}
    assert "| phase 3, evolve | 60 | 0.500 [0.400, 0.600] | 0.100 [0.050, 0.200] | -0.250 [-0.350, -0.150] |" in table
    assert "[+0.200, +0.400] | 40 / 15 / 5 |" in table
    assert "| phase 2, iterate | +0.000 [-0.100, +0.100] |" in against
    for line in (
        "- distill: 90 of 112 answers kept, dropped 22 refused; answers of the teacher",
        "- iterate, round 1: passed within try 1: 25%, try 2: 50% of 24 questions; 12 answered by the teacher; "
        "3 hints dropped because they told the answer",
        "- evolve, turn 1: 14 pairs from 24 questions by beam, dropped 10 identical",
    ):
        assert line in text
    assert "| phase 3, evolve | rejected | -0.200 [-0.300, -0.100] |  |  |  |" in decisions
    assert [line.split(" | ")[0] for line in costs.splitlines()[2:]] == [
        "| phase 2, iterate",
        "| phase 3, evolve",
        "| later",
    ]
    assert "| phase 3, evolve | 0 | 0 | 0 | 0 | 0.0000 | 0.0000 | 0.0000 | 12 | 2 |" in costs


@pytest.mark.parametrize(
    ("decision", "gain", "words"),
    [
        (
            "promoted",
            [0.2, 0.1, 0.3],
            "phase 2, iterate helped: better than phase 1, distill on 43 questions of dev, +0.200",
        ),
        (
            "undecided",
            [0.0, -0.1, 0.1],
            "phase 2, iterate is not shown to help: not told apart from phase 1, distill on 43",
        ),
        ("rejected", [-0.2, -0.3, -0.1], "phase 2, iterate did harm and was undone: worse than phase 1, distill on 43"),
        ("undecided", [0.0, 0.0, 0.0], "phase 2, iterate trained nothing: the student stayed as it was"),
    ],
)
def test_whether_a_phase_helped_is_said_plainly(decision: str, gain: list[float], words: str):
    """With what it is compared with, and on how many questions."""
    made = {"phase": "iterate", "decision": decision, "gain_on_dev": gain, "against": "distill", "n": 43}
    text = as_markdown(read_report(REPORT | {"decisions": [made]}))
    assert words in text
    assert "On 60 questions of test, chrF: base 0.500 [0.400, 0.600], final model (phase 3, evolve) 0.500" in text


def test_the_screen_calls_a_loss_a_loss():
    file = io.StringIO()
    show_report(Console(file=file, width=200), read_report(REPORT))
    shown = file.getvalue()
    assert "is worse than base model: -0.250" in shown
    assert "is not told apart from phase 2, iterate" in shown
    assert "90 of 112 answers kept, dropped 22 refused" in shown
    assert "try 1: 25%, try 2: 50% of 24 questions; 12 answered by the teacher" in shown
    assert "none, rejected against the base model" in shown


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (
            {
                "by": "judge",
                "without_reference": {"train": 9, "dev": 8, "test": 7},
                "compared": 31,
                "flipped": 5,
                "unparsed": 2,
            },
            "the judge decided, 31 pairs of answers compared; 5 verdicts turned with the order, 2 could not be read",
        ),
        (
            {"by": "references", "without_reference": {"train": 9, "dev": 8, "test": 7}},
            "for want of a reference: 8 questions of dev, 7 of test",
        ),
    ],
)
def test_questions_without_a_reference_are_told_in_every_form(measured: dict, words: str):
    file = io.StringIO()
    report = read_report(REPORT | {"measured": measured})
    show_report(Console(file=file, width=200), report)
    assert words in file.getvalue()
    assert words in as_markdown(report)
    only_train = {"by": "references", "without_reference": {"train": 9, "dev": 0, "test": 0}}
    assert "reference:" not in as_markdown(read_report(REPORT | {"measured": only_train}))


def test_the_screen_tells_what_the_judge_is_worth():
    share = {"win": 30, "tie": 8, "loss": 2, "share": [0.85, 0.75, 0.92]}
    score = {"base": [4.0, 3.5, 4.5], "final": [7.5, 7.0, 8.0], "gain": [3.5, 3.0, 4.0]}
    rates = {
        "unparsed": 0, "preferred_the_first_shown": [0.5, 0.4, 0.6], "preferred_the_longer": [0.5, 0.4, 0.6],
        "length_bias": None,
    }  # fmt: skip
    labels = rates | {
        "n": 50, "agreement": [0.4, 0.28, 0.54], "chance": 0.45, "kappa": None, "decided": [0.5, 0.3, 0.7],
        "n_decided": 20, "flip_rate": [0.6, 0.4, 0.7], "better_than_chance": False, "warnings": [],
    }  # fmt: skip
    judged = {
        "n": 40, "wanted": 60, "calls": 160, "max_calls": 160, "ended": "budget_used_up", "criteria": {"accuracy": share, "overall": share},
        "absolute": {"n": 37, "unparsed": {"base": 3, "final": 0}, "criteria": {"accuracy": score, "overall": score}},
        "judge": rates | {"n": 40, "flip_rate": [0.1, 0.0, 0.2], "warnings": ["the judge favours a position"]},
    }  # fmt: skip
    file = io.StringIO()
    judge = {"rests_on_it": [], "labels": labels, "decides": False, "warnings": ["it decides nothing"]}
    report = read_report(REPORT | {"judged": judged, "judge": judge})
    show_report(Console(file=file, width=200), report)
    shown = file.getvalue()
    for part in (
        "0.850 [0.750, 0.920]", "+3.50 [+3.00, +4.00]", "160 calls of at most 160", "evaluation.max_judge_calls leaves no room",
        "scores that were not given: base 3, final 0", "agrees with 40% [28%, 54%] of 50 human labels", "chance is 45%",
        "kappa not defined", "it decides nothing", "the judge favours a position",
    ):  # fmt: skip
        assert part in shown, part
    without = judged | {"absolute": None}
    show_report(Console(file=io.StringIO(), width=200), read_report(REPORT | {"judged": without, "judge": None}))
