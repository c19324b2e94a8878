"""/v1/feedback as clients see it."""

from typing import Any

import httpx
import pytest

from tests.contract.conftest import BASE
from tests.contract.test_bad_input import check

FEEDBACK = "/v1/feedback"


@pytest.fixture(scope="module")
def completion(http: httpx.Client) -> str:
    body = {"model": BASE, "messages": [{"role": "user", "content": "List all files."}], "store": True}
    return http.post("/v1/chat/completions", json=body).json()["id"]


def say(http: httpx.Client, completion: str, **said: Any) -> dict[str, Any]:
    answer = http.post(FEEDBACK, json={"completion_id": completion} | said)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{FEEDBACK}/{answer.json()['id']}"
    return answer.json()


def test_it_is_said_replaced_read_listed_and_deleted(http: httpx.Client, completion: str):
    first = say(http, completion, rating="down", comment="misses hidden files")
    assert set(first) == {
        "id", "object", "completion_id", "version", "rating", "score", "correction", "comment", "author", "created_at",
        "updated_at",
    }  # fmt: skip
    assert (first["object"], first["version"], first["author"]) == ("feedback", BASE, None)
    again = say(http, completion, rating="up", score=0.75)
    assert (again["id"], again["rating"], again["comment"]) == (first["id"], "up", None)
    expert = say(http, completion, correction="ls -a", author="expert")
    assert expert["id"] != first["id"]
    by_chat = {"completion_id": completion}
    assert [row["id"] for row in http.get(FEEDBACK, params=by_chat).json()["data"]] == [expert["id"], first["id"]]
    assert [row["id"] for row in http.get(FEEDBACK, params=by_chat | {"rating": "up"}).json()["data"]] == [first["id"]]
    assert http.get(FEEDBACK, params=by_chat | {"model": "another"}).json()["data"] == []
    page = http.get(FEEDBACK, params=by_chat | {"limit": 1}).json()
    assert page["has_more"] is True
    rest = http.get(FEEDBACK, params=by_chat | {"after": page["last_id"]}).json()
    assert [row["id"] for row in rest["data"]] == [first["id"]]
    assert http.get(f"{FEEDBACK}/{expert['id']}").json() == expert
    assert http.delete(f"{FEEDBACK}/{expert['id']}").json() == {
        "id": expert["id"], "object": "feedback", "deleted": True
    }  # fmt: skip
    for way in ("GET", "DELETE"):
        check(http.request(way, f"{FEEDBACK}/{expert['id']}"), 404, "feedback_not_found", "feedback_id")


def test_it_goes_with_its_chat(http: httpx.Client):
    body = {"model": BASE, "messages": [{"role": "user", "content": "hello"}], "store": True, "stream": True}
    answer = http.post("/v1/chat/completions", json=body).text
    completion = answer.partition('"id":"')[2].partition('"')[0]
    made = say(http, completion, rating="up")
    assert http.delete(f"/v1/chat/completions/{completion}").status_code == 200
    check(http.get(f"{FEEDBACK}/{made['id']}"), 404, "feedback_not_found", "feedback_id")
    gone = http.post(FEEDBACK, json={"completion_id": completion, "rating": "up"})
    assert "store: true" in check(gone, 404, "completion_not_found", "completion_id")


def test_the_same_request_says_it_once(http: httpx.Client, completion: str):
    body, headers = {"completion_id": completion, "rating": "down"}, {"idempotency-key": "said"}
    first = http.post(FEEDBACK, json=body, headers=headers)
    say(http, completion, rating="up")
    again = http.post(FEEDBACK, json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert http.get(f"{FEEDBACK}/{first.json()['id']}").json()["rating"] == "up"
    other = http.post(FEEDBACK, json=body | {"rating": "up"}, headers=headers)
    check(other, 422, "idempotency_key_reused", "Idempotency-Key")


@pytest.mark.parametrize(
    ("said", "code", "param"),
    [
        ({}, "invalid_value", None),
        ({"rating": "left"}, "invalid_value", "rating"),
        ({"score": 1.5}, "invalid_value", "score"),
        ({"correction": " "}, "invalid_value", None),
        ({"comment": "x" * 10_001}, "invalid_value", "comment"),
        ({"comment": "a\x00b"}, "invalid_value", "comment"),
        ({"rating": "up", "project": "x"}, "unknown_parameter", "project"),
    ],
)
def test_what_says_nothing_or_nonsense_is_refused(
    http: httpx.Client, completion: str, said: dict[str, Any], code: str, param: str | None
):
    check(http.post(FEEDBACK, json={"completion_id": completion} | said), 400, code, param)


def test_a_list_refuses_what_it_does_not_know(http: httpx.Client):
    check(http.post(FEEDBACK, json={"rating": "up"}), 400, "missing_required_parameter", "completion_id")
    check(http.get(FEEDBACK, params={"rating": "left"}), 400, "invalid_value", "rating")
    check(http.get(FEEDBACK, params={"after": "feedback-none"}), 400, "unknown_cursor", "after")
    check(http.get(FEEDBACK, params={"user": "x"}), 400, "unknown_parameter", "user")
