"""Canaries with a goal, through the public routes: what is refused, and that they return or are promoted by themselves."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.jobs.tables import DEFAULT_PROJECT
from tests.contract.conftest import ADAPTER, KEY, RunningApi, api_environment, publish_version, running_api
from tests.fakes.ports import free_port, wait_until
from tests.fakes.vllm import FakeVllm

NEWER = "e" * 64
ALIAS = "guarded"
ROUTE = f"/v1/models/{ALIAS}/canary"
SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}
PERIOD_S = 60  # longest time until a canary has decided, on a busy machine


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm, _valkey_server: str) -> Iterator[RunningApi]:
    """With an orchestrator of its own, which evaluates canaries. guarded@1 is served, guarded@2 can be tried."""
    data = tmp_path_factory.mktemp("goals")
    changes = {"REDIS_URL": _valkey_server, "METEOR_KEY_PREFIX": "goals:"}
    with running_api(data, METEOR_API_ENGINE_URL=engine.url, **changes) as running:
        served = publish_version(running, ALIAS, ADAPTER)
        publish_version(running, ALIAS, NEWER)
        running.stores.catalog.serve(DEFAULT_PROJECT, served)
        environment = api_environment(data, 0, **changes)
        orchestrator = subprocess.Popen([sys.executable, "-m", "services.orchestrator"], env=environment)
        try:
            yield running
        finally:
            orchestrator.terminate()
            orchestrator.wait(30)


@pytest.fixture(autouse=True)
def both_answer(engine: FakeVllm, http: httpx.Client) -> Iterator[None]:
    engine.models.add(NEWER)
    assert http.post(f"/v1/models/{ALIAS}@1/promote").status_code == 200
    http.delete(ROUTE)
    yield
    engine.models |= {ADAPTER}
    engine.models.discard(NEWER)
    engine.says.clear()


@pytest.fixture(scope="module")
def http(api: RunningApi) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60, trust_env=False) as made:
        yield made


def begin(http: httpx.Client, goal: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = http.post(ROUTE, json={"version": 2, "goal": goal} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(http: httpx.Client, user: int, text: str = "hello", **body: Any) -> int:
    message = [{"role": "user", "content": text}]
    asked = {"model": ALIAS, "messages": message, "user": f"user-{user}"} | body
    return http.post("/v1/chat/completions", json=asked).status_code


def ask_until(http: httpx.Client, types: set[str], **body: Any) -> dict[str, Any]:
    """Ask as ever new users until the canary's newest event is one of these, and return it."""
    latest = time.monotonic() + PERIOD_S
    user = 0
    while time.monotonic() < latest:
        for _ in range(10):
            user += 1
            ask(http, user, **body)
        newest = http.get(f"{ROUTE}/events", params={"limit": 1}).json()["data"][0]
        if newest["type"] in types:
            return newest
    raise AssertionError(f"no {types} within {PERIOD_S} s: {http.get(ROUTE).text}")


def served(http: httpx.Client) -> int:
    return http.get(f"/v1/models/{ALIAS}").json()["version"]


ERRORS = {"metric": "errors", "min_requests": 20}


def test_a_version_that_fails_returns_by_itself(http: httpx.Client, engine: FakeVllm):
    engine.models.discard(NEWER)
    begin(http, ERRORS, steps=[30, 60], promote=True)
    event = ask_until(http, {"returned", "promoted", "passed"})
    assert (event["type"], event["level"], event["data"]["outcome"]) == ("returned", "warn", "harm")
    assert f"{ALIAS}@2 returned: errors" in event["message"]
    assert http.get(ROUTE).json()["error"]["code"] == "canary_not_found"
    assert served(http) == 1
    wait_until(lambda: {ask(http, user) for user in range(20)} == {200}, 10, "answers for everybody")
    entry = http.get("/v1/audit", params={"limit": 1}).json()["data"][0]
    assert (entry["caller"], entry["method"], entry["object_id"]) == ("canary", "DELETE", ALIAS)


def test_a_version_that_is_better_is_promoted_step_by_step(http: httpx.Client, engine: FakeVllm):
    engine.models.discard(ADAPTER)  # the served version fails
    begin(http, ERRORS | {"max_requests": 100_000}, steps=[30, 50, 100], promote=True)
    event = ask_until(http, {"returned", "promoted", "passed"})
    assert (event["type"], event["data"]["outcome"]) == ("promoted", "gain")
    assert served(http) == 2
    events = http.get(f"{ROUTE}/events").json()["data"]
    assert [one["type"] for one in events[:3]] == ["promoted", "step", "started"]
    wait_until(lambda: {ask(http, user) for user in range(20)} == {200}, 10, "answers for everybody")


def test_without_a_difference_it_passes_and_goes_on(http: httpx.Client):
    made = begin(http, ERRORS, percent=50)
    assert (made["steps"], made["standing"]["canary"]) == ([50.0], {"requests": 0, "loss": None})
    assert made["goal"]["alpha"] == 0.05
    event = ask_until(http, {"returned", "promoted", "passed"})
    assert (event["type"], event["data"]["outcome"]) == ("passed", "no_harm")
    assert served(http) == 1
    shown = http.get(ROUTE).json()
    assert (shown["percent"], shown["standing"]["outcome"]) == (50, "no_harm")
    assert shown["standing"]["canary"]["requests"] >= 20


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_whose_answers_are_worse_returns(http: httpx.Client, engine: FakeVllm, stream: bool):
    engine.says |= {ADAPTER: '{"answer": 1}', NEWER: "no idea"}
    goal = {"metric": "grader", "grader": SCHEMA, "min_requests": 500}
    begin(http, goal, shadow=True)
    event = ask_until(http, {"returned", "passed"}, stream=stream)
    assert (event["type"], event["data"]["outcome"]) == ("returned", "harm")
    standing = event["data"]["standing"]
    assert (standing["served"]["loss"], standing["canary"]["loss"]) == (0, 1)


