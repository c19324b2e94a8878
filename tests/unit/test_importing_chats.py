"""Stored chats become rows: what is a reference, what is left out, and which of equal questions is taken."""

from collections import Counter
from typing import Any

from shared.contracts.data import Question, parse_row
from shared.contracts.imports import CompletionsOptions
from shared.importing.chats import ASKED_TWICE, GOES_ON, HELD, LEARNED, UNUSABLE, ChatRows, additions, rows_of_chats
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
    (rows, *_), left = made(
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
    (rows, *_), left = made(
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


def test_of_chats_that_ask_the_same_the_best_judged_is_taken():
    (rows, *_), left = made(
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
    (rows, *_), left = made(
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


def held(name: str, question: str, reference: str | None = None, split: str = "train") -> Question:
    row = parse_row(
        1, {"id": name, "question": question, "split": split} | ({"reference": reference} if reference else {})
    )
    assert isinstance(row, Question)
    return row


def test_what_a_dataset_has_is_left_out_and_a_correction_replaces_it():
    made_rows, _ = made(
        chat(1, "New?"),
        chat(2, "Held without an answer?", "a", said(correction="b")),
        chat(3, "held, and right ?", "a"),
        chat(4, "Held, and wrong?", "a", said(correction="c")),
        chat(5, "Approved?", "approved", UP),
        chat(6, "Learned?"),
        chat(7, "Learned wrongly?", "x", said(correction="y")),
        approved=True,
    )
    left = Counter[str]()
    rows = [
        held("row-2", "Held without an answer?", split="dev"), held("row-3", "Held, and right ?", "r"),
        held("row-4", "Held,  and wrong?", "r", "test"), held("row-5", "Approved?", "r"),
    ]  # fmt: skip
    learned = [held("a", "Learned?", "l"), held("b", "Learned wrongly?", "l")]
    append, edit, remove = additions(made_rows, rows, learned, left)
    assert [(row["id"], row.get("split"), row.get("reference")) for row in append] == [
        ("chatcmpl-1", None, None),
        ("chatcmpl-2", "dev", "b"),
        ("chatcmpl-4", "test", "c"),
        ("chatcmpl-7", None, "y"),
    ]
    assert (edit, remove, dict(left)) == ([], ["row-2", "row-4"], {HELD: 2, LEARNED: 1})


def test_a_chat_that_is_corrected_after_it_became_a_row_changes_its_row():
    made_rows, _ = made(chat(1, "Asked once?", "a", said(correction="b")))
    append, edit, remove = additions(made_rows, [held("chatcmpl-1", "Asked once?")], [], Counter())
    assert (append, remove) == ([], [])
    assert edit == [{"id": "chatcmpl-1", "reference": "b", "rejected": "a"}]
