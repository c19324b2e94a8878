"""A finished job whose steps have their files, as workers leave them: what became of each example can be read from them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from shared.artifacts.store import Artifacts
from shared.contracts.data import Split
from shared.contracts.step_key import StepKey
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import (
    AdapterConfig,
    JudgeParams,
    Method,
    ModelRef,
    Sampling,
    SearchParams,
    StepKind,
    StepResult,
    Strategy,
    StudentParams,
    TeachParams,
    TrainParams,
    Wire,
)
from shared.db.engine import writing
from shared.jobs.tables import DEFAULT_PROJECT, steps
from tests.browser.hostile import HOSTILE
from tests.browser.sample_jobs import MINUTE, job_of, posted, set_job
from tests.browser.sample_report import sample_report
from tests.contract.conftest import BASE, RunningApi

Row = dict[str, Any]
DOMAIN = "sums of small numbers"
BARE = ModelRef(base=BASE, base_hash="b" * 64)
SAMPLING = Sampling(max_tokens=48, seed=7)
JUDGE = JudgeParams(judge="strong", domain=DOMAIN, sampling=SAMPLING)
STUDENTS = {"base": BARE} | {
    name: BARE.trained(Method.LORA, f"{n:02d}" * 32) for n, name in enumerate(("distill", "iterate", "evolve"), start=1)
}
ASKED, TRIED, SEARCHED = slice(0, 16), slice(16, 28), slice(28, 40)


def asked(row: Row) -> Row:
    return {"id": row["id"], "question": row["question"]}


class Writer:
    """Writes steps with their inputs and results, one minute after another."""

    def __init__(self, api: RunningApi, job_id: str, began: float):
        self.api, self.job, self.now = api, job_of(api, job_id), began
        self.artifacts = Artifacts(api.platform.artifacts)

    def step(self, key: str, kind: StepKind, params: Wire, rows: Sequence[Row], made: Sequence[Row] = (), adapter: str | None = None) -> None:  # fmt: skip
        given = self.artifacts.put_json(step_request(kind, params, list(rows)).model_dump(mode="json"))
        result = self.artifacts.put_json(StepResult(rows=list(made), adapter=adapter).model_dump(mode="json"))
        record = self.api.stores.steps.create(self.job, StepKey.parse(key), kind, given)
        self.now += MINUTE / 4
        values = {
            "state": "succeeded",
            "attempt": 1,
            "result_ref": result,
            "finished_at": self.now,
            "started_at": self.now - 10,
        }
        with writing(self.api.stores.jobs.engine) as connection:
            connection.execute(steps.update().where(steps.c.id == record.id).values(**values))


def student(name: str) -> StudentParams:
    return StudentParams(model=STUDENTS[name], domain=DOMAIN, sampling=SAMPLING)


def training(name: str) -> TrainParams:
    adapter = AdapterConfig(max_length=512)
    return TrainParams(model=STUDENTS[name], adapter=adapter, epochs=1, learning_rate=1e-4, batch_size=8, seed=7)


def right(row: Row) -> str:
    return str(row["reference"])


def wrong(row: Row) -> str:
    return f"{row['reference']}0, since {row['question'][8:-1]} is added twice"


def phase_1(write: Writer, rows: Sequence[Row]) -> None:
    guideline = "Add the two numbers and write the sum alone."
    made = [{"id": row["id"], "guideline": guideline, "finish_reason": "stop"} for row in rows]
    write.step("distill/guidelines/0", StepKind.GUIDE, student("base"), [asked(row) for row in rows], made)
    inputs = [asked(row) | {"reference": row["reference"], "guideline": guideline} for row in rows]
    outcomes = {0: "refused", 1: "cut_off"}
    answers = [
        {"id": row["id"], "answer": right(row) if n else "", "finish_reason": "stop", "outcome": outcomes.get(n, "ok"), "call_id": f"call-{n}"}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    write.step("distill/answers/0", StepKind.TEACH, TeachParams(teacher="strong", domain=DOMAIN, sampling=SAMPLING), inputs, answers)  # fmt: skip
    learned = [asked(row) | {"completion": right(row)} for row in rows[3:]]
    write.step("distill/train", StepKind.SFT, training("base"), learned, adapter=STUDENTS["distill"].adapter)


def phase_2(write: Writer, rows: Sequence[Row]) -> None:
    """Of each round a half passes at first, some at the third try, one never."""
    passed: list[Row] = []
    for number, shard in ((1, rows[:6]), (2, rows[6:])):
        passing = {row["id"]: (1, 1, 1, 2, 3, 9)[n] for n, row in enumerate(shard)}
        hints: dict[str, tuple[str, str]] = {}
        for attempt in (1, 2, 3):
            left = [row for row in shard if passing[row["id"]] >= attempt]
            prompts = [asked(row) | (dict(zip(("previous", "critique"), hints[row["id"]], strict=True)) if row["id"] in hints else {}) for row in left]  # fmt: skip
            texts = {row["id"]: right(row) if passing[row["id"]] == attempt else wrong(row) for row in left}
            key = f"iterate/{number}/try-{attempt}"
            made = [
                {"id": one, "answer": text, "rationale": f"The two numbers make {text}.", "finish_reason": "stop"}
                for one, text in texts.items()
            ]
            write.step(f"{key}/answers/0", StepKind.REASON, student("distill"), prompts, made)
            verdicts = [
                {"id": row["id"], "passed": passing[row["id"]] == attempt, "by": "grader",
                 "critique": None if passing[row["id"]] == attempt else f"Add once, not twice. {HOSTILE}"}
                for row in left
            ]  # fmt: skip
            given = [asked(row) | {"answer": texts[row["id"]], "reference": row["reference"]} for row in left]
            write.step(f"{key}/verdicts/0", StepKind.REVIEW, JUDGE, given, verdicts)
            hints = {row["id"]: (texts[row["id"]], "Add once, not twice.") for row in left}
        passed += [asked(row) | {"completion": right(row)} for row in shard if passing[row["id"]] < 9]
        adapter = STUDENTS["iterate"].adapter if number == 2 else "12" * 32
        write.step(f"iterate/{number}/train", StepKind.SFT, training("distill"), passed, adapter=adapter)


def phase_3(write: Writer, rows: Sequence[Row]) -> None:
    params = SearchParams(model=STUDENTS["iterate"], strategy=Strategy.BEAM, beam_width=4, samples=4, temperature=0.7,
                          max_new_tokens=48, batch_size=8, seed=7)  # fmt: skip
    pairs = [asked(row) | {"chosen": right(row), "rejected": right(row) if n % 3 == 0 else wrong(row)} for n, row in enumerate(rows)]  # fmt: skip
    write.step("evolve/1/search", StepKind.SEARCH, params, [asked(row) for row in rows], pairs)
    learned = [pair for pair in pairs if pair["chosen"] != pair["rejected"]]
    write.step("evolve/1/train", StepKind.DPO, training("iterate"), learned, adapter=STUDENTS["evolve"].adapter)


def measured(write: Writer, rows: Sequence[Row]) -> None:
    """The final student is mostly right where the base is mostly wrong; the judge's orders disagree on some, and it disagrees with the
    grader on others."""
    says: dict[str, Callable[[int], bool]] = {
        "base": lambda n: n % 5 == 0,
        "distill": lambda n: n % 2 == 0,
        "iterate": lambda n: n % 3 != 0,
        "evolve": lambda n: n % 4 != 1,
    }
    for name, is_right in says.items():
        answers = [right(row) if is_right(n) else wrong(row) for n, row in enumerate(rows)]
        made = [{"id": row["id"], "answer": text, "finish_reason": "stop"} for row, text in zip(rows, answers, strict=True)]  # fmt: skip
        write.step(f"evaluate/test/{name}/answers/0", StepKind.ANSWER, student(name), [asked(row) for row in rows], made)  # fmt: skip
        given = [asked(row) | {"answer": text, "reference": row["reference"]} for row, text in zip(rows, answers, strict=True)]  # fmt: skip
        grades = [{"id": row["id"], "scores": {"chrf": 1.0 if is_right(n) else 0.31, "string_check": float(is_right(n))}} for n, row in enumerate(rows)]  # fmt: skip
        write.step(f"evaluate/test/{name}/grades/0", StepKind.GRADE, JUDGE, given, grades)
    differ = [n for n in range(len(rows)) if says["base"](n) != says["evolve"](n)]
    text = lambda name, n: right(rows[n]) if says[name](n) else wrong(rows[n])  # noqa: E731
    given = [asked(rows[n]) | {"first": text("base", n), "second": text("evolve", n)} for n in differ]
    made = []
    for place, n in enumerate(differ):
        better = "second" if says["evolve"](n) else "first"
        turned, against = place % 5 == 1, place % 7 == 3
        winner = "tie" if turned else {"first": "second", "second": "first"}[better] if against else better
        made.append({"id": rows[n]["id"], "winners": {"overall": winner}, "flipped": ["overall"] if turned else []})
    write.step("evaluate/judged/0", StepKind.COMPARE, JUDGE, given, made)


def traced(api: RunningApi, http: httpx.Client, file: str, suffix: str = "sums") -> str:
    job = posted(http, file, suffix, domain=DOMAIN, judge={"grader": "string_check"})
    path = f"/v1/distillation/jobs/{job}/examples"
    rows = {
        split: http.get(path, params={"split": split.value, "limit": 100}).raise_for_status().json()["data"]
        for split in Split
    }
    now = time.time()
    write = Writer(api, job, now - 30 * MINUTE)
    train = rows[Split.TRAIN]
    phase_1(write, train[ASKED])
    phase_2(write, train[TRIED])
    phase_3(write, train[SEARCHED])
    measured(write, rows[Split.TEST][:40])
    version = api.stores.catalog.publish(DEFAULT_PROJECT, suffix, STUDENTS["evolve"], job, "promoted")
    api.stores.catalog.serve(DEFAULT_PROJECT, version)
    report = Artifacts(api.platform.artifacts).put_json(sample_report(job) | {"domain": DOMAIN})
    evaluation = {"metric": "chrf", "before": 0.281, "after": 0.506, "delta": 0.225, "ci95": [0.17, 0.28], "n": 80}
    set_job(api, job, status="succeeded", report_ref=report, evaluation=evaluation, fine_tuned_model=f"{suffix}@{version.version}",
            progress={"percent": 100.0, "done": 10.0, "total": 10.0}, started_at=now - 31 * MINUTE, finished_at=now)  # fmt: skip
    return job
