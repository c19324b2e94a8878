"""The loop: served chats with corrections become a job whose version is promoted by its canary, and one that harms returns by itself.

Other tests, and here another application, store corrected chats in the same project: the recipe takes those alone that name its application.
The API is killed while the canary is at work, the orchestrator while the job is: the recipe makes one job all the same. A person who was
forgotten before stands nowhere in the data folder.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.e2e.conftest import SMALL, System
from tests.fakes.receiver import Receiver, receiving

pytestmark = [pytest.mark.engine, pytest.mark.drill, pytest.mark.timeout(2000)]
ALIAS, CANARY = "looped", "/v1/models/looped/canary"
APP = {"app": "loop"}
OLD, NEW = "the number is seven", "it must be eight"
FORGOTTEN, MARKER = "user-to-forget", "marmalade sandwiches"
PER_USER = {"metric": "feedback", "min_requests": 8}
QUICK: dict[str, Any] = {
    "phases": ["distill"],
    "evaluation": {"forgetting": 0, "graders": ["chrf"], "baselines": []},
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def client(healthy: System) -> OpenAI:
    return OpenAI(base_url=f"{healthy.runner.urls['api']}/v1", api_key="none", max_retries=5)


def question(number: int) -> str:
    return f"loop: which number comes after {number}?"


def chat(
    client: OpenAI, model: str, number: int, user: str, more: str = "", metadata: dict[str, str] = APP
) -> tuple[str, str]:
    """(id, answer)"""
    asked: Any = [{"role": "user", "content": question(number) + more}]
    made = client.chat.completions.create(
        model=model, messages=asked, store=True, metadata=metadata, user=user, max_tokens=16, temperature=0
    )
    return made.id, made.choices[0].message.content or ""


def say(system: System, completion_id: str, **said: Any) -> None:
    answer = system.client.post("/v1/feedback", json={"completion_id": completion_id} | said)
    assert answer.status_code == 201, answer.text


def recipe(system: System) -> str:
    """Of the chats of this test's application. Its versions are tried by a canary before they are served."""
    general = {name: value for name, value in SMALL.items() if name not in ("iterate", "evolve")}
    canary = {"goal": PER_USER | {"max_requests": 1000}, "steps": [50], "promote": True}
    job = {"model": "tiny", "suffix": ALIAS, "distillation": general | QUICK | {"canary": canary}}
    source = {"type": "completions", "metadata": APP, "feedback": ["corrected"]}
    body = {"name": "loop", "job": job, "source": source, "trigger": {"rows": 60}, "budget": {"max_calls": 1000}}
    made = system.client.post("/v1/recipes", json=body)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def shown(system: System, recipe_id: str) -> dict[str, Any]:
    return system.client.get(f"/v1/recipes/{recipe_id}").json()


def job_of_run(system: System, recipe_id: str, run: int) -> str:
    def made() -> str | None:
        last = shown(system, recipe_id)["last_run"]
        return last["job_id"] if last and last["number"] == run and last["status"] != "making" else None

    return system.until(made, 300, lambda: json.dumps(shown(system, recipe_id)))


def corrected(system: System, client: OpenAI, model: str, numbers: range, words: str) -> None:
    for number in numbers:
        completion, _ = chat(client, model, number, f"user-{number}")
        say(system, completion, rating="down", correction=words)


def served(system: System) -> int:
    return system.client.get(f"/v1/models/{ALIAS}").json()["version"]


def use_until_decided(system: System, client: OpenAI, killing: bool = False) -> dict[str, Any]:
    """Ever new users rate what they get: the new answer is right. Returns the event that decided."""
    before = len(canary_events(system))
    for number in range(400):
        completion, answer = chat(client, ALIAS, number % 60, f"rater-{before}-{number}")
        say(system, completion, rating="up" if "eight" in answer else "down")
        if killing and number == 10:
            system.kill("api")
            system.until(lambda: answers(system), 120)
        events = canary_events(system)
        if len(events) > before:
            return events[0]
    raise AssertionError(system.client.get(CANARY).text)


