"""Errors before money: all that is wrong with a job in one answer, and what the providers say when they are asked a few words."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from services.api.features.jobs.live_checks import REMEDIES
from services.meteor.main import cli
from services.strong_model.gateway import errors
from shared.contracts.errors import ROW_CODES
from tests.contract.conftest import BASE, KEY, TOKEN, rows, running_api
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.loopback import LOOPBACK
from tests.fakes.start import start_teacher

JOBS, OPENAIS = "/v1/distillation/jobs", "/v1/fine_tuning/jobs"


class Provided(NamedTuple):
    http: httpx.Client
    gateway: Gateway


@pytest.fixture(scope="module")
def provided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provided]:
    """An API beside a gateway whose provider `default` is a fake teacher; at its `judge` nobody listens."""
    folder = tmp_path_factory.mktemp("checks")
    with contextlib.ExitStack() as stack:
        teacher = stack.enter_context(start_teacher())
        gateway = stack.enter_context(running_gateway(teacher, folder, METEOR_INTERNAL_TOKEN=TOKEN))
        api = stack.enter_context(running_api(folder / "api", METEOR_API_GATEWAY_URL=gateway.url))
        headers = {"authorization": f"Bearer {KEY}"}
        http = stack.enter_context(httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False))
        yield Provided(http, gateway)


@pytest.fixture(autouse=True)
def healthy(provided: Provided) -> Iterator[None]:
    yield
    provided.gateway.teacher.heal()


@pytest.fixture(scope="module")
def file(provided: Provided) -> str:
    stored = provided.http.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"})
    return stored.json()["id"]


def body(file: str, **distillation: Any) -> dict[str, Any]:
    return {"model": BASE, "training_file": file, "distillation": {"domain": "sums"} | distillation}


def new_limits(number: int) -> dict[str, Any]:
    """Settings that no earlier check was made with, so that the provider is asked again."""
    return {"teacher": {"max_tokens": 600 + number}, "judge": {"max_tokens": 300 + number}}


def forget(provided: Provided) -> None:
    """What the gateway has learned of its teacher."""
    learned = f"{provided.gateway.url}/internal/providers/default/learned"
    LOOPBACK.delete(learned, headers={"authorization": f"Bearer {TOKEN}"}).raise_for_status()


# one list


WRONG = {
    "model": "gpt-7",
    "training_file": "file-none",
    "sufix": "x",
    "seed": "many",
    "distillation": {"domain": "sums", "adapter": {"rank": 64, "aplha": 3}, "judge": {"provider": "nobody"}},
}
WRONG_PLACES = {
    "sufix": "unknown_parameter",
    "seed": "invalid_value",
    "distillation.adapter.aplha": "unknown_parameter",
    "model": "model_not_found",
    "training_file": "file_not_found",
    "distillation.adapter.rank": "rank_too_large",
    "distillation.judge.provider": "provider_not_found",
}


@pytest.mark.parametrize("path", [JOBS, OPENAIS, f"{JOBS}/check", f"{OPENAIS}/check", f"{JOBS}/estimate"])
def test_all_that_is_wrong_is_told_in_one_answer(provided: Provided, path: str):
    answer = provided.http.post(path, json=WRONG)
    if path.endswith("/check"):
        assert answer.status_code == 200
        assert answer.json()["ok"] is False
        errors = answer.json()["errors"]
    else:
        assert answer.status_code == 400
        error = answer.json()["error"]
        errors = error["errors"]
        assert (error["param"], error["code"]) == (errors[0]["param"], errors[0]["code"])
        assert error["message"].startswith("7 problems:\n1. ")
        for number, item in enumerate(errors, start=1):
            assert f"\n{number}. {item['message']}" in error["message"]
    assert {item["param"]: item["code"] for item in errors} == WRONG_PLACES
    remedies = {item["param"]: item["remedy"] for item in errors}
    assert all(remedies[place] for place in ("model", "training_file", "distillation.adapter.rank"))


def test_all_variants_are_looked_at_and_what_they_share_is_told_once(provided: Provided, file: str):
    variants = [
        {"name": "a"},
        {"name": "b", "changes": {"distillation": {"adapter": {"rank": 64}}}},
        {"name": "c", "changes": {"distillation": {"guidance": "loud", "teacher": {"provider": "nobody"}}}},
    ]
    job = body(file, judge={"provider": "gpt"})
    error = provided.http.post("/v1/experiments", json={"job": job, "variants": variants}).json()["error"]
    assert [(item["param"], item["message"].partition(":")[0]) for item in error["errors"]] == [
        ("distillation.judge.provider", "variants 'a', 'b', 'c'"),
        ("distillation.adapter.rank", "variant 'b'"),
        ("distillation.guidance", "variant 'c'"),
        ("distillation.teacher.provider", "variant 'c'"),
    ]


# live


def test_a_second_check_asks_nobody(provided: Provided, file: str):
    before = len(provided.gateway.teacher.log())
    verdict: dict[str, Any] = {}
    for _ in range(2):
        answer = provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(1)))
        verdict = answer.json()
        assert (verdict["ok"], verdict["errors"], verdict["warnings"]) == (True, [], []), answer.text
    asked = provided.gateway.teacher.log()[before:]
    assert len(asked) == 2, "a call to the teacher and one to the judge"
    rows = [row for row in provided.gateway.rows() if row.phase == "check"]
    assert rows
    assert {row.job_id for row in rows} == {None}
    said = " ".join(verdict["checked"])
    for word in ("teacher 'default' answered", "judge 'default' answered", f"student '{BASE}'", "rows: 60"):
        assert word in said
    assert verdict["estimate"]["total"]["usd"]["high"] > 0
    assert provided.http.get(JOBS).json()["data"] == []


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("401", "teacher_auth_failed", "API_KEY"),
        ("quota", "teacher_quota_exhausted", "quota"),
        ("rejected", "teacher_rejected", "METEOR_TEACHER_OMIT"),
    ],
)
def test_a_provider_that_refuses_refuses_the_job(provided: Provided, file: str, fault: str, code: str, says: str):
    forget(provided)
    provided.gateway.teacher.fault(fault, rate=1.0, times=50)
    job = body(file, **new_limits(len(code)))
    answer = provided.http.post(JOBS, json=job)
    assert answer.status_code == 400, answer.text
    errors = answer.json()["error"]["errors"]
    assert [(item["param"], item["code"]) for item in errors] == [
        ("distillation.teacher.provider", code),
        ("distillation.judge.provider", code),
    ]
    assert all(says in item["message"] and item["remedy"] for item in errors)
    assert provided.http.get(JOBS).json()["data"] == []
    provided.gateway.teacher.heal()
    assert provided.http.post(f"{JOBS}/check", json=job).json()["ok"], "a refusal is not kept"


def test_every_failure_that_stays_has_a_remedy():
    known = set(REMEDIES)
    assert errors.ACCOUNT_CODES | ROW_CODES.keys() <= known | {"teacher_batch_failed"}
    assert known - errors.KINDS.keys() == {"teacher_not_configured", "model_not_found"}


def test_a_provider_that_refuses_a_made_up_question_refuses_the_job_too(provided: Provided, file: str):
    """Its like was accepted before, so the gateway takes it for the question's own fault."""
    assert provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(30))).json()["ok"]
    provided.gateway.teacher.fault("rejected", rate=1.0, times=50)
    verdict = provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(31))).json()
    assert {error["code"] for error in verdict["errors"]} == {"teacher_refused_row"}
    assert all("does not please" in error["message"] and "made-up" in error["remedy"] for error in verdict["errors"])


