"""Whole jobs without a model: the real orchestration, database and report over workers that only pretend.

A student is right on a question or not, by its skill and a draw that belongs to (student, question) alone; what a
training makes of the skill is the test's to say.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from services.judge.agree import votes_of
from services.judge.compare import agreed, tally
from services.orchestrator.method.pipeline import meteor
from services.orchestrator.method.run import DistillationRun
from shared.artifacts.material import NO_MATERIAL, Material
from shared.artifacts.store import Artifacts
from shared.contracts.data import Question, Split
from shared.contracts.grader_kinds import Grader
from shared.contracts.jobs import JobRequest
from shared.contracts.refusals import REFUSALS
from shared.contracts.rows import (
    CUT_OFF,
    AnswerScores,
    Grades,
    Guideline,
    Likelihood,
    Preference,
    PreferencePair,
    Sampled,
    Samples,
    StudentCompletion,
    TeacherResponse,
    Verdict,
    Votes,
)
from shared.contracts.step_key import StepKey
from shared.contracts.steps import (
    AgreeParams,
    Method,
    ModelRef,
    Point,
    Progress,
    StepKind,
    StepRequest,
    StepResult,
    TrainParams,
    content_hash,
)
from shared.grading.agreement import Voter
from shared.jobs.schema import Stores, open_stores
from shared.jobs.tables import DEFAULT_PROJECT
from shared.judging.prompts import CRITERIA
from shared.judging.replies import Choice
from shared.ledger.store import open_ledger
from shared.platform.settings import PlatformSettings
from tests.fakes.store_moves import job_rows

BASE = ModelRef(base="simulated", base_hash="0" * 64)
WRONG = "wrong"
Skill = Callable[[StepRequest, float], float]  # (the training's request, skill before) -> skill after


def draw(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8]) / 2**64


def no_gain(request: StepRequest, before: float) -> float:
    return before


def by_reference(row: dict[str, Any]) -> Verdict:
    passed = row["answer"] == row["reference"]
    return Verdict(id=row["id"], passed=passed, critique=None if passed else "look again", by="grader")


class World:
    """The workers. teacher: question id, guided -> (answer, outcome); skills: by what was trained, None is the base."""

    def __init__(self, base_skill: float = 0.5, train: Skill = no_gain):
        self.skills: dict[str | None, float] = {None: base_skill}
        self.train = train
        self.keys: list[str] = []
        self.teacher: Callable[[dict[str, Any]], tuple[str, str]] = lambda row: (row["reference"] or "", "ok")
        self.judge: Callable[[str, str], str | None] = lambda a, b: "tie"  # answers as shown -> A, B, tie or no verdict
        self.score: Callable[[str], int | None] = lambda answer: 5
        self.forgets: Callable[[str | None, str], bool] = lambda adapter, question_id: False
        self.nll: Callable[[dict[str, Any]], float] = lambda row: 1.0
        self.spoil: Callable[[str, StudentCompletion], StudentCompletion] = lambda key, completion: (
            completion
        )  # changes a student's completion
        self.verdict: Callable[[dict[str, Any]], Verdict] = by_reference
        self.refuses: Callable[[StepKind, dict[str, Any]], str | None] = lambda kind, row: None  # the provider's words
        self.training: Callable[[StepRequest], dict[str, Any]] = lambda request: {}  # more figures of a training
        self.salt = 0
        self.right_answer: str | None = None  # None: "right" and the question's id
        self.wrong_answer = WRONG

    def right(self, adapter: str | None, question_id: str, t: float = 0.0) -> bool:
        return (
            not self.forgets(adapter, question_id) and draw(self.salt, adapter, question_id, t) < self.skills[adapter]
        )

    async def run(self, job: Any, key: StepKey, request: StepRequest, limit: Any, on_progress: Any) -> StepResult:
        """In place of StepClient.run."""
        self.keys.append(str(key))
        on_progress(Progress(done=1, total=1))
        model = request.params.get("model")
        adapter = ModelRef.model_validate(model).tuned if model else None
        if request.kind in (StepKind.SFT, StepKind.DPO):
            # without the kind's version, or each new one would draw other students
            trained = content_hash([self.salt, request.model_dump(mode="json", exclude={"version"})])
            self.skills[trained] = self.train(request, self.skills[adapter])
            full = TrainParams.model_validate(request.params).method is Method.FULL
            curve = [Point(step=step, loss=1 / step) for step in (1, 2)]
            result = StepResult(metrics={"rows": len(request.rows)} | self.training(request), curve=curve)
            return result.model_copy(update={"weights" if full else "adapter": trained})
        row_of = getattr(self, "_" + request.kind.name.lower())
        with self._voting(request):
            rows = [row_of(str(key), request, adapter, row).model_dump(mode="json") for row in request.rows]
        return StepResult(rows=rows, metrics=self._figures(request, rows) | self._refusals(request))

    def _refusals(self, request: StepRequest) -> dict[str, Any]:
        words = {row["id"]: self.refuses(request.kind, row) for row in request.rows if "id" in row}
        refused = [{"id": row, "outcome": "refused", "words": said} for row, said in words.items() if said]
        return {REFUSALS: refused} if refused else {}

    def _figures(self, request: StepRequest, rows: list[dict]) -> dict[str, Any]:
        """As the workers count them: words of both sides of a pair; the judge's choices over both orders, and its calls (two
        when one cannot be read)."""
        if request.kind is StepKind.SEARCH:
            sides = ("chosen", "rejected")
            lengths = {f"mean_tokens_{side}": fmean(len(row[side].split()) for row in rows) for side in sides}
            return lengths | {"cut_off": sum(bool(row.get("cut_off")) for row in rows)}
        if request.kind is StepKind.GUIDE:
            return {"cut_off": sum(row["finish_reason"] == CUT_OFF for row in rows)}
        if request.kind is StepKind.RATE:
            return {"calls": sum(1 if row["parsed"] else 2 for row in rows)}
        if request.kind is not StepKind.COMPARE:
            return {}
        choices = [choice for row in request.rows for choice in self._both_orders(row)]
        calls = sum(2 if choice is None else 1 for choice in choices)
        return tally([Preference(**row) for row in rows], choices) | {"calls": calls}

    def _guide(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Guideline:
        return Guideline(id=row["id"], guideline="mind the details", finish_reason="stop")

    def _teach(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> TeacherResponse:
        answer, outcome = ("", "refused") if self.refuses(request.kind, row) else self.teacher(row)
        return TeacherResponse(id=row["id"], answer=answer, finish_reason="stop", outcome=outcome)

    def _answer(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> StudentCompletion:
        seed = request.params["sampling"]["seed"] if request.params["sampling"]["temperature"] else 0
        right = self.right(adapter, row["id"], seed)
        answer = (self.right_answer or f"right {row['id']}") if right else self.wrong_answer
        return self.spoil(key, StudentCompletion(id=row["id"], answer=answer, finish_reason="stop"))

    _reason = _answer

    def _sample(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Samples:
        """Wrong answers differ from one another."""
        completions = []
        for place in range(request.params["n"]):
            right = self.right(adapter, row["id"], place + 1)
            answer = (self.right_answer or f"right {row['id']}") if right else f"{self.wrong_answer} {place}"
            completions.append(self.spoil(key, StudentCompletion(id=row["id"], answer=answer, finish_reason="stop")))
        return Samples(id=row["id"], completions=completions)

    def _grade(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Grades:
        score = float(row["answer"] in (row["reference"], f"right {row['id']}"))
        names = [*(grader.value for grader in Grader), *(spec["type"] for spec in request.params.get("verify", []))]
        return Grades(id=row["id"], scores=dict.fromkeys(names, score) if row["reference"] else {})

    @contextmanager
    def _voting(self, request: StepRequest) -> Generator[None]:
        """One voter for all rows of a step, as the worker has: each starts a process, which takes longer than the rows."""
        if request.kind is not StepKind.AGREE:
            yield
            return
        with Voter(AgreeParams.model_validate(request.params).grader) as self.voter:
            yield

    def _agree(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Votes:
        return votes_of(self.voter, Sampled.model_validate(row))

    def _review(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Verdict:
        return self.verdict(row)

    def _compare(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Preference:
        first, second = self._both_orders(row)
        return agreed(row["id"], first, second, [])

    def _both_orders(self, row: dict) -> list[Choice | None]:
        replies = [self.judge(row["first"], row["second"]), self.judge(row["second"], row["first"])]
        return [Choice.model_validate(dict.fromkeys(CRITERIA, choice)) if choice else None for choice in replies]

    def _rate(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> AnswerScores:
        score = self.score(row["answer"])
        return AnswerScores(
            id=row["id"], scores=dict.fromkeys(CRITERIA, score) if score else {}, parsed=score is not None
        )

    def _score(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> Likelihood:
        return Likelihood(id=row["id"], nll=self.nll(row), tokens=3)

    def _search(self, key: str, request: StepRequest, adapter: str | None, row: dict) -> PreferencePair:
        chosen = f"right {row['id']}" if self.right(adapter, row["id"]) else WRONG
        asked = {name: row[name] for name in ("id", "question", "conversation") if name in row}
        return PreferencePair(**asked, chosen=chosen, rejected=WRONG)


class Simulation:
    """One database for many jobs of one project."""

    def __init__(self, folder: Path):
        self.settings = PlatformSettings(data=folder)
        self.stores: Stores = open_stores(self.settings.database)
        self.ledger = open_ledger(self.settings.ledger_database)
        self.artifacts = Artifacts(self.settings.artifacts)

    async def job(
        self, world: World, rows: Sequence[Question], suffix: str = "expert", seed: int = 0, **spec: Any
    ) -> dict[str, Any]:
        """Run one job to its report. Raises what the job would fail with."""
        self.stores.jobs.create(DEFAULT_PROJECT, self.request(suffix, seed, **spec))
        row = self.stores.jobs.claim("simulation", 3600)
        assert row is not None
        run = self.new_run(row, world.run, rows)
        report = await meteor(run.context, run)
        return report.model_dump(mode="json")

    def request(self, suffix: str = "expert", seed: int = 0, **spec: Any) -> JobRequest:
        return JobRequest.model_validate(
            {
                "model": BASE.base,
                "training_file": self._file(),
                "suffix": suffix,
                "seed": seed,
                "distillation": {"domain": "d", "primary_metric": "string_check"} | spec,
            }
        )

    def new_run(
        self,
        job: Any,
        steps: Callable[..., Any],
        rows: Sequence[Question],
        base: ModelRef = BASE,
        material: Material = NO_MATERIAL,
    ) -> DistillationRun:
        """steps: in place of StepClient.run. material: what strong models are shown."""
        run: Any = _Steps(self, steps)
        return DistillationRun(job, base, job_rows(self.artifacts, rows), run, self.ledger, material=material)

    def _file(self) -> str:
        return self.stores.catalog.add_file(
            DEFAULT_PROJECT, sha256="0" * 64, bytes=0, filename="f", purpose="fine-tune", status="processed", errors=[]
        ).id


class _Steps:
    """What DistillationRun needs of a StepClient."""

    def __init__(self, simulation: Simulation, run: Callable[..., Any]):
        self.stores = simulation.stores
        self.artifacts = simulation.artifacts
        self.settings = simulation.settings
        self.run = run

    async def consumers(self, queue: Any) -> int:
        return 8


def questions(
    train: int = 60, dev: int = 60, test: int = 60, references: bool = True, measured_by_references: bool = True
) -> list[Question]:
    """Their reference is what a right answer of a simulated student looks like. references: in train; the other: in dev
    and test."""
    has = dict.fromkeys(Split, measured_by_references) | {Split.TRAIN: references}
    sizes = Counter({Split.TRAIN: train, Split.DEV: dev, Split.TEST: test})
    return [
        Question(
            id=f"{split.value}-{n}",
            question=f"{split.value} question {n}?",
            reference=f"right {split.value}-{n}" if has[split] else None,
            split=split,
        )
        for split, count in sizes.items()
        for n in range(count)
    ]
