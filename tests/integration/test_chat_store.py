"""Stored chats, feedback and origins in the store, on both databases."""

import time
from typing import Any

import pytest
from sqlalchemy import func, select

from shared.contracts.errors import NotFound, UserError
from shared.contracts.feedback import FeedbackRequest
from shared.db.engine import reading
from shared.jobs.chat_store import ChatFilter
from shared.jobs.records import ChatOriginRecord
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, chat_origins, chats, feedback

EVERY = ChatFilter()


def chat(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{name}", "project_id": DEFAULT_PROJECT, "alias": "shell", "version": 1, "model": "shell",
        "user": None, "safety_identifier": None, "request": {"messages": []}, "answer": {"choices": []}, "metadata": {},
        "bytes": 100, "masked": None, "request_id": "req", "created_at": time.time(),
    } | changes  # fmt: skip


def ids(stores: Stores, filter: ChatFilter = EVERY, project: str = DEFAULT_PROJECT, ascending: bool = True) -> str:
    rows, _ = stores.chats.page(project, None, 100, filter, ascending)
    return " ".join(row.id.removeprefix("chatcmpl-") for row in rows)


def say(stores: Stores, name: str, **said: Any):
    request = FeedbackRequest(completion_id=f"chatcmpl-{name}", **said)
    return stores.feedback.put(stores.chats.get(DEFAULT_PROJECT, request.completion_id), request)


def count(stores: Stores, table: Any) -> int:
    with reading(stores.chats.engine) as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_chats_are_listed_by_filter_in_either_order_and_by_their_project_alone(stores: Stores):
    other = stores.projects.add("other").id
    stores.chats.add(
        [
            chat("a", created_at=10.0, metadata={"kind": "x"}),
            chat("b", created_at=20.0, version=2, metadata={"kind": "x", "more": "y"}),
            chat("c", created_at=30.0, alias="base", version=None),
            chat("d", project_id=other),
        ]
    )
    stores.chats.add([chat("a", model="another")])  # a second one of the id changes nothing
    assert (ids(stores), ids(stores, ascending=False), ids(stores, project=other)) == ("a b c", "c b a", "d")
    for filter, expected in (
        (ChatFilter(model="shell"), "a b"),
        (ChatFilter(model="shell@2"), "b"),
        (ChatFilter(model="shell@x"), ""),
        (ChatFilter(model="base"), "c"),
        (ChatFilter(metadata={"kind": "x"}), "a b"),
        (ChatFilter(metadata={"kind": "x", "more": "y"}), "b"),
        (ChatFilter(since=20.0), "b c"),
        (ChatFilter(since=10.0, until=30.0), "a b"),
    ):
        assert ids(stores, filter) == expected, filter
    page, more = stores.chats.page(DEFAULT_PROJECT, "chatcmpl-a", 1, EVERY, ascending=True)
    assert ([row.id for row in page], more) == (["chatcmpl-b"], True)
    with pytest.raises(UserError, match="to continue after"):
        stores.chats.page(DEFAULT_PROJECT, "chatcmpl-d", 1, EVERY, ascending=True)
    assert stores.chats.get(DEFAULT_PROJECT, "chatcmpl-a").model == "shell"
    assert stores.chats.get(DEFAULT_PROJECT, "chatcmpl-b").served == "shell@2"
    for act in (stores.chats.get, stores.chats.delete):
        with pytest.raises(NotFound):
            act(DEFAULT_PROJECT, "chatcmpl-d")
    with pytest.raises(NotFound):
        stores.chats.set_metadata(DEFAULT_PROJECT, "chatcmpl-d", {})
    assert stores.chats.set_metadata(DEFAULT_PROJECT, "chatcmpl-c", {"new": "1"}).metadata == {"new": "1"}


def test_feedback_is_one_row_per_author_and_goes_with_its_chat(stores: Stores):
    stores.chats.add([chat("a"), chat("b")])
    first = say(stores, "a", rating="down", comment="wrong")
    again = say(stores, "a", rating="up")
    assert (again.id, again.rating, again.comment) == (first.id, "up", None)
    expert = say(stores, "a", correction="ls -a", author="expert")
    say(stores, "b", score=0.25)
    assert (expert.author, expert.alias, expert.version) == ("expert", "shell", 1)

    def listed(**by: Any) -> list[str]:
        return [row.id for row in stores.feedback.page(DEFAULT_PROJECT, None, 10, **by)[0]]

    assert listed(completion_id="chatcmpl-a") == [expert.id, first.id]
    assert (listed(rating="up"), listed(rating="down"), len(listed(model="shell@1"))) == ([first.id], [], 3)
    assert listed(model="shell@2") == []
    said = {one.chat.id: [row.author for row in one.feedback] for one in stores.chats.judged(DEFAULT_PROJECT, EVERY)}
    assert said == {"chatcmpl-a": ["expert", ""], "chatcmpl-b": [""]}
    stores.chats.delete(DEFAULT_PROJECT, "chatcmpl-a")
    assert count(stores, feedback) == 1
    for act in (stores.feedback.get, stores.feedback.delete):
        with pytest.raises(NotFound):
            act(DEFAULT_PROJECT, first.id)
        with pytest.raises(NotFound):
            act("proj_other", stores.feedback.page(DEFAULT_PROJECT, None, 10)[0][0].id)