UNFIT = [  # (rows, job, code, field, words of the message)
    ([("what is it", "+++")] * 60, {"primary_metric": "rouge_l"}, "grader_passes_nothing", "primary_metric", "0 of 1"),
    ([("which", f"The answer {n}") for n in range(60)], {"primary_metric": "first_token"}, "grader_passes_everything", "primary_metric", "The answer"),
    ([("which", f"answer {n}") for n in range(60)], {"judge": {"grader": "flags"}}, "grader_passes_everything", "judge.grader", "full marks"),
    (None, {"primary_metric": {"type": "sql_result", "database": "file-none"}}, "bad_grader", "primary_metric.database", "file-none"),
    (None, {"judge": {"grader": {"type": "json_schema", "schema": {"type": "x"}}}}, "bad_grader", "judge.grader.schema", "no JSON schema"),
    ([("which", f"[a{n}")  for n in range(60)], {"primary_metric": "regex_equal"}, "ungradable_references", "primary_metric", "cannot read"),
    (None, {"teacher": {"context": "file-none"}}, "file_not_found", "teacher.context", "file-none"),
    (None, {"teacher": {"context": ["a manual", "file-none"]}}, "file_not_found", "teacher.context[1]", "file-none"),
    (None, {"budget": {"max_calls": 3}}, "budget_too_small", "budget.max_calls", "3 calls"),
    (None, {"budget": {"max_usd": 1e-6}}, "budget_too_small", "budget.max_usd", "USD"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "job", "code", "field", "says"), UNFIT, ids=[f"{row[2]}-{row[3]}" for row in UNFIT]
)
def test_what_would_waste_money_is_refused(
    provided: Provided,
    file: str,
    content: list[tuple[str, str]] | None,
    job: dict[str, Any],
    code: str,
    field: str,
    says: str,
):
    if content is not None:
        lines = (
            json.dumps({"question": f"{asked} {n}?", "reference": right}) for n, (asked, right) in enumerate(content)
        )
        sent = {"file": ("own.jsonl", "\n".join(lines))}
        file = provided.http.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()["id"]
    verdict = provided.http.post(f"{JOBS}/check", json=body(file, **job)).json()
    assert [(error["code"], error["param"]) for error in verdict["errors"]] == [(code, f"distillation.{field}")]
    assert says in verdict["errors"][0]["message"]
    assert verdict["errors"][0]["remedy"]
    assert provided.http.post(JOBS, json=body(file, **job)).status_code == 400


