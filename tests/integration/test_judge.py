"""The judge's service functions against the fake teacher over HTTP, through a real gateway process."""

import argparse
import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.judge.grade import grade
from services.judge.rate import rate
from services.judge.review import review
from services.judge.settings import judge_settings
from services.judge.tasks import HANDLERS
from shared.contracts.errors import UserError
from shared.contracts.eval_results import Checked, CheckInput, CheckParams
from shared.contracts.evals import Criterion
from shared.contracts.grader_kinds import Grader, RegexEqualGrader
from shared.contracts.rows import AnswerScores, ComparisonInput, Grades, JudgeInput, Preference, Sampled, Verdict, Votes
from shared.contracts.step_kinds import step_request
from shared.contracts.steps import AgreeParams, JudgeParams, Queue, Sampling, StepKind
from shared.db.engine import engine_for
from shared.grading.graders import Graders
from shared.jobs.step_store import Claim
from shared.judging.prompts import CRITERIA
from shared.ledger.store import open_ledger
from shared.platform.gateway_client import GatewayClient, origin_headers
from shared.platform.settings import PlatformSettings
from shared.queue.step_task import StepContext
from tests.bench import judge as bench
from tests.fakes.ports import free_port, wait_until
from tests.fakes.start import FakeServer, running, start_teacher

TOKEN = "between-services"


@pytest.fixture(scope="module")
def teacher() -> Iterator[FakeServer]:
    with start_teacher() as server:
        yield server


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def gateway_url(teacher: FakeServer, data: Path) -> Iterator[str]:
    port = free_port()
    env = {
        "METEOR_DATA": str(data),
        "METEOR_INTERNAL_TOKEN": TOKEN,
        "METEOR_STRONG_PORT": str(port),
        "METEOR_TEACHER_BASE_URL": teacher.base_url,
        "METEOR_TEACHER_MODEL": "fake",
        "METEOR_TEACHER_API_KEY": "",
    }
    env |= {name: "" for name in ("DATABASE_URL", "METEOR_JUDGE_BASE_URL", "METEOR_JUDGE_MODEL") if name in os.environ}
    with running(["services.strong_model", "gateway"], f"http://127.0.0.1:{port}/healthz", env, timeout_s=60):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def _healthy(teacher: FakeServer) -> Iterator[None]:
    yield
    teacher.heal()


def client(url: str, job: str) -> GatewayClient:
    headers = origin_headers("proj_default", job, f"step-{job}", "iterate")
    return GatewayClient(url, TOKEN, headers, param="distillation.judge")


def params(**changes) -> JudgeParams:
    return JudgeParams(judge="default", domain="shell commands", sampling=Sampling(max_tokens=64), **changes)


def row(name: str, answer: str, reference: str | None = "ls -a", **changes) -> JudgeInput:
    return JudgeInput(id=name, question=f"List all files ({name}).", answer=answer, reference=reference, **changes)


