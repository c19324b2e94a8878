"""Several students and whole models behind one API: what jobs may name, what is listed, and what a chat is told meanwhile."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from services.weak_model.engine.control import Control
from services.weak_model.engine.model_scheduler import ModelScheduler, Rules
from shared.contracts.steps import Method, ModelRef
from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import BASE, KEY, LARGER, TOKEN, RunningApi, rows, running_api
from tests.fakes.ports import free_port
from tests.fakes.vllm import FakeVllm

ASK: Any = [{"role": "user", "content": "hello"}]
WHOLE = "b" * 64
JOBS = "/v1/distillation/jobs"


@pytest.fixture(scope="module")
def scheduler() -> ModelScheduler:
    made = ModelScheduler(BASE, Rules(linger=600, turn=600, drain=600))
    made.start_succeeded()
    return made


@pytest.fixture(scope="module")
def swapping(
    tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm, scheduler: ModelScheduler, _valkey_server: str
) -> Iterator[RunningApi]:
    """An API whose engine can be asked for other models."""
    port = free_port()
    control = Control("127.0.0.1", port, TOKEN, scheduler, lambda model: True)
    control.start()
    urls = {"METEOR_API_ENGINE_URL": engine.url, "METEOR_API_ENGINE_CONTROL_URL": f"http://127.0.0.1:{port}/"}
    with running_api(tmp_path_factory.mktemp("swapping"), REDIS_URL=_valkey_server, **urls) as running:
        yield running
    control.shutdown()
    control.server_close()


@pytest.fixture
def other(swapping: RunningApi) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=swapping.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
    ) as made:
        yield made


@pytest.fixture
def file(other: httpx.Client) -> str:
    return other.post("/v1/files", files={"file": ("r.jsonl", rows(60))}, data={"purpose": "fine-tune"}).json()["id"]


def test_all_students_are_listed_where_the_engine_can_serve_them(other: httpx.Client, http: httpx.Client):
    assert [model["id"] for model in other.get("/v1/models").json()["data"]] == [BASE, LARGER]
    assert other.get(f"/v1/models/{LARGER}").json()["id"] == LARGER
    assert LARGER not in [model["id"] for model in http.get("/v1/models").json()["data"]]
    assert http.get(f"/v1/models/{LARGER}").status_code == 404


def test_a_full_job_takes_the_papers_rates_where_it_names_none(other: httpx.Client, file: str):
    settings = {"domain": "sums", "adapter": {"method": "full", "rank": 256}, "iterate": {"learning_rate": 1e-3}}
    answer = other.post(JOBS, json={"model": LARGER, "training_file": file, "distillation": settings})
    assert answer.status_code == 201, answer.text
    made = other.get(f"{JOBS}/{answer.json()['id']}").json()
    assert (made["model"], made["distillation"]["adapter"]["method"]) == (LARGER, "full")
    rates = [made["distillation"][phase]["learning_rate"] for phase in ("distill", "iterate", "evolve")]
    assert rates == [3e-5, 1e-3, 1e-5]


def test_an_unknown_student_is_told_the_known_ones(other: httpx.Client, file: str):
    answer = other.post(JOBS, json={"model": "none", "training_file": file, "distillation": {"domain": "d"}})
    assert answer.json()["error"]["message"] == (
        f"model must be '{BASE}' or '{LARGER}', not 'none'; METEOR_STUDENTS names more; a version (GET /v1/models) is trained further"
    )


def test_the_students_preset_is_a_variant_of_each(other: httpx.Client, file: str):
    job = {"model": BASE, "training_file": file, "distillation": {"domain": "sums"}}
    answer = other.post("/v1/experiments", json={"job": job, "preset": "students"})
    assert answer.status_code == 201, answer.text
    variants = answer.json()["variants"]
    assert [variant["name"] for variant in variants] == [BASE, "org-larger"]
    jobs = [other.get(f"{JOBS}/{variant['job_id']}").json() for variant in variants]
    assert [(job["model"], job["suffix"]) for job in jobs] == [(BASE, f"expert-{BASE}"), (LARGER, "expert-org-larger")]
    other.post(f"/v1/experiments/{answer.json()['id']}/cancel")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_with_a_model_that_is_not_served_asks_for_it(
    swapping: RunningApi, other: httpx.Client, file: str, scheduler: ModelScheduler, stream: bool
):
    """Both a second base and a whole model; the first goes on being served meanwhile."""
    whole = ModelRef(base=BASE, base_hash="0" * 64).trained(Method.FULL, WHOLE)
    job = other.post(JOBS, json={"model": BASE, "training_file": file, "distillation": {"domain": "d"}}).json()["id"]
    version = swapping.stores.catalog.publish(DEFAULT_PROJECT, "whole", whole, job, "promoted").version
    with openai.OpenAI(base_url=f"{swapping.url}/v1", api_key=KEY, max_retries=0) as client:
        for name, wanted in ((LARGER, LARGER), (f"whole@{version}", WHOLE)):
            with pytest.raises(openai.APIStatusError) as error:
                client.chat.completions.create(model=name, messages=ASK, stream=stream)
            assert (error.value.status_code, error.value.code) == (503, "engine_swapping")
            assert int(error.value.response.headers["retry-after"]) >= 2
            assert wanted in scheduler.status().waiting
        assert client.chat.completions.create(model=BASE, messages=ASK).choices[0].message.content == "hello"


def test_readiness_tells_what_the_engine_does(other: httpx.Client, scheduler: ModelScheduler):
    assert other.get("/readyz").json()["engine"]["serving"] == BASE
    scheduler.start_begins()
    try:
        answer = other.get("/readyz").json()["engine"]
        assert answer["state"] == "starting"
        assert answer["eta_seconds"] is not None
    finally:
        scheduler.start_succeeded()