def test_rows_are_held_against_the_teachers_context_once_it_said_how_long_that_is(provided: Provided, file: str):
    """From the words of a refusal, or of a test of the provider."""
    provided.gateway.teacher.fault("400", rate=1.0, times=50)
    verdict = provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(40))).json()
    assert {error["code"] for error in verdict["errors"]} == {"teacher_prompt_too_long"}
    provided.gateway.teacher.heal()
    told = provided.http.post(
        f"{JOBS}/check", json=body(file, teacher={"max_tokens": 64}, judge={"max_tokens": 300})
    ).json()
    assert any("against the context of 300 tokens of the teacher 'default'" in right for right in told["checked"])
    tight = provided.http.post(
        f"{JOBS}/check", json=body(file, teacher={"max_tokens": 290}, judge={"max_tokens": 300})
    ).json()
    assert [warning["code"] for warning in tight["warnings"]] == ["rows_leave_no_room_for_teacher"]
    shown = {"max_tokens": 64, "context": "a line of the manual\n" * 200}
    told = provided.http.post(f"{JOBS}/check", json=body(file, teacher=shown, judge={"max_tokens": 300})).json()
    assert [(error["code"], error["param"]) for error in told["errors"]] == [
        ("rows_too_long_for_teacher", "training_file"),
        ("rows_too_long_for_judge", "training_file"),
    ]
    assert all("shorten teacher.context" in error["remedy"] for error in told["errors"])
    long = "".join(
        json.dumps({"question": f"{'many words ' * 200}{n}?", "reference": f"{n}"}) + "\n" for n in range(60)
    )
    stored = provided.http.post("/v1/files", files={"file": ("long.jsonl", long)}, data={"purpose": "fine-tune"}).json()
    refused = provided.http.post(f"{JOBS}/check", json=body(stored["id"], teacher={"max_tokens": 64})).json()
    assert "rows_too_long_for_teacher" in {error["code"] for error in refused["errors"]}
    forget(provided)


def test_a_dev_split_too_small_to_choose_among_rounds_is_told_before_the_job(provided: Provided, file: str):
    several, one = (body(file, phases=["iterate"], iterate={"rounds": rounds}) for rounds in (2, 1))
    told = provided.http.post(f"{JOBS}/check", json=several).json()
    (warning,) = [one for one in told["warnings"] if one["code"] == "dev_not_parted"]
    assert "too few for two parts" in warning["message"]
    assert "ask for one round" in warning["remedy"]
    codes = {one["code"] for one in provided.http.post(f"{JOBS}/check", json=one).json()["warnings"]}
    assert "dev_not_parted" not in codes, "it makes no choice"