class Steps:
    """Progress as it was reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


async def reviewed(url: str, rows: list[JudgeInput], job: str, **changes):
    steps = Steps()
    asking = params(**changes)
    with Graders(asking.verify) as graders:
        async with client(url, job) as gateway:
            verdicts, metrics = await review(gateway, asking, rows, steps, graders)
    return verdicts, metrics, steps.seen


async def test_the_judge_decides_where_no_grader_does(gateway_url, teacher):
    rows = [row(f"j{number}", f"answer {number}", None) for number in range(12)]
    before = len(teacher.log())
    verdicts, metrics, seen = await reviewed(gateway_url, rows, "plain")
    assert [item.id for item in verdicts] == [item.id for item in rows]
    assert {item.by for item in verdicts} == {"judge"}
    assert 0 < metrics["passed"] < 12, "the fake judge passes a part"
    assert all(item.critique is None for item in verdicts if item.passed)
    assert all(item.critique and item.critique.startswith("hint") for item in verdicts if not item.passed)
    assert all(item.call_id for item in verdicts)
    assert seen == [(done, 12) for done in range(1, 13)]
    assert metrics["calls"] == 12
    assert len(teacher.log()) - before == 12
    assert metrics["input_tokens"] > 0
    assert metrics["output_tokens"] > 0
    again, repeated, _ = await reviewed(gateway_url, rows, "again")
    assert [item.passed for item in again] == [item.passed for item in verdicts]
    assert repeated["cached_calls"] == 12
    assert len(teacher.log()) - before == 12, "the second time nothing reaches the provider"


async def test_a_grader_that_verifies_decides_and_what_it_cannot_grade_is_the_judges(gateway_url, teacher):
    rows = [
        row("same", "(ls )*-a", "(?:ls )*-a", want_critique=False),
        row("other", "ls", "ls -a", want_critique=False),
        row("unread", "ls", "[", want_critique=False),
    ]
    changes = {"grader": "regex_equal", "verify": [RegexEqualGrader(type="regex_equal")]}
    verdicts, metrics, _ = await reviewed(gateway_url, rows, "verified", **changes)
    assert [(verdict.passed, verdict.by) for verdict in verdicts[:2]] == [(True, "grader"), (False, "grader")]
    assert verdicts[2].by == "judge"
    assert metrics["ungradable"] == 1
    with Graders(changes["verify"]) as graders:
        grades, counts = await grade(graders, rows, Steps())
    assert [item.scores.get("regex_equal") for item in grades] == [1.0, 0.0, None]
    assert counts["ungradable"] == 1


async def test_the_grader_decides_and_the_judge_only_hints(gateway_url, teacher):
    rows = [
        row("right", "`ls -a`"),
        row("wrong", "ls"),
        row("quiet", "ls -1", want_critique=False),
        row("open", "ls -b", None),
    ]
    before = len(teacher.log())
    verdicts, metrics, _ = await reviewed(gateway_url, rows, "graded", grader="string_check")
    right, wrong, quiet, judged = verdicts
    assert (right.passed, right.by, right.critique, right.call_id) == (True, "grader", None, None)
    assert (wrong.passed, wrong.by) == (False, "grader")
    assert wrong.critique is not None
    assert wrong.call_id is not None
    assert (quiet.passed, quiet.by, quiet.critique, quiet.call_id) == (False, "grader", None, None)
    assert judged.by == "judge"
    asked = [entry["messages"] for entry in teacher.log()[before:]]
    assert len(asked) == 2
    assert [message["role"] for message in asked[0]] == ["system", "user"]
    shown = sorted(messages[1]["content"] for messages in asked)
    assert "(open)" in shown[0]
    assert "<reference>" not in shown[0]
    assert "(wrong)" in shown[1]
    assert "<reference>\nls -a\n</reference>" in shown[1]
    assert metrics | {"by_grader": 3, "by_judge": 1, "n": 4, "calls": 2} == metrics


async def test_the_pass_mark_is_the_jobs(gateway_url):
    near = row("near", "find . -name '*.py'", "find . -name '*.pyc'", want_critique=False)
    for mark, passed in ((0.5, True), (1.0, False)):
        verdicts, _, _ = await reviewed(gateway_url, [near], "mark", grader="chrf", pass_mark=mark)
        assert verdicts[0].passed is passed


async def test_a_hint_that_gives_the_reference_away_is_dropped(gateway_url):
    """The fake's hints all say "check its options"; a row whose reference that is must not get it."""
    rows = [row("leak", "ls", "Check its options!"), row("fine", "ls", "ls --all")]
    verdicts, metrics, _ = await reviewed(gateway_url, rows, "leaks", grader="string_check")
    assert (verdicts[0].leaked, verdicts[0].critique) == (True, None)
    assert verdicts[1].leaked is False
    assert verdicts[1].critique
    assert metrics["leaked"] == 1
    assert metrics["critiques"] == 1


async def test_a_verdict_comes_after_an_analysis_where_the_job_wants_it(gateway_url, teacher):
    verdicts, metrics, _ = await reviewed(gateway_url, [row("analysed", "ls", None)], "analysed", analysis=True)
    assert (verdicts[0].by, metrics["calls"], metrics["mended"]) == ("judge", 1, 0)
    assert '"analysis"' in teacher.log()[-1]["messages"][0]["content"]


