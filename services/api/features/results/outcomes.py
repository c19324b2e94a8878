"""What became of each example of a job, from one walk over the inputs and results of its finished steps, so that it cannot disagree
with them. The walk is kept until the job has finished another step.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.api.context import ProjectContext
from services.api.features.jobs import service as jobs
from services.api.features.results.step_files import finished, given_to, made_by
from services.api.paging import Paging, page_of
from shared.contracts.data import Question, Split
from shared.contracts.grader_kinds import name_of
from shared.contracts.jobs import JobRequest
from shared.contracts.json_types import Json
from shared.contracts.outcomes import Dropped, Happened, Judged, MeasuredAnswer, Order, OutcomeObject, Tried
from shared.contracts.rows import OVERALL
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import learns
from shared.contracts.steps import StepKind
from shared.contracts.views import Listed
from shared.datasets.files import data_of
from shared.jobs.records import JobRecord, StepRecord

FINAL = "final-over-base"  # what the report's own comparison of the final model is called here
KEPT = 4  # jobs whose walks are kept
_kept: OrderedDict[str, "tuple[str, Trace]"] = OrderedDict()
_lock = threading.Lock()

Link = tuple[StepKey, StepKind, Json, Json]  # a row of a step: given and made


@dataclass
class Facts:
    """Of one example."""

    tries: list[Tried] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    measured: dict[str, MeasuredAnswer] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)  # of the teacher's responses in phase 1
    drawn: dict[int, list[str]] = field(default_factory=dict)  # by round, the answers that were sampled
    verdicts: dict[int, dict[str, tuple[bool, str]]] = field(default_factory=dict)  # by round and answer
    longest: int = 0  # text of an answer


Trace = dict[str, Facts]


def page(
    context: ProjectContext,
    job_id: str,
    paging: Paging,
    split: Split | None,
    happened: Happened | None,
    round_number: int | None,
    attempt: int | None,
    search: str | None,
    order: Order,
) -> Listed[OutcomeObject]:
    """The examples of the job's files to which that happened. Raises NotFound once the results of the job's steps have expired."""
    job = jobs.lifecycle.record(context, job_id)
    trace = _trace(context, job)
    rows = context.job_rows(data_of(job, context.file))
    wanted = search.casefold() if search else ""
    shown = [
        outcome
        for row in rows.read(rows.places(split))
        if _holds(row, wanted)
        and _is(facts := trace.get(row.id, Facts()), happened, round_number, attempt)
        and (outcome := _as_object(row, facts))
    ]
    if order is Order.LONGEST:
        shown.sort(key=lambda outcome: -outcome.characters)
    return page_of(shown, paging, "example")


def _holds(row: Question, wanted: str) -> bool:
    texts = (row.id, row.question, row.reference or "", row.category or "")
    return not wanted or any(wanted in text.casefold() for text in texts)


def _is(facts: Facts, happened: Happened | None, round_number: int | None, attempt: int | None) -> bool:
    tries = [one for one in facts.tries if round_number in (None, one.round)]
    if happened is None:
        return (round_number is None or bool(tries)) and (
            attempt is None or any(one.attempt == attempt for one in tries)
        )
    match happened:
        case Happened.FAILED:
            return bool(tries) and not any(one.passed for one in tries)
        case Happened.PASSED:
            return any(one.passed and attempt in (None, one.attempt) for one in tries)
        case Happened.TURNED:
            return any(one.turned for one in facts.judged)
        case Happened.DROPPED:
            return bool(facts.dropped)
        case Happened.LEARNED:
            return bool(facts.learned)
        case Happened.MEASURED:
            return bool(facts.measured)


def _as_object(row: Question, facts: Facts) -> OutcomeObject:
    return OutcomeObject(
        id=row.id,
        question=row.text,
        reference=row.reference,
        category=row.category,
        split=row.split,
        characters=len(row.text) + max(len(row.reference or ""), facts.longest),
        tries=facts.tries,
        dropped=facts.dropped,
        learned=facts.learned,
        judged=facts.judged,
        measured=list(facts.measured.values()),
    )


def _trace(context: ProjectContext, job: JobRecord) -> Trace:
    steps = finished(context, job.id)
    state = f"{len(steps)} {steps[-1].id if steps else ''} {any(step.result_ref is None for step in steps)}"
    with _lock:
        known = _kept.get(job.id)
        if known is not None and known[0] == state:
            _kept.move_to_end(job.id)
            return known[1]
    trace = _walked(context, job, steps)
    with _lock:
        _kept[job.id] = (state, trace)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return trace


def _walked(context: ProjectContext, job: JobRecord, steps: Sequence[StepRecord]) -> Trace:
    judge = JobRequest.model_validate(job.request).distillation.judge
    grader, pass_mark = name_of(judge.grader) if judge.grader is not None else "", judge.pass_mark
    trace: Trace = defaultdict(Facts)
    trained: set[str] = set()
    for step in steps:
        key, kind = StepKey.parse(step.key), StepKind(step.kind)
        if learns(kind) and not key.is_baseline:
            trained.add(key.phase)
        for link in _links(context, step, key, kind):
            _take(trace[link[2]["id"]], link, grader, pass_mark)
    for facts in trace.values():
        _conclude(facts, trained)
    return dict(trace)


READ = {
    StepKind.TEACH, StepKind.REASON, StepKind.SAMPLE, StepKind.REVIEW, StepKind.GRADE, StepKind.ANSWER, StepKind.COMPARE,
    StepKind.SEARCH, StepKind.SFT, StepKind.DPO,
}  # fmt: skip


def _links(context: ProjectContext, step: StepRecord, key: StepKey, kind: StepKind) -> Iterator[Link]:
    if kind not in READ:
        return
    rows = given_to(context, step).rows
    if learns(kind):
        yield from ((key, kind, row, {}) for row in rows)
        return
    made = made_by(context, step).rows
    by_id = {row["id"]: row for row in made} if len(made) != len(rows) else {}
    for place, row in enumerate(rows):
        result = by_id.get(row["id"]) if by_id or not made else made[place]
        if result is not None:
            yield key, kind, row, result


def _take(facts: Facts, link: Link, grader: str, pass_mark: float) -> None:
    key, kind, given, made = link
    number = key.round or 1
    texts = [made.get(name) for name in ("answer", "chosen", "rejected")]
    facts.longest = max(facts.longest, *(len(text) for text in texts if isinstance(text, str)), 0)
    sampled = key.phase == "iterate" and key.role.startswith("samples/")
    if learns(kind):
        if not key.is_baseline and str(key) not in facts.learned:
            facts.learned.append(str(key))
    elif kind is StepKind.TEACH and key.phase == "distill":
        facts.outcomes.append(made["outcome"])
    elif kind is StepKind.SAMPLE and sampled:
        facts.drawn[number] = [one["answer"] for one in made["completions"]]
    elif kind is StepKind.REVIEW and sampled:
        facts.verdicts.setdefault(number, {})[given["answer"]] = (made["passed"], made["by"])
    elif kind is StepKind.GRADE and sampled:
        if (score := made["scores"].get(grader)) is not None:
            facts.verdicts.setdefault(number, {})[given["answer"]] = (score >= pass_mark, "grader")
    elif kind is StepKind.REASON and key.phase == "iterate" and (made["finish_reason"] in ("length", "too_long")):
        by = "cut_off" if made["finish_reason"] == "length" else "unanswered"  # such attempts reach no judge
        facts.tries.append(Tried(round=number, attempt=_attempt(key), passed=False, by=by))
    elif kind is StepKind.REVIEW and key.phase == "iterate":
        facts.tries.append(Tried(round=number, attempt=_attempt(key), passed=made["passed"], by=made["by"]))
    elif kind is StepKind.SEARCH:
        if fault := _fault(made):
            facts.dropped.append(Dropped(phase=key.phase, why=fault))
    elif kind is StepKind.COMPARE and key.phase == "evaluate":
        facts.judged.append(_judged(key, given, made))
    elif kind is StepKind.ANSWER and key.split is not None:
        _measured(facts, key, made["answer"])
    elif kind is StepKind.GRADE and key.split is not None:
        _measured(facts, key, given["answer"]).scores.update(made["scores"])


def _attempt(key: StepKey) -> int:
    """Of "try-2/verdicts"."""
    return int(key.role.partition("/")[0].removeprefix("try-"))


def _measured(facts: Facts, key: StepKey, answer: str) -> MeasuredAnswer:
    return facts.measured.setdefault(key.student, MeasuredAnswer(student=key.student, answer=answer, scores={}))


def _judged(key: StepKey, given: Json, made: Json) -> Judged:
    return Judged(
        step=str(key),
        over=key.student or FINAL,
        first=given["first"],
        second=given["second"],
        winner=made["winners"].get(OVERALL, "tie"),
        turned=OVERALL in made.get("flipped", ()),
        parsed=made.get("parsed", True),
    )


def _fault(pair: Json) -> str | None:
    """Why a pair of phase 3 is not learned."""
    if pair.get("cut_off"):
        return "cut_off"
    if not pair["chosen"].strip() or not pair["rejected"].strip():
        return "empty"
    return "identical" if pair["chosen"].strip() == pair["rejected"].strip() else None


def _conclude(facts: Facts, trained: set[str]) -> None:
    """What can be said once all steps are read."""
    if "distill" in trained and facts.outcomes and not any(key.startswith("distill/") for key in facts.learned):
        why = "checks" if "ok" in facts.outcomes else facts.outcomes[-1]
        facts.dropped.insert(0, Dropped(phase="distill", why=why))
    for number, answers in facts.drawn.items():
        said = facts.verdicts.get(number)
        passing = sum(said.get(answer, (False, ""))[0] for answer in answers) if said else None
        by = next(iter(said.values()))[1] if said else "nobody"
        one = Tried(round=number, passed=bool(passing), by=by, samples=len(answers), passing=passing)
        facts.tries.append(one)
    facts.tries.sort(key=lambda one: (one.round, one.attempt or 0))