def test_samples_that_can_only_agree_by_their_text_are_told(provided: Provided, file: str):
    teacher = {"samples": 3, "max_tokens": 91}
    told = provided.http.post(f"{JOBS}/check", json=body(file, teacher=teacher)).json()
    assert "samples_agree_by_text" in {warning["code"] for warning in told["warnings"]}
    by_number = provided.http.post(
        f"{JOBS}/check", json=body(file, teacher=teacher, primary_metric="string_check")
    ).json()
    assert "samples: 3 to a question, which agree by string_check" in by_number["checked"]
    refused = provided.http.post(JOBS, json=body(file, teacher={"samples": 3, "temperature": 0}))
    assert refused.status_code == 400
    assert "at temperature 0 all samples are one answer" in refused.json()["error"]["message"]


def test_what_the_teacher_alone_is_shown_is_counted_and_must_be_text(provided: Provided, file: str):
    """Of the job, as a text or as files, and of a row, from a column that the mapping names."""

    def tokens(used: str, **teacher: Any) -> float:
        job = body(used, teacher=teacher, guidance="none", phases=["distill"])
        answer = provided.http.post(f"{JOBS}/estimate", json=job)
        assert answer.status_code == 200, answer.text
        return answer.json()["phases"]["distill"]["input_tokens"]["low"]

    def upload(content: bytes | str, purpose: str, **mapping: str) -> str:
        given = {"purpose": purpose} | ({"mapping": json.dumps(mapping)} if mapping else {})
        stored = provided.http.post("/v1/files", files={"file": ("f.jsonl", content)}, data=given)
        assert stored.status_code == 200, stored.text
        return stored.json()["id"]

    schema = "CREATE TABLE book (id INTEGER, title TEXT);\n" * 50
    before, manual = tokens(file), upload(schema, "user_data")
    by_text, by_file = tokens(file, context=schema), tokens(file, context=[manual])
    calls = provided.http.post(f"{JOBS}/estimate", json=body(file, guidance="none", phases=["distill"])).json()[
        "phases"
    ]["distill"]["calls"]["low"]
    assert by_text == by_file == pytest.approx(before + calls * len(schema) / 5)
    lines = [json.dumps({"ask": f"Which {n}?", "say": f"{n}", "ddl": schema}) for n in range(60)]
    of_rows = upload("\n".join(lines), "fine-tune", question="ask", reference="say", teacher_context="ddl")
    mapping = {"question": "ask", "reference": "say", "teacher_context": "ddl"}
    preview = provided.http.post(f"/v1/files/{of_rows}/preview", json={"rows": 1, "mapping": mapping}).json()
    shown = preview["rows"][0]["after"]
    assert shown["teacher_context"] == schema
    assert "ddl" not in shown["question"]
    assert tokens(of_rows) > calls * len(schema) / 5
    unread = provided.http.post(
        f"{JOBS}/check", json=body(of_rows, phases=["distill"], distill={"answers": "references"})
    ).json()
    assert "context_unread" in {warning["code"] for warning in unread["warnings"]}
    binary = upload(b"SQLite format 3\x00\x10\x00", "user_data")
    refused = provided.http.post(f"{JOBS}/check", json=body(file, teacher={"context": binary})).json()
    assert [(error["code"], error["param"]) for error in refused["errors"]] == [
        ("bad_context", "distillation.teacher.context")
    ]
    assert "zero byte" in refused["errors"][0]["message"]


def test_a_provider_that_does_not_answer_just_now_is_a_warning(provided: Provided, file: str):
    job = body(file, teacher={"provider": "judge"}, judge={"max_tokens": 777})
    answer = provided.http.post(JOBS, json=job)
    assert answer.status_code == 201, answer.text
    path = f"{JOBS}/{answer.json()['id']}"
    told = [
        event["message"] for event in provided.http.get(f"{path}/events").json()["data"] if event["level"] == "warn"
    ]
    assert len(told) == 1
    assert "the teacher 'judge' did not answer" in told[0]
    assert "no connection" in told[0]
    provided.http.post(f"{path}/cancel")


def test_a_slow_provider_holds_nobody_up(provided: Provided, file: str):
    provided.gateway.teacher.latency(30)
    began = time.monotonic()
    verdict = provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(5))).json()
    assert time.monotonic() - began < 15
    assert verdict["ok"]
    assert {warning["param"] for warning in verdict["warnings"]} == {
        "distillation.teacher.provider",
        "distillation.judge.provider",
    }