async def test_one_repair_then_unparsed(gateway_url, teacher):
    teacher.fault("refusal", times=1)
    verdicts, metrics, _ = await reviewed(gateway_url, [row("mended", "ls", None)], "mended")
    assert verdicts[0].by == "judge"
    assert (metrics["repairs"], metrics["calls"], metrics["unparsed"]) == (1, 2, 0)
    assert (metrics["mended"], metrics["empty"], metrics["cut_off"]) == (0, 0, 0)
    repair = teacher.log()[-1]["messages"]
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]

    teacher.fault("refusal")
    rows = [row("lost", "ls", None), row("hintless", "ls", "ls -a")]
    verdicts, metrics, _ = await reviewed(gateway_url, rows, "lost", grader="string_check")
    assert (verdicts[0].passed, verdicts[0].by, verdicts[0].critique) == (False, "unparsed", None)
    assert (verdicts[1].passed, verdicts[1].by, verdicts[1].critique) == (False, "grader", None)
    assert (metrics["unparsed"], metrics["critiques_unparsed"], metrics["calls"]) == (1, 1, 4)


async def test_a_refused_request_is_the_users_error(gateway_url, teacher):
    teacher.fault("401")
    with pytest.raises(UserError) as caught:
        await reviewed(gateway_url, [row(f"key{number}", "ls", None) for number in range(3)], "key")
    assert caught.value.param == "distillation.judge"
    with pytest.raises(UserError, match="no grader is called 'vibes'"):
        await reviewed(gateway_url, [row("x", "ls")], "grader", grader="vibes")


async def test_cancelling_stops_the_open_calls(gateway_url, teacher):
    teacher.latency(30)
    before = len(teacher.log())
    task = asyncio.ensure_future(reviewed(gateway_url, [row("slow", "ls", None)], "slow"))
    await asyncio.to_thread(wait_until, lambda: len(teacher.log()) > before, 20, "the call at the teacher")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    def gone() -> bool:
        return teacher.log()[before]["outcome"] == "client_gone"

    await asyncio.to_thread(wait_until, gone, 10, "the end of the call")


async def test_the_ledger_knows_the_examples(gateway_url, data):
    await reviewed(gateway_url, [row("ledger-1", "ls", None)], "job-of-ledger")
    url = f"sqlite:///{(data / 'ledger.sqlite3').resolve()}"
    usage = open_ledger(url).usage("job-of-ledger")
    engine_for(url).dispose()
    assert usage.teacher_calls == 1


async def test_grading_needs_no_call(teacher):
    before, steps = len(teacher.log()), Steps()
    rows = [row("a", "ls -a"), row("b", "find ."), row("c", "ls", None)]
    with Graders() as graders:
        grades, metrics = await grade(graders, rows, steps)
    assert [item.id for item in grades] == ["a", "b", "c"]
    assert grades[0].scores == dict.fromkeys((grader.value for grader in Grader), 1.0)
    assert grades[1].scores["first_token"] == 0
    assert grades[2].scores == {}
    assert metrics == {"n": 3, "without_reference": 1}
    assert steps.seen == [(1, 3), (2, 3), (3, 3)]
    assert len(teacher.log()) == before


async def test_scores_are_parsed_or_counted(gateway_url, teacher):
    steps = Steps()
    rows = [row(f"r{number}", f"answer {number}", None) for number in range(4)]
    async with client(gateway_url, "rate") as gateway:
        rated, metrics = await rate(gateway, params(), rows, steps)
        teacher.fault("refusal")
        lost, counts = await rate(gateway, params(), [row("lost", "ls", None)], steps)
    assert [item.id for item in rated] == [item.id for item in rows]
    assert all(item.parsed and item.call_id for item in rated)
    assert all(set(item.scores) == set(CRITERIA) for item in rated)
    assert {score for item in rated for score in item.scores.values()} <= set(range(1, 11))
    assert metrics | {"n": 4, "unparsed": 0, "calls": 4} == metrics
    assert (lost[0].parsed, lost[0].scores) == (False, {})
    assert counts | {"n": 1, "unparsed": 1, "calls": 2} == counts


