"""A job's CSV of losses: OpenAI's columns, steps counted through all trainings, and trainings that logged nothing."""

import csv
import io

from services.orchestrator.jobs.result_file import as_csv
from shared.contracts.steps import Point, StepResult


def test_steps_are_counted_through_all_trainings():
    first = StepResult(
        adapter="a", curve=[Point(step=1, loss=2.5, accuracy=0.25), Point(step=2, loss=2.0, accuracy=0.5)]
    )
    from_before = StepResult(adapter="b", metrics={"steps": 5, "loss": 1.25})
    last = StepResult(adapter="c", curve=[Point(step=1, loss=0.7)])
    content = as_csv([("distill/train", first), ("iterate/1/train", from_before), ("evolve/1/prefer", last)])
    assert content is not None
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert list(rows[0])[:4] == ["step", "train_loss", "train_accuracy", "valid_loss"]
    assert [(row["step"], row["train_loss"], row["train_accuracy"], row["training"]) for row in rows] == [
        ("1", "2.5", "0.25", "distill/train"),
        ("2", "2.0", "0.5", "distill/train"),
        ("7", "1.25", "", "iterate/1/train"),
        ("8", "0.7", "", "evolve/1/prefer"),
    ]


def test_nothing_logged_is_no_file():
    assert as_csv([]) is None
    assert as_csv([("distill/train", StepResult(adapter="a"))]) is None
