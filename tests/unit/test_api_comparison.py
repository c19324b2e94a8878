"""The comparison of an experiment's variants: only what was measured alike is set against each other."""

import pytest

from services.api.features.experiments.service import Finished, comparison
from shared.contracts.experiments import VariantObject
from shared.contracts.report import read_report
from tests.fakes.reports import REPORT

SCORES = {"first": [0.5, 0.0, 1.0, 0.5, 1.0, 0.5], "second": [1.0, 0.5, 1.0, 0.5, 1.0, 1.0]}


def finished(name: str, metric: str, student: str, dev: bool = True) -> Finished:
    row = {
        "name": "distill",
        "n": 6,
        "metrics": {metric: [0.5, 0.4, 0.6]},
        "gain_over_base": [0, 0, 0],
        "scores": SCORES[name],
    }
    report = REPORT | {
        "student": student, "primary_metric": metric, "table": [REPORT["table"][0] | row],
        "final": {"name": "distill", "adapter": None, "over": {}}, "decisions": [], "teacher": {},
    }  # fmt: skip
    if dev:
        report["dev"] = {"n": 6, "value": [0.5, 0.4, 0.6], "scores": SCORES[name][::-1]}
    variant = VariantObject(name=name, job_id=name, status="succeeded", fine_tuned_model=None)
    return Finished(variant, read_report(report), lesson_tokens=0)


@pytest.mark.parametrize(
    ("metrics", "students", "compared"),
    [
        (("chrf", "chrf"), ("small", "large"), True),
        (("judge", "judge"), ("small", "small"), True),
        (("judge", "judge"), ("small", "large"), False),  # each student was held against its own base
        (("chrf", "judge"), ("small", "small"), False),
    ],
)
def test_only_what_was_measured_alike_is_compared(metrics, students, compared: bool):
    rows = comparison([finished(*given) for given in zip(SCORES, metrics, students, strict=True)])
    assert rows[0].gain_over_first == rows[0].dev_gain_over_first == [0.0, 0.0, 0.0], "over itself: no interval"
    assert (rows[1].gain_over_first is not None) == compared
    assert (rows[1].dev_gain_over_first is not None) == compared
    if compared:
        for gain in (rows[1].gain_over_first, rows[1].dev_gain_over_first):
            assert gain is not None
            assert gain[0] == pytest.approx(0.25)


def test_variants_that_decided_on_different_parts_of_dev_are_compared_on_what_they_share():
    """One chose among its rounds on the first and the fourth of six questions."""
    whole, parted = (finished(name, "chrf", "small") for name in SCORES)
    assert parted.report.dev is not None
    kept = [1, 2, 4, 5]
    scores = [parted.report.dev.scores[place] for place in kept]
    dev = parted.report.dev.model_copy(update={"n": 4, "chosen_on": 2, "places": kept, "scores": scores})
    parted = parted._replace(report=parted.report.model_copy(update={"dev": dev}))
    gain = comparison([whole, parted])[1].dev_gain_over_first
    assert gain is not None
    first = SCORES["first"][::-1]
    assert gain[0] == pytest.approx(sum(scores[n] - first[place] for n, place in enumerate(kept)) / 4)
    other = parted._replace(report=parted.report.model_copy(update={"dev": dev.model_copy(update={"chosen_on": 3})}))
    assert comparison([whole, other])[1].dev_gain_over_first is None, "another dev split"


def test_a_report_of_an_earlier_version_has_nothing_of_dev():
    old, new = (finished(name, "chrf", "small", dev=name == "second") for name in SCORES)
    rows = comparison([old, new])
    assert [(row.dev, row.dev_gain_over_first) for row in rows] == [(None, None), ([0.5, 0.4, 0.6], None)]
    assert rows[1].gain_over_first is not None