def test_feedback_on_a_chat_that_went_in_between_is_not_found(stores: Stores):
    stores.chats.add([chat("a")])
    gone = stores.chats.get(DEFAULT_PROJECT, "chatcmpl-a")
    stores.chats.delete(DEFAULT_PROJECT, gone.id)
    with pytest.raises(NotFound):
        stores.feedback.put(gone, FeedbackRequest(completion_id=gone.id, rating="up"))


def test_thumbs_are_counted_by_version_once_a_chat(stores: Stores):
    stores.chats.add([chat("a"), chat("b"), chat("c", version=2), chat("old", created_at=5.0)])
    for name, rating, author in (
        ("a", "down", ""), ("a", "up", "later"), ("b", "down", ""), ("c", "up", ""), ("old", "up", ""),
    ):  # fmt: skip
        say(stores, name, rating=rating, author=author)
    say(stores, "b", score=1.0, author="without a thumb")
    assert stores.feedback.ratings(DEFAULT_PROJECT, "shell", 1, since=10.0) == (1, 1)
    assert stores.feedback.ratings(DEFAULT_PROJECT, "shell", 1, since=0.0) == (2, 1)
    assert stores.feedback.ratings(DEFAULT_PROJECT, "shell", 2, since=0.0) == (1, 0)


def test_old_chats_go_by_age_and_by_room(stores: Stores):
    other = stores.projects.add("other").id
    stores.chats.add(
        [chat(f"{n:03}", created_at=float(n), bytes=100) for n in range(700)] + [chat("x", project_id=other)]
    )
    say(stores, "000", rating="up")
    assert (stores.chats.expire(650.0, dry_run=True), count(stores, chats)) == (650, 701)
    assert stores.chats.expire(650.0) == 650
    assert count(stores, feedback) == 0
    assert stores.chats.trim(DEFAULT_PROJECT, 5000) == 0
    assert stores.chats.trim(DEFAULT_PROJECT, 2000) == 31, "1900 bytes stay"
    assert ids(stores).split()[0] == "681"
    assert ids(stores, project=other) == "x"


def test_a_person_is_forgotten_with_what_others_and_they_said(stores: Stores):
    other = stores.projects.add("other").id
    stores.chats.add(
        [
            chat("a", user="ann"), chat("b", safety_identifier="ann"), chat("c", user="bob"),
            chat("d", user="ann", project_id=other), chat("expired", user="ann"),
        ]
    )  # fmt: skip
    say(stores, "a", rating="up", author="bob")
    say(stores, "c", rating="up", author="ann")
    say(stores, "c", rating="down", author="bob")
    origins = [ChatOriginRecord(DEFAULT_PROJECT, name, "ann", None) for name in ("chatcmpl-a", "chatcmpl-expired")]
    for _ in range(2):
        origins.append(ChatOriginRecord(DEFAULT_PROJECT, "chatcmpl-gone", "ann", None))
        assert stores.chats.note_origins([*origins, ChatOriginRecord(other, "chatcmpl-d", "ann", None)]) == {
            "chatcmpl-gone"
        }
    stores.chats.delete(DEFAULT_PROJECT, "chatcmpl-expired")
    seen = stores.chats.forget(DEFAULT_PROJECT, ["ann"], dry_run=True)
    assert (count(stores, chats), count(stores, feedback), count(stores, chat_origins)) == (4, 3, 3)
    done = stores.chats.forget(DEFAULT_PROJECT, ["ann"])
    assert done == seen
    assert (sorted(done.completions), done.feedback) == (["chatcmpl-a", "chatcmpl-b"], 2)
    assert done.rows == ["chatcmpl-a", "chatcmpl-b", "chatcmpl-expired"]
    assert (ids(stores), ids(stores, project=other)) == ("c", "d")
    assert (count(stores, feedback), count(stores, chat_origins)) == (1, 1)
    again = stores.chats.forget(DEFAULT_PROJECT, ["ann"])
    assert (again.completions, again.feedback, again.rows) == ([], 0, [])
    named = stores.chats.forget(DEFAULT_PROJECT, completions=["chatcmpl-c", "chatcmpl-d"])
    assert (named.completions, named.feedback) == (["chatcmpl-c"], 1)


def test_a_share_of_an_alias_is_captured_until_it_is_ended(stores: Stores):
    captures = stores.captures
    assert captures.get(DEFAULT_PROJECT, "shell") is None
    captures.set(DEFAULT_PROJECT, "shell", 5, False)
    made = captures.set(DEFAULT_PROJECT, "shell", 12.5, True)
    assert captures.get(DEFAULT_PROJECT, "shell") == made
    assert (made.percent, made.mask) == (12.5, True)
    assert captures.get("proj_other", "shell") is None
    assert [captures.end(DEFAULT_PROJECT, "shell") for _ in range(2)] == [True, False]
