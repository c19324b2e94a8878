"""The judge's bench: both forms of a label, and a second start that asks for nothing again."""

import json
from collections import Counter
from pathlib import Path

import pytest

from services.judge.compare import agreed, tally
from shared.contracts.errors import TransientError, UserError
from shared.contracts.rows import ComparisonInput
from shared.contracts.steps import JudgeParams, Sampling
from shared.judging.prompts import CRITERIA
from shared.judging.replies import Choice
from tests.bench.judge import BATCH, measure, read

PARAMS = JudgeParams(judge="default", domain="shell", sampling=Sampling(max_tokens=64))


def write(path: Path, count: int) -> Path:
    rows = [
        {
            "id": f"p{n}",
            "input": f"question {n}",
            "output_1": "good",
            "output_2": "bad",
            "label": 1 + n % 2,
            "annotators": [],
        }
        for n in range(count)
    ]
    extra = [
        {"input": "tie", "output_1": "a", "output_2": "b", "label": 0},
        {"input": "equal and yet preferred", "output_1": "a", "output_2": "a", "label": 2},
        rows[0],
        {"question": "ours", "first": "x", "second": "", "preferred": "first", "reference": "x"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, *extra]))
    return path


class Always:
    """A judge of one opinion that breaks off after so many batches."""

    def __init__(self, batches: int = 1000):
        self.left = batches
        self.asked: list[str] = []

    async def __call__(self, rows: list[ComparisonInput]):
        if not self.left:
            raise TransientError("the gateway is gone")
        self.left -= 1
        self.asked += [row.id for row in rows]
        good, bad = (Choice.model_validate(dict.fromkeys(CRITERIA, side)) for side in "AB")
        preferences = [agreed(row.id, good, bad, []) for row in rows]
        return preferences, tally(preferences, [good, bad] * len(rows)) | {"calls": 2 * len(rows)}


def test_both_forms_are_read_and_what_is_left_out_is_counted(tmp_path: Path):
    labels, left_out = read(write(tmp_path / "labels.jsonl", 20))
    assert len(labels) == 22
    assert left_out == 2
    assert Counter(x.preferred for x in labels) == {"first": 11, "second": 10, "tie": 1}
    assert [x.digest for x in labels] == sorted(x.digest for x in labels)
    (tmp_path / "bad.jsonl").write_text('{"input": "q", "output_1": "a", "output_2": "b", "label": 3}')
    with pytest.raises(UserError, match=r"bad.jsonl, line 1: preferred: "):
        read(tmp_path / "bad.jsonl")


async def test_it_goes_on_where_it_was(tmp_path: Path):
    labels, _ = read(write(tmp_path / "labels.jsonl", 28))
    kept = tmp_path / "kept.json"
    broken = Always(batches=2)
    with pytest.raises(TransientError):
        await measure(labels, PARAMS, broken, kept)
    whole = Always()
    figures = await measure(labels, PARAMS, whole, kept)
    assert len(broken.asked) == 2 * BATCH
    assert sorted(broken.asked + whole.asked) == sorted(x.digest[:16] for x in labels)
    assert figures["n"] == len(labels) == 30
    assert figures["calls"] == 60
    firsts = sum(x.preferred == "first" for x in labels)
    assert figures["agreement"][0] == pytest.approx(firsts / 30, abs=1e-6)
    assert (figures["kappa"], figures["flip_rate"][0], figures["preferred_the_first_shown"][0]) == (0, 0, 0.5)
    assert figures["better_than_chance"] is False
    again = Always()
    assert await measure(labels, PARAMS, again, kept) == figures
    assert again.asked == []
    other = PARAMS.model_copy(update={"domain": "gardening"})
    await measure(labels[:BATCH], other, again, kept)
    assert len(again.asked) == BATCH, "another question to the judge is another measurement"