def counted(http: httpx.Client) -> int:
    standing = http.get(ROUTE).json()["standing"]
    return standing["served"]["requests"] + standing["canary"]["requests"]


@pytest.mark.parametrize(("per", "most"), [("user", 6), ("answer", 7)])
def test_a_user_is_one_observation(http: httpx.Client, per: str, most: int):
    """In a step; or a minute, of which the first may have ended in between."""
    begin(http, ERRORS | {"min_requests": 10_000, "per": per}, percent=50)
    for _ in range(10):
        assert ask(http, 1) == 200
    for user in range(100, 105):
        ask(http, user)
    wait_until(lambda: counted(http) >= 6, 30, "the observations")
    assert counted(http) <= most


def test_users_are_named_by_metadata_where_the_goal_says_so(http: httpx.Client):
    """One customer's users stay with one version, and count once."""
    begin(http, ERRORS | {"min_requests": 10_000, "user_key": "customer"}, percent=50)
    answers = set()
    for user in range(12):
        asked = {"model": ALIAS, "messages": [{"role": "user", "content": "hello"}], "user": f"user-{user}"}
        answer = http.post("/v1/chat/completions", json=asked | {"metadata": {"customer": "one"}})
        answers.add(answer.headers["x-meteor-model"])
    assert len(answers) == 1
    ask(http, 100)
    wait_until(lambda: counted(http) == 2, 30, "the observations")


GOAL = {"metric": "errors"}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "percent", "missing_required_parameter"),
        ({"percent": 1, "promote": True}, "promote", "invalid_value"),
        ({"steps": [1, 2]}, "steps", "invalid_value"),
        ({"goal": {"metric": "speed"}}, "goal.metric", "invalid_value"),
        ({"goal": GOAL | {"margin": -1}}, "goal.margin", "invalid_value"),
        ({"goal": GOAL | {"alpha": 0}}, "goal.alpha", "invalid_value"),
        ({"goal": GOAL | {"limit_ms": 5}}, "goal.limit_ms", "invalid_value"),
        ({"goal": {"metric": "latency_ms"}}, "goal.limit_ms", "missing_required_parameter"),
        ({"goal": GOAL | {"until": 5}}, "goal.until", "invalid_value"),
        ({"goal": GOAL | {"max_requests": 299}}, "goal.max_requests", "invalid_value"),
        ({"goal": GOAL, "steps": [50, 5]}, "steps", "invalid_value"),
        ({"goal": GOAL, "steps": [100]}, "steps.0", "invalid_value"),
        ({"goal": GOAL, "steps": []}, "steps", "invalid_value"),
        ({"goal": GOAL, "percent": 0}, "percent", "invalid_value"),
        ({"goal": GOAL, "percent": 5, "steps": [5]}, "steps", "invalid_value"),
        ({"goal": GOAL, "percent": 5, "shadow": True}, "shadow", "invalid_value"),
        ({"goal": {"metric": "grader", "grader": SCHEMA}}, "shadow", "invalid_value"),
        ({"goal": {"metric": "grader"}, "shadow": True}, "goal.grader", "missing_required_parameter"),
        ({"goal": {"metric": "grader", "grader": "rouge_l"}, "shadow": True}, "goal.grader", "invalid_value"),
        ({"goal": GOAL | {"per": "request"}}, "goal.per", "invalid_value"),
        ({"goal": GOAL | {"wish": 1}}, "goal.wish", "unknown_parameter"),
    ],
)
def test_what_cannot_decide_is_refused(http: httpx.Client, body: dict, param: str, code: str):
    answer = http.post(ROUTE, json={"version": 2} | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code), error


def test_events_of_an_alias_that_does_not_exist_are_not_found(http: httpx.Client):
    assert http.get("/v1/models/nobody/canary/events").json()["error"]["code"] == "model_not_found"


@pytest.mark.usefixtures("api")
def test_counts_outlive_a_killed_api(tmp_path_factory: pytest.TempPathFactory, engine: FakeVllm):
    """Two processes on one data folder, one after the other: their counts add up."""
    broker = f"redis://127.0.0.1:{free_port()}/0"
    data = tmp_path_factory.mktemp("killed")
    headers = {"authorization": f"Bearer {KEY}"}
    totals = []
    for start in (0, 100):
        with (
            running_api(data, METEOR_API_ENGINE_URL=engine.url, REDIS_URL=broker) as running,
            httpx.Client(base_url=running.url, headers=headers, timeout=60, trust_env=False) as http,
        ):
            if not start:
                first = publish_version(running, ALIAS, ADAPTER)
                publish_version(running, ALIAS, NEWER)
                running.stores.catalog.serve(DEFAULT_PROJECT, first)
                begin(http, ERRORS, percent=50)
            canary = running.stores.canaries.get(DEFAULT_PROJECT, ALIAS)
            assert canary is not None
            assert canary.id is not None
            canary_id = canary.id
            for user in range(start, start + 30):
                assert ask(http, user) == 200

            def total(stores: Any = running.stores, name: str = canary_id) -> float:
                return sum(count.n for count in stores.canaries.counts(name))

            expected = 30 + (totals[-1] if totals else 0)
            wait_until(lambda total=total, expected=expected: total() == expected, 20, "the counts")
            totals.append(total())
            os.kill(running.process.pid, 9)
    assert totals == [30, 60]