def test_a_judge_without_a_verdict_is_refused(provided: Provided, file: str):
    provided.gateway.teacher.fault("refusal", rate=1.0, times=50)
    verdict = provided.http.post(f"{JOBS}/check", json=body(file, **new_limits(6))).json()
    assert [error["code"] for error in verdict["errors"]] == ["judge_unreadable"]
    assert "distillation.judge.max_tokens" in verdict["errors"][0]["remedy"]


def test_the_budgets_of_the_key_and_of_its_project_are_held_against_the_estimate(provided: Provided, file: str):
    http = provided.http
    of_project = http.get("/v1/projects").json()["data"][0]["id"]
    key = http.post("/v1/keys", json={"name": "small", "budget": {"max_calls": 3}}).json()
    caller = {"authorization": f"Bearer {key['key']}"}
    checked = http.post(f"{JOBS}/check", json=body(file), headers=caller).json()
    assert [(error["code"], error["param"]) for error in checked["errors"]] == [("budget_too_small", None)]
    assert f"API key {key['id']} has 3 of 3 calls left" in checked["errors"][0]["message"]
    assert f"PATCH /v1/keys/{key['id']}" in checked["errors"][0]["remedy"]
    posted = http.post(JOBS, json=body(file), headers=caller)
    assert (posted.status_code, posted.json()["error"]["code"]) == (400, "budget_too_small")
    assert http.post(f"{JOBS}/check", json=body(file)).json()["ok"], "another's key is not asked for it"
    try:
        http.patch(f"/v1/projects/{of_project}", json={"limits": {"teacher_usd_per_day": 1e-6}}).raise_for_status()
        checked = http.post(f"{JOBS}/check", json=body(file)).json()
        (told,) = [one for one in checked["warnings"] if one["code"].startswith("budget")]
        assert "the project's limit of this day (UTC) has 1e-06 of 1e-06 USD left" in told["message"]
        assert "PATCH /v1/projects raises it" in told["remedy"]
    finally:
        http.patch(f"/v1/projects/{of_project}", json={"limits": {"teacher_usd_per_day": None}}).raise_for_status()


def test_an_estimate_has_hours_beside_money_and_grows_with_the_work(provided: Provided, file: str):
    short, long = (
        provided.http.post(f"{JOBS}/estimate", json=body(file, iterate={"rounds": rounds})).json() for rounds in (1, 4)
    )
    for estimate in (short, long):
        assert 0 < estimate["seconds"]["low"] < estimate["seconds"]["high"]
        assert estimate["total"]["calls"]["high"] >= estimate["total"]["calls"]["low"] > 0
    assert long["seconds"]["high"] > short["seconds"]["high"]


def test_plain_training_asks_nobody(provided: Provided, file: str):
    before = len(provided.gateway.teacher.log())
    verdict = provided.http.post(f"{OPENAIS}/check", json={"model": BASE, "training_file": file}).json()
    assert verdict["ok"]
    assert len(provided.gateway.teacher.log()) == before


def test_the_command_lists_all_and_ends_with_one(provided: Provided, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METEOR_API_URL", str(provided.http.base_url))
    monkeypatch.setenv("METEOR_API_KEY", KEY)
    (tmp_path / "rows.jsonl").write_bytes(rows(60))
    before = provided.http.get(JOBS).json()["data"]
    job = {"model": BASE, "distillation": {"domain": "sums", "adapter": {"rank": 64}, "judge": {"provider": "gpt"}}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = ["jobs", "create", str(tmp_path / "job.json"), "--rows", str(tmp_path / "rows.jsonl"), "--check"]
    told = CliRunner().invoke(cli, command)
    assert told.exit_code == 1, told.output
    for word in ("rank 16 at most", "METEOR_ENGINE_MAX_LORA_RANK", "'gpt'", "2 problems"):
        assert word in told.output
    sets = ["--set", "distillation.adapter.rank=8", "--set", "distillation.judge.provider=default"]
    told = CliRunner().invoke(cli, [*command, *sets])
    assert told.exit_code == 0, told.output
    for word in ("the job can run", "teacher 'default' answered", "total"):
        assert word in told.output
    assert provided.http.get(JOBS).json()["data"] == before