def answers(system: System) -> bool:
    try:
        return system.client.get("/readyz").status_code == 200
    except Exception:
        return False


def canary_events(system: System) -> list[dict[str, Any]]:
    events = system.client.get(f"{CANARY}/events", params={"limit": 100}).json()["data"]
    return [event for event in events if event["type"] in ("returned", "promoted", "undecided", "passed")]


def delivered(receiver: Receiver) -> list[str]:
    return [json.loads(message.body)["type"] for message in receiver.at("/loop")]


def files_with(system: System, *words: str) -> set[str]:
    there = [path for path in system.data.rglob("*") if path.is_file() and path.stat().st_size < 2**26]
    return {str(path) for path in there if any(word.encode() in path.read_bytes() for word in words)}


def test_chats_become_a_version_that_is_promoted_by_use_and_a_harmful_one_returns(
    healthy: System, client: OpenAI, receiver: Receiver
):
    system = healthy
    hook = {
        "name": "loop",
        "url": f"{receiver.url}/loop",
        "event_types": ["model.canary.promoted", "model.canary.returned"],
    }
    assert system.client.post("/v1/webhooks", json=hook).status_code in (200, 201)

    forgotten, _ = chat(client, "tiny", 1000, FORGOTTEN, MARKER)
    say(system, forgotten, rating="down", correction=MARKER, author=FORGOTTEN)
    told = system.client.post("/v1/forget", json={"user": FORGOTTEN}).json()
    assert (told["completions"], told["feedback"]) == (1, 1)
    system.until(
        lambda: not files_with(system, FORGOTTEN, MARKER), 60, lambda: str(files_with(system, FORGOTTEN, MARKER))
    )

    of_another, _ = chat(client, "tiny", 2000, "user-of-another", metadata={"app": "another"})
    say(system, of_another, rating="down", correction=NEW)

    # the base's answers are corrected: the first version, which is served at once since there is none
    corrected(system, client, "tiny", range(60), OLD)
    made = recipe(system)
    first = job_of_run(system, made, 1)
    assert shown(system, made)["last_run"]["rows"] == 60
    system.until(lambda: system.job(first)["status"] == "running", 120)
    system.kill("orchestrator")
    ended = system.wait(first)
    assert (ended["status"], ended["fine_tuned_model"]) == ("succeeded", f"{ALIAS}@1"), ended
    assert served(system) == 1

    # its answers are corrected: the next version is better on dev, and is tried
    corrected(system, client, ALIAS, range(60), NEW)
    second = job_of_run(system, made, 2)
    ended = system.wait(second)
    assert (ended["status"], ended["fine_tuned_model"]) == ("succeeded", f"{ALIAS}@2"), ended
    assert system.report(second)["promotion"]["state"] == "promoted"
    assert served(system) == 1
    assert f"a canary tries it beside {ALIAS}@1" in " ".join(system.messages(second))
    event = use_until_decided(system, client, killing=True)
    assert (event["type"], event["data"]["outcome"]) == ("promoted", "gain"), event
    assert served(system) == 2

    # a version that harms: users do not like the old answers any more
    harmful = {"version": 1, "steps": [50], "goal": PER_USER, "promote": True}
    assert system.client.post(CANARY, json=harmful).status_code == 200
    event = use_until_decided(system, client)
    assert (event["type"], event["data"]["outcome"]) == ("returned", "harm"), event
    assert served(system) == 2
    system.until(lambda: sorted(delivered(receiver)) == ["model.canary.promoted", "model.canary.returned"], 60)

    made_jobs = system.client.get("/v1/distillation/jobs", params={"metadata[recipe]": made}).json()["data"]
    assert [job["id"] for job in made_jobs] == [second, first]
    assert [shown(system, made)["runs"], shown(system, made)["last_run"]["rows"]] == [2, 60]
    system.client.delete(f"/v1/recipes/{made}")