async def test_the_bench_measures_the_judge_behind_the_gateway(gateway_url, tmp_path, monkeypatch):
    monkeypatch.setenv("METEOR_INTERNAL_TOKEN", TOKEN)
    labels = [{"input": f"q {n}", "output_1": "a", "output_2": f"b {n}", "label": n % 3} for n in range(12)]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in labels))
    options = argparse.Namespace(
        data=path,
        limit=10,
        meteor=tmp_path,
        gateway=gateway_url,
        provider="default",
        domain="d",
        max_tokens=64,
        kept=None,
    )
    figures = await bench.run(options)
    assert (figures["n"], figures["unparsed"], figures["calls"], figures["repairs"]) == (10, 0, 20, 0)
    assert (await bench.run(options)) == figures
    options.gateway = f"http://127.0.0.1:{free_port()}"
    assert (await bench.run(options)) == figures, "what was kept needs no gateway"


async def test_the_handlers_go_from_request_to_result(gateway_url, data, artifacts, monkeypatch):
    monkeypatch.setenv("METEOR_JUDGE_GATEWAY_URL", gateway_url)
    judge_settings.cache_clear()
    settings = PlatformSettings(data=data, internal_token=SecretStr(TOKEN))
    rows = [row("right", "ls -a"), row("wrong", "ls")]
    pairs = [ComparisonInput(id=item.id, question=item.question, first=item.answer, second="ls -l") for item in rows]
    checked = [CheckInput(id="a", item={"reference": "ls"}, output_text=text) for text in ("ls -a", "dir")]
    sampled = [Sampled(id="right", texts=["ls -a", "ls", "`ls -a`"]), Sampled(id="wrong", texts=["a", "b", ""])]
    results = {}
    for kind, handler in HANDLERS.items():
        claim = Claim("step-h", "job-h", "proj_default", "iterate/1/review/0", kind, "0" * 64, 1)
        context = StepContext(claim, settings, artifacts)
        of_kind = {StepKind.COMPARE: pairs, StepKind.AGREE: sampled, StepKind.CHECK: checked}.get(kind, rows)
        bodies = [item.model_dump(mode="json") for item in of_kind]
        own = {
            StepKind.AGREE: AgreeParams(grader=Grader.STRING_CHECK),
            StepKind.CHECK: CheckParams(criteria=[Criterion.model_validate({"type": "contains", "name": "in it"})]),
        }
        request = step_request(kind, own.get(kind) or params(grader="string_check"), bodies)
        results[kind] = await handler(request, context)
        assert context.latest is not None
        assert (context.latest.done, context.latest.total) == (2, 2)
    judge_settings.cache_clear()
    assert [Verdict.model_validate(item).passed for item in results[StepKind.REVIEW].rows] == [True, False]
    assert [Grades.model_validate(item).scores["string_check"] for item in results[StepKind.GRADE].rows] == [1, 0]
    assert results[StepKind.REVIEW].metrics["by_grader"] == 2
    verdicts = [Checked.model_validate(item).results[0].passed for item in results[StepKind.CHECK].rows]
    assert verdicts == [True, False]
    votes = [Votes.model_validate(item) for item in results[StepKind.AGREE].rows]
    assert [[group.members for group in row.groups] for row in votes] == [[[0, 2], [1]], [[0], [1]]]
    assert results[StepKind.AGREE].metrics == {"n": 6, "unread": 1, "without_agreement": 1}
    preferences = [Preference.model_validate(item) for item in results[StepKind.COMPARE].rows]
    assert [(item.id, item.parsed, len(item.call_ids)) for item in preferences] == [
        ("right", True, 2),
        ("wrong", True, 2),
    ]
    assert results[StepKind.COMPARE].metrics["calls"] == 4
    assert [len(AnswerScores.model_validate(item).scores) for item in results[StepKind.RATE].rows] == [6, 6]
    assert set(HANDLERS) == {kind for kind in StepKind if kind.queue == Queue.JUDGE}
