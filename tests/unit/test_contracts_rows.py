"""What users send as data: the rows of a file in each of their forms, what is wrong with a bad one, and the splits."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.method.pairs import pairs_of_file
from shared.contracts.data import (
    MAX_LINE_BYTES,
    LineError,
    Question,
    Reading,
    Split,
    as_upload,
    group_key,
    parse_line,
    parse_lines,
    split_of,
)
from shared.contracts.rows import PreferencePair, asked
from shared.contracts.steps import canonical
from tests.fakes.students import students


def line(**row: Any) -> bytes:
    return json.dumps(row).encode()


def test_both_forms_of_a_line_mean_the_same():
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    plain = parse_line(3, line(question="q", reference="a", category="c"))
    chat = parse_line(3, line(messages=turns, category="c"))
    assert isinstance(plain, Question)
    assert plain == chat
    assert (plain.id, plain.reference) == ("row-3", "a")


def said(*turns: tuple[str, Any], **more: Any) -> Question:
    row = parse_line(1, line(messages=[{"role": role, "content": content} for role, content in turns], **more))
    assert isinstance(row, Question), row
    return row


def test_what_a_chat_row_rests_on_stays_messages():
    row = said(("developer", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert (row.question, row.context, row.reference) == ("c", None, "d")
    asked = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    assert row.messages == [{"role": role, "content": content} for role, content in asked]
    assert row.text == "System: Be brief.\n\nUser: a\n\nAssistant: b\n\nUser: c"


def test_every_answer_of_a_conversation_can_be_a_row():
    turns = [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
        ("user", "e"),
        ("assistant", "f"),
    ]
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    messages[4]["weight"] = 0
    more = line(question="alone", reference="r")
    lines = [line(messages=messages, id="x"), more, line(messages=[messages[1], messages[2]])]
    last = list(parse_lines(lines, Reading()))
    reading = Reading(answers="all")
    every = list(parse_lines(lines, reading))
    assert [row.id for row in every if isinstance(row, Question)] == ["x/turn-1", "x", "row-2", "row-3"]
    assert (reading.rows, reading.references) == (4, 4)
    first, whole, *others = every
    assert isinstance(first, Question)
    assert isinstance(whole, Question)
    assert (first.question, first.reference, first.messages) == ("a", "b", messages[:2])
    assert (whole.question, whole.reference) == ("e", "f")
    assert group_key(first) == group_key(whole)
    assert others == last[1:]
    assert whole.model_copy(update={"group": None}) == last[0]


def test_logs_of_a_conversation_up_to_each_turn_stay_together():
    opening = ("user", "How do I list the files?")
    one = said(opening, ("assistant", "ls"))
    two = said(("system", "Monday"), opening, ("assistant", "ls"), ("user", "And hidden ones?"), ("assistant", "ls -a"))
    assert group_key(one) == group_key(two)
    assert group_key(said(("user", "Hi"), ("assistant", "Hello"), ("user", "x"))) != group_key(
        said(("user", "Hi"), ("assistant", "Hello"), ("user", "y"))
    )


def test_a_row_can_be_uploaded_again_as_it_was_read():
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "add", "arguments": "{}"}}]}
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = parse_line(1, line(messages=[{"role": "user", "content": "q"}, call], tools=tools, id="x", category="k"))
    assert isinstance(row, Question)
    assert parse_line(1, json.dumps(as_upload(row)).encode()) == row


def test_an_answer_before_the_last_question_is_not_its_reference():
    assert said(("user", "a"), ("assistant", "b"), ("user", "c")).reference is None


def test_text_parts_are_joined_and_weight_0_is_not_learned_from():
    row = said(("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))
    assert row.question == "a\n\nb"
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]
    unweighted = parse_line(1, line(messages=turns))
    assert isinstance(unweighted, Question)
    assert unweighted.reference is None


def test_fields_that_nobody_reads_are_counted():
    reading = Reading()
    rows = [
        line(question="a", answer="x"),
        line(question="b", answer="y", refrence="z"),
        line(question="c", split="dev"),
    ]
    assert len(list(parse_lines(rows, reading))) == 3
    assert reading.ignored == {"refrence": 1}
    assert (reading.rows, reading.references, reading.split) == (3, 2, 1)


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 12).map("row-{}".format), st.sampled_from(["a", "b"])), max_size=12)
)
def test_ids_are_unique_however_they_are_given(ids: list[str | None]):
    lines = [line(question="q") if given is None else line(question="q", id=given) for given in ids]
    effective = [given or f"row-{number}" for number, given in enumerate(ids, start=1)]
    expected = ["duplicate" if name in effective[:at] else name for at, name in enumerate(effective)]
    assert [item.id if isinstance(item, Question) else "duplicate" for item in parse_lines(lines)] == expected


def test_title_question_and_context_make_one_message():
    row = parse_line(1, line(question="q", title="t", context="c", id="x"))
    assert isinstance(row, Question)
    assert row.text == "t\n\nq\n\nc"


PAIR = (
    b'{"input": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], "tools": []}, '
    b'"preferred_output": [{"role": "assistant", "content": "good"}], '
    b'"non_preferred_output": [{"role": "assistant", "content": [{"type": "text", "text": "bad"}]}]}'
)


def test_a_row_of_preferences_has_a_better_and_a_worse_answer():
    theirs = parse_line(1, PAIR)
    assert isinstance(theirs, Question)
    assert (theirs.question, theirs.context, theirs.reference, theirs.rejected) == ("q", None, "good", "bad")
    ours = parse_line(1, line(question="q", system="s", reference="good", rejected="bad"))
    assert ours == theirs
    assert pairs_of_file(students(), [theirs, Question(id="x", question="q", reference="a")]) == [
        PreferencePair(**asked(theirs), chosen="good", rejected="bad")
    ]
    assert "rejected" not in Question(id="x", question="q").model_dump()  # as files were kept before


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"[1]", "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b'{"question": 1' + b"1" * 5000 + b"}", "invalid_json", None),
        (b'{"question": "\xff"}', "invalid_utf8", None),
        (b'{"question": "a", "reference": "\\udc00"}', "invalid_unicode", None),
        (b'{"question": "\\uD800"}', "invalid_unicode", None),
        (b" " * MAX_LINE_BYTES + b"{}", "line_too_long", None),
        (b"{}", "no_question", "question"),
        (b'{"question": "  "}', "invalid_row", "question"),
        (b'{"question": {}}', "invalid_row", "question"),
        (b'{"question": ["q"]}', "invalid_row", "question"),
        (b'{"question": "q", "id": "a\\nb"}', "invalid_row", "id"),
        (b'{"question": "q", "id": "a\\u0000"}', "invalid_row", "id"),
        (b'{"question": "q", "rejected": "r"}', "invalid_row", "question"),
        (b'{"preferred_output": []}', "no_question", "question"),
        (b'{"input": 5, "preferred_output": []}', "invalid_row", "input"),
        (b'{"input": {"messages": 5}, "preferred_output": []}', "invalid_row", "input.messages"),
        (
            b'{"input": {"messages": [{"role": "user"}]}, "preferred_output": []}',
            "invalid_row",
            "input.messages.0.content",
        ),
        (PAIR[:-1] + b', "preferred_output": []}', "invalid_row", "preferred_output"),
        (
            PAIR[:-1] + b', "non_preferred_output": [{"role": "user", "content": "a"}]}',
            "invalid_row",
            "non_preferred_output.0.role",
        ),
        (
            PAIR[:-1] + b', "preferred_output": [{"role": "assistant", "content": " "}]}',
            "invalid_row",
            "preferred_output.0.content",
        ),
        (b'{"messages": 5}', "invalid_row", "messages"),
        (b'{"messages": []}', "invalid_row", "messages"),
        (b'{"messages": ["q"]}', "invalid_row", "messages.0"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "invalid_row", "messages"),
        (b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "invalid_row", "messages.0.content.0"),
        (b'{"messages": [{"role": "user"}]}', "invalid_row", "messages.0.content"),
        (b'{"messages": [{"role": "tool", "content": "a"}]}', "invalid_row", "messages"),
        (b'{"messages": [{"role": "critic", "content": "a"}]}', "invalid_row", "messages.0.role"),
        (b'{"messages": [{"role": "assistant", "tool_calls": [1]}]}', "invalid_row", "messages.0.tool_calls.0"),
    ],
)
def test_a_bad_line_says_what_is_wrong_where(raw: bytes, code: str, param: str | None):
    error = parse_line(7, raw)
    assert isinstance(error, LineError)
    assert (error.line, error.code, error.param) == (7, code, param)


def test_a_surrogate_pair_is_one_letter():
    row = parse_line(1, b'{"question": "\\ud83d\\ude00"}')
    assert isinstance(row, Question)
    assert row.question == "\U0001f600"


def test_ids_are_unique_and_empty_lines_pass():
    lines = [
        b"\xef\xbb\xbf" + line(question="a", id="x"),
        b"\n",
        line(question="b", id="x"),
        line(question="c", id="row-5"),
    ]
    first, second, third, fourth = parse_lines([*lines, line(question="d")])
    assert isinstance(first, Question)
    assert isinstance(second, LineError)
    assert (second.line, second.code) == (3, "duplicate_id")
    assert isinstance(third, Question)
    assert isinstance(fourth, LineError)  # line 5 without an id would be row-5 too


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes):
    item = parse_line(2, raw)
    assert (item is None) == (not raw.strip())
    if isinstance(item, Question):
        assert json.loads(canonical(item.model_dump()))["id"] == item.id


@given(st.fixed_dictionaries({"question": st.text(min_size=1)}, optional={"reference": st.text(), "id": st.text()}))
def test_what_is_accepted_can_be_written_again(row: dict):
    item = parse_line(1, json.dumps(row).encode())
    if isinstance(item, Question):
        assert json.loads(canonical(item.model_dump()))["question"] == row["question"]


# splits


def test_rows_of_one_group_stay_on_one_side():
    rows = [Question(id="a", question="How  to list files?"), Question(id="b", question="how to LIST files?")]
    assert group_key(rows[0]) == group_key(rows[1])
    assert split_of(rows[0], 0.3, 0.3) == split_of(rows[1], 0.3, 0.3)
    grouped = [Question(id=str(n), question=f"question {n}", group="g") for n in range(20)]
    assert len({split_of(row, 0.3, 0.3) for row in grouped}) == 1


def test_a_group_is_not_mistaken_for_a_text():
    assert group_key(Question(id="a", question="x", group="g")) != group_key(Question(id="b", question="g"))


def test_shares_are_about_kept_and_extremes_exact():
    rows = [Question(id=str(n), question=f"question {n}") for n in range(2000)]
    sides = [split_of(row, 0.1, 0.2) for row in rows]
    assert 150 < sides.count(Split.DEV) < 250
    assert 340 < sides.count(Split.TEST) < 460
    assert {split_of(row, 0, 0) for row in rows} == {Split.TRAIN}
    assert {split_of(row, 0, 1) for row in rows} == {Split.TEST}
    assert {split_of(row, 1, 0) for row in rows} == {Split.DEV}


def test_a_question_keeps_its_split_for_ever():
    assert split_of(Question(id="any", question="Count the lines of a file."), 0.2, 0.2) == Split.DEV
