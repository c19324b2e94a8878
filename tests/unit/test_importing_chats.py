"""Stored chats become rows: what is a reference, what is left out, and which of equal questions is taken."""

from collections import Counter
from typing import Any

from shared.contracts.data import Question, parse_row
from shared.contracts.imports import CompletionsOptions
from shared.importing.chats import ASKED_TWICE, GOES_ON, UNUSABLE, UNWANTED, ChatRows, rows_of_chats
from shared.jobs.chat_store import Judged
from shared.jobs.records import ChatRecord, FeedbackRecord

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def said(**fields: Any) -> FeedbackRecord:
    given = {"rating": None, "score": None, "correction": None, "comment": None} | fields
    return FeedbackRecord("feedback-1", "p", "c", "", "shell", 1, created_at=1.0, updated_at=1.0, **given)


def chat(
    number: int, asked: str | list[dict[str, Any]], answer: str | dict[str, Any] = "an answer",
    *feedback: FeedbackRecord, reason: str = "stop", user: str | None = None, **request: Any,
) -> Judged:  # fmt: skip
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
    choices = [{"index": 0, "message": message, "finish_reason": reason}]
    record = ChatRecord(
        f"chatcmpl-{number}", "p", "shell", 1, "shell", user, None, {"messages": messages} | request, {"choices": choices},
        {}, 10, None, "req", float(number),
    )  # fmt: skip
    return Judged(record, list(feedback))


def made(*chats: Judged, **options: Any) -> tuple[ChatRows, dict[str, int]]:
    left_out = Counter[str]()
    result = rows_of_chats(chats, CompletionsOptions(**options), left_out)
    for number, row in enumerate(result.rows, start=1):
        assert isinstance(parse_row(number, row), Question), "an upload would take it"
    return result, dict(+left_out)


UP, DOWN = said(rating="up"), said(rating="down")


def test_corrections_are_references_and_the_rest_are_questions():
    (rows, _), left = made(
        chat(1, "List all files.", "ls", DOWN, said(correction="ls -a")),
        chat(2, "Count lines.", "wc", UP),
        chat(3, "Show the date.", "date"),
        chat(4, "Who am I?", "whoami", DOWN),
        chat(5, "Where am I?", "pwd", said(rating="up", correction="pwd -P")),
        chat(6, "Sort.", "sort", said(correction=" sort ")),
    )
    assert rows[0] == {
        "id": "chatcmpl-1", "question": "List all files.", "reference": "ls -a", "rejected": "ls",
        "source": "answered by shell@1",
    }  # fmt: skip
    assert [(row.get("reference"), row.get("rejected")) for row in rows[1:]] == [
        (None, None), (None, None), (None, None), ("pwd -P", None), (" sort ", None)
    ]  # fmt: skip
    assert left == {}


def test_answers_with_a_thumb_up_are_references_if_asked():
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    (rows, _), left = made(
        chat(1, "One?", "yes", UP),
        chat(2, "Two?", "cut", UP, reason="length"),
        chat(3, "Three?", "", UP),
        chat(4, "Four?", "no", DOWN),
        chat(5, "The weather?", {"role": "assistant", "content": None, "tool_calls": [call]}, UP, tools=[TOOL]),
        chat(6, "Newest first?", "a", UP, DOWN),
        approved=True,
    )
    assert [row.get("reference") for row in rows] == [
        "yes", None, None, None, '{"name": "weather", "arguments": {"city": "Rome"}}', "a"
    ]  # fmt: skip
    assert rows[4]["tools"] == [TOOL]
    assert left == {UNUSABLE: 2}


def test_only_the_feedback_that_is_asked_for():
    chats = [
        chat(1, "One?", "a", UP), chat(2, "Two?", "a", DOWN), chat(3, "Three?", "a", said(correction="b")),
        chat(4, "Four?"), chat(5, "Five?", "a", said(score=0.5)), chat(6, "Six?", "a", said(rating="down", correction="c")),
    ]  # fmt: skip
    for wanted, ids in (
        ([], "1 2 3 4 5 6"), (["up"], "1"), (["down"], "2 6"), (["corrected"], "3 6"), (["none"], "4"),
        (["up", "none"], "1 4"),
    ):  # fmt: skip
        (rows, _), left = made(*chats, feedback=wanted)
        assert " ".join(row["id"].removeprefix("chatcmpl-") for row in rows) == ids
        assert left.get(UNWANTED, 0) == 6 - len(rows)


def test_of_chats_that_ask_the_same_the_best_judged_is_taken():
    (rows, _), left = made(
        chat(1, "List all  files.", "ls", said(correction="ls -a")),
        chat(2, "list ALL files.", "ls"),
        chat(3, "Count lines."),
        chat(4, "Count lines."),
        chat(5, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count lines."}]),
        chat(6, "Count lines.", tools=[TOOL]),
    )
    assert [row["id"] for row in rows] == ["chatcmpl-1", "chatcmpl-4", "chatcmpl-5", "chatcmpl-6"]
    assert left == {ASKED_TWICE: 2}


def test_conversations_keep_their_turns_and_what_cannot_be_read_is_counted():
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "List"}, {"type": "text", "text": "files."}]},
    ]
    (rows, _), left = made(
        chat(1, talk, "ls", said(correction="ls -a")),
        chat(2, [*talk, {"role": "assistant", "content": "It is"}]),
        chat(3, " "),
        chat(4, [{"role": "system", "content": "alone"}]),
    )
    (row,) = rows
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user"]
    assert (row["reference"], row["rejected"]) == ("ls -a", "ls")
    assert left[GOES_ON] == 1
    assert sum(left.values()) == 3


def test_the_newest_are_taken_and_whose_they_are_is_told():
    result, left = made(*(chat(n, f"Question {n}?", user=f"user-{n}" if n % 2 else None) for n in range(1, 8)), limit=3)
    assert [row["id"] for row in result.rows] == ["chatcmpl-5", "chatcmpl-6", "chatcmpl-7"]
    assert [(one.completion_id, one.user) for one in result.origins] == [
        ("chatcmpl-5", "user-5"), ("chatcmpl-7", "user-7")
    ]  # fmt: skip
    assert left == {"chats before the newest ones that the limit allows": 4}
