"""What a reader of a report must know before trusting it: its data, its intervals, what training could not use."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from services.orchestrator.run import Run
from shared.contracts.data import Question, Split
from shared.contracts.distillation import SHARES
from shared.evaluation.statistics import caution

SHOWN = 3
MEASURED = (Split.DEV, Split.TEST)


def conflicting(questions: Iterable[Question]) -> list[list[str]]:
    """Ids of rows that ask the same in the same words and have different references, group by group."""
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        if question.reference:
            groups[" ".join(question.text.casefold().split())].append(question)
    return [
        [row.id for row in rows]
        for rows in groups.values()
        if len({" ".join((row.reference or "").split()) for row in rows}) > 1
    ]


def data_of(run: Run) -> dict[str, Any]:
    """What the job's rows are worth: how many have no reference, and which contradict one another."""
    found = conflicting(row for split in Split for row in run.split(split))
    return {
        "without_reference": {split.value: sum(not row.reference for row in run.split(split)) for split in Split},
        "conflicting_references": len(found),
        "conflicting_ids": found[:SHOWN],
    }


def warnings(run: Run, data: dict[str, Any]) -> list[str]:
    return [*_of_data(run, data), *_of_intervals(run), *_of_verdicts(run.records), *_of_lengths(run.records)]


def _of_data(run: Run, data: dict[str, Any]) -> list[str]:
    found = []
    for split, use in ((Split.DEV, "decisions rest"), (Split.TEST, "the table rests")):
        missing, n = data["without_reference"][split.value], len(run.split(split))
        if missing and not run.judge_measures:
            found.append(
                f"{missing} of {n} {split.value} questions have no reference: {use} on the other {n - missing}"
            )
    if data["conflicting_references"]:
        first = ", ".join(data["conflicting_ids"][0])
        found.append(
            f"questions asked more than once with different references: {data['conflicting_references']} ({first}); "
            "at most one of the answers can be counted as right each time"
        )
    return found


def _of_intervals(run: Run) -> list[str]:
    """One line for each set of rows that is too small for its intervals. The pilot's gain is a mean whatever the metric,
    and so is what the judge measures, which needs no references."""
    is_share = run.spec.primary_metric in SHARES and not run.judge_measures
    sets = [(f"{split.value} split", is_share, len(run.measured(split))) for split in MEASURED]
    if (compared := run.records.get("pilot", {}).get("compared")) is not None:
        sets.append(("pilot", False, compared))
    return [f"{name}: {said}" for name, share, n in sets if (said := caution(share, n))]


def _of_verdicts(records: dict[str, Any]) -> list[str]:
    found = []
    for number, record in enumerate(records.get("iterate", {}).get("rounds", []), start=1):
        asked, unparsed = sum(record["asked_by_try"]), record["unparsed_verdicts"]
        if 2 * unparsed > asked:
            found.append(
                f"round {number}: {unparsed} of {asked} verdicts could not be read; what the judge did not pass in words "
                "that can be read was not trained on"
            )
    return found


def _of_lengths(records: dict[str, Any]) -> list[str]:
    """Rows that were kept, paid for, and then too long to train on."""
    parts: Sequence[tuple[str, dict[str, Any]]] = [
        ("phase 1", records.get("distill", {})),
        *((f"round {i}", record) for i, record in enumerate(records.get("iterate", {}).get("rounds", []), start=1)),
        *((f"turn {i}", record) for i, record in enumerate(records.get("evolve", {}).get("turns", []), start=1)),
    ]
    found = []
    for name, record in parts:
        if dropped := record.get("training", {}).get("dropped_too_long"):
            found.append(f"{name}: {dropped} rows are longer than adapter.max_length and were not trained on")
        if unread := record.get("too_long"):
            found.append(f"{name}: {unread} questions do not fit into the student's context and were not answered")
    return found
