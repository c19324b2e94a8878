"""Stored chats, feedback and origins in the store, on both databases."""

import time
from typing import Any

import pytest
from sqlalchemy import func, select

from shared.contracts.errors import NotFound, UserError
from shared.contracts.feedback import FeedbackRequest
from shared.contracts.imports import OfRecipe
from shared.contracts.recipes import RecipeRequest
from shared.db.engine import reading
from shared.jobs.chat_store import ChatFilter, new_chats
from shared.jobs.feedback_store import RatedChats
from shared.jobs.records import ChatOriginRecord
from shared.jobs.schema import Stores
from shared.jobs.tables import DEFAULT_PROJECT, chat_origins, chats, feedback, recipe_chats

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


def test_chats_are_chosen_by_what_was_said_of_them_last_and_by_agreement(stores: Stores):
    stores.chats.add([chat(name) for name in "abcdef"] + [chat("g", agreement=0.5), chat("h", agreement=1.0)])
    for name, said in (
        ("a", {"rating": "up"}), ("b", {"rating": "down"}), ("c", {"correction": "x"}), ("e", {"score": 0.5}),
        ("f", {"rating": "down", "correction": "x"}),
    ):  # fmt: skip
        say(stores, name, **said)
    say(stores, "a", author="ann", comment="no rating, so the other one's holds")
    say(stores, "b", author="ann", rating="up")
    for filter, expected in (
        (ChatFilter(feedback=["up"]), "a b"),
        (ChatFilter(feedback=["down"]), "f"),
        (ChatFilter(feedback=["corrected"]), "c f"),
        (ChatFilter(feedback=["none"]), "d g h"),
        (ChatFilter(feedback=["down", "none"]), "d f g h"),
        (ChatFilter(agreement_below=1.0), "g"),
    ):
        assert ids(stores, filter) == expected, filter
        assert stores.chats.count(DEFAULT_PROJECT, filter) == len(expected.split())


def test_of_each_user_the_first_rated_chat_counts(stores: Stores):
    """Named by a key of metadata, by user or by safety_identifier; a chat of nobody is a user of its own."""
    people = (
        {"user": "ann"}, {"user": "ann"}, {"user": "bob", "metadata": {"customer": "ann"}}, {"safety_identifier": "cy"},
        {"safety_identifier": "cy"}, {}, {},
    )  # fmt: skip
    stores.chats.add([chat(str(number), **person) for number, person in enumerate(people)])
    for number, rating in enumerate(("up", "down", "down", "down", "up", "up", "up")):
        say(stores, str(number), rating=rating)
    of = RatedChats("shell", 1)
    assert stores.feedback.ratings(DEFAULT_PROJECT, of) == (4, 3)
    assert stores.feedback.ratings(DEFAULT_PROJECT, of._replace(per_user=True)) == (3, 2)
    assert stores.feedback.ratings(DEFAULT_PROJECT, of._replace(per_user=True, user_key="customer")) == (3, 1)


def test_a_recipe_takes_a_chat_once_and_again_when_it_is_corrected(stores: Stores):
    source = {"type": "completions", "model": "shell"}
    body = {"name": "r", "job": {}, "source": source, "trigger": {"rows": 1}}
    first, second = (stores.recipes.add(DEFAULT_PROJECT, RecipeRequest.model_validate(body), None).id for _ in range(2))

    def taken(recipe: str, run: int) -> str:
        judged = stores.chats.judged(DEFAULT_PROJECT, EVERY, OfRecipe(id=recipe, run=run))
        return " ".join(one.chat.id.removeprefix("chatcmpl-") for one in judged)

    def new(recipe: str) -> int:
        with reading(stores.chats.engine) as connection:
            return new_chats(connection, DEFAULT_PROJECT, ChatFilter(model="shell"), recipe)

    def take(recipe: str, run: int) -> str:
        stores.chats.take(DEFAULT_PROJECT, ChatFilter(model="shell"), OfRecipe(id=recipe, run=run))
        return taken(recipe, run)

    stores.chats.add([chat("a"), chat("b"), chat("other", alias="other")])
    assert take(first, 1) == "a b"
    stores.chats.add([chat("c")])
    assert take(first, 1) == "a b", "a run that is repeated has the chats that it took"
    assert (new(first), new(second)) == (1, 3)
    say(stores, "a", rating="down")
    assert new(first) == 1, "a rating alone makes no row another one"
    say(stores, "a", rating="down", correction="x")
    assert take(first, 2) == "a c"
    assert taken(first, 1) == "b"
    assert (new(first), new(second)) == (0, 3)
    stores.chats.delete(DEFAULT_PROJECT, "chatcmpl-c")
    assert count(stores, recipe_chats) == 2, "a mark goes with its chat"


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
    for of, expected in (
        (RatedChats("shell", 1, since=10.0), (1, 1)),
        (RatedChats("shell", 1), (2, 1)),
        (RatedChats("shell", 1, until=10.0), (1, 0)),
        (RatedChats("shell", 2), (1, 0)),
    ):
        assert stores.feedback.ratings(DEFAULT_PROJECT, of) == expected, of


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
