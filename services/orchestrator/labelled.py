"""The judge held against human labels, before its word counts anywhere.

A judge that is no better than chance on the labels decides nothing: the pilot and `guidance: best` treat its comparisons
as undecided, nothing passes in phase 2 by its word, nobody pays for either, and the report says what of the job rests on it.
"""

from collections import Counter
from typing import Any

from services.orchestrator import selection
from services.orchestrator.run import Run
from shared.contracts.distillation import Guidance, Phase
from shared.contracts.rows import ComparisonInput, Preference
from shared.contracts.steps import StepKind
from shared.evaluation.judge_quality import LABELS_LEAST, agreement, quality

UNMEASURED = "nobody has held this judge against human labels; POST /v1/labels takes some"
RESTS = {
    "measuring": "no model is promoted by this job: dev and test have hardly any references, and the judge is not asked",
    "guidance": "which way of asking the teacher is better is undecided: no references compare the answers, "
    "and the judge is not asked",
    "iterate": "nothing passed in phase 2 by this judge's word: where no grader decides, questions were not tried but dropped, "
    "or answered by the teacher (iterate.on_failure)",
    "evaluation": "take the judge's comparison of the final model with the base, and its scores, for nothing",
}


async def hear_labels(run: Run) -> None:
    """Have the judge compare the project's labelled pairs, in both orders, if anything in this job rests on it.

    Leaves the figures in run.judge and says in run.judge_decides whether its word counts.
    """
    places = rests_on_the_judge(run)
    labels = run.labels() if places else []
    run.judge = {"rests_on_it": places, "labels": None, "decides": True, "warnings": []}
    if not labels:
        run.judge["warnings"] = [UNMEASURED] if places else []
        return
    run.expect(StepKind.COMPARE, len(labels))
    rows = [
        ComparisonInput(id=row.id, question=row.question, first=row.first, second=row.second, reference=row.reference)
        for row in labels
    ]
    seen: list[Preference] = []
    counts: Counter[str] = Counter()
    for index, batch in enumerate(selection.batches(rows, run.spec.batch_size)):
        compared = await run.step(f"evaluate/labels/{index}", StepKind.COMPARE, run.judging(), batch)
        seen += [Preference(**row) for row in compared.rows]
        counts.update(compared.metrics)
    preferred = [row.preferred for row in labels]
    found = quality(rows, seen, counts, preferred) | agreement(seen, preferred)
    run.judge_decides = found["better_than_chance"] is not False
    run.judge |= {"labels": found, "decides": run.judge_decides, "warnings": warnings(found, places)}
    value, low, high = found["agreement"]
    await run.say(
        f"the judge agrees with {value:.0%} [{low:.0%}, {high:.0%}] of {len(labels)} labels, chance is {found['chance']:.0%}"
        + ("" if run.judge_decides else ": it decides nothing"),
        type="metrics",
        level="info" if run.judge_decides else "warn",
        agreement=found["agreement"],
        kappa=found["kappa"],
    )


def rests_on_the_judge(run: Run) -> list[str]:
    """Where this job takes the judge's word: measuring (students, without references), guidance, iterate, evaluation."""
    spec = run.spec
    bare = {phase: any(not question.reference for question in run.shard(phase)) for phase in spec.phases}
    places = ["measuring"] if run.judge_measures else []
    both_ways = spec.distill.answers == "teacher" and spec.guidance in (Guidance.AUTO, Guidance.BEST)
    if both_ways and bare.get(Phase.DISTILL):
        places.append("guidance")
    if Phase.ITERATE in bare and (spec.judge.grader is None or bare[Phase.ITERATE]):
        places.append("iterate")
    if spec.evaluation.judged_questions:
        places.append("evaluation")
    return places


def warnings(found: dict[str, Any], places: list[str]) -> list[str]:
    """In words: what the labels say against the judge, and then what rests on it."""
    value, level = found["agreement"][0], found["chance"]
    if found["better_than_chance"] is None:
        few = f"{found['n']} labels are too few to tell whether the judge is better than chance; give {LABELS_LEAST} or more"
        return [few, *found["warnings"]]
    if found["better_than_chance"]:
        return found["warnings"]
    against = f"the judge is no better than chance on the labels ({value:.0%} agree, chance is {level:.0%}): it decides nothing"
    return [against, *(RESTS[place] for place in places), *found["warnings"]]
