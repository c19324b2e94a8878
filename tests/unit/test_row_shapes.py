"""Rows as people have them: what each shape becomes. One line a shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.data import LineError, Question, Reading, Split, parse_line
from shared.contracts.field_names import CATEGORY, CONTEXT, QUESTION, REFERENCE, TURNS, is_about
from shared.contracts.row_shapes import by_mapping

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
TOLD = {"question": "q", "messages": [SYSTEM, USER]}
EARLIER = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "v"}]
FUNCTION = {"name": "add", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
WRITTEN = '{"name": "add", "arguments": {"a": 1}}'
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "3", "tool_call_id": "call_0"}
SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"instruction": "i", "input": "x", "output": "a"}, {"question": "i\n\nx", "reference": "a"}),
    ({"instruction": "i", "input": "", "output": "a"}, {"question": "i", "reference": "a"}),
    ({"instruction": "i", "context": "c", "response": "a", "category": "k"}, {"question": "i", "context": "c", "reference": "a", "category": "k"}),
    ({"question": "q", "answer": "a"}, {"question": "q", "reference": "a"}),
    ({"prompt": "q", "completion": "a"}, {"question": "q", "reference": "a"}),
    ({"query": "q", "response": "a"}, {"question": "q", "reference": "a"}),
    ({"request": "q", "response": "a"}, {"question": "q", "reference": "a"}),
    ({"input": "q", "ideal": "a"}, {"question": "q", "reference": "a"}),
    ({"input": [USER], "ideal": "a"}, {"question": "q", "reference": "a"}),
    ({"q": "q", "a": "a"}, {"question": "q", "reference": "a"}),
    ({"text": "q", "label": 1}, {"question": "q", "reference": "1"}),
    ({"Frage": "q", "Antwort": "a"}, {"question": "q", "reference": "a"}),
    ({"Вопрос": "q", "Ответ": "a"}, {"question": "q", "reference": "a"}),
    ({"问题": "q", "答案": "a"}, {"question": "q", "reference": "a"}),
    ({"質問": "q", "回答": "a"}, {"question": "q", "reference": "a"}),
    ({"Question Text": "q", "Answer_Text": "a"}, {"question": "q", "reference": "a"}),
    ({"id": 7, "question": "q", "reference": 4}, {"id": "7", "question": "q", "reference": "4"}),
    ({"question": "q", "context": "c", "answers": {"text": ["a", "b"], "answer_start": [1, 2]}}, {"question": "q", "context": "c", "reference": "a"}),
    ({"question": "q", "choices": ["x", "y"], "answer": 1}, {"question": "q\nA. x\nB. y", "reference": "B. y"}),
    ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"}, {"question": "q\n1. x\n2. y", "reference": "1. x"}),
    ({"system_prompt": "s", "question": "q", "response": "a"}, TOLD | {"reference": "a"}),
    ({"instruction": "q", "output": "a", "history": [["u", "v"]]}, {"question": "q", "reference": "a", "messages": [*EARLIER, USER]}),
    ({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, TOLD | {"reference": "a"}),
    ({"conversation": [USER, BOT], "system": "s"}, TOLD | {"reference": "a"}),
    ({"messages": [{**SYSTEM, "role": "developer"}, *EARLIER, USER, BOT]}, {"question": "q", "messages": [SYSTEM, *EARLIER, USER], "reference": "a"}),
    ({"messages": [SYSTEM, USER, BOT, {**USER, "content": "w"}, {**BOT, "weight": 0}]}, TOLD | {"reference": "a"}),
    ({"messages": [USER, BOT], "tools": [TOOL]}, {"question": "q", "messages": [USER], "tools": [TOOL], "reference": "a"}),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}], "tools": [TOOL]}, {"question": "q", "messages": [USER], "tools": [TOOL], "reference": WRITTEN}),
    ({"messages": [USER, {"role": "assistant", "function_call": CALL["function"]}], "functions": [FUNCTION]}, {"question": "q", "messages": [USER], "tools": [TOOL], "reference": WRITTEN}),
    ({"messages": [USER, CALLS, RESULT, BOT], "tools": [TOOL]}, {"question": "q", "messages": [USER, CALLS, RESULT], "tools": [TOOL], "reference": "a"}),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": WRITTEN}, {"from": "observation", "value": "3"}, {"from": "gpt", "value": "a"}], "tools": json.dumps([FUNCTION])}, {"question": "q", "messages": [USER, CALLS, RESULT], "tools": [TOOL], "reference": "a"}),
    ({"question": "q", "answer": WRITTEN, "tools": [TOOL]}, {"question": "q", "messages": [USER], "tools": [TOOL], "reference": WRITTEN}),
    ({"dialog": ["q", "a"]}, {"question": "q", "reference": "a"}),
    ({"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, {"question": "q", "reference": "a"}),
    ({"messages": json.dumps([USER, BOT])}, {"question": "q", "reference": "a"}),
    ({"prompt": [USER], "completion": [BOT]}, {"question": "q", "reference": "a"}),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, {"question": "q", "reference": "a", "rejected": "b"}),
    ({"prompt": "q", "chosen": [USER, BOT], "rejected": [USER, {**BOT, "content": "b"}]}, {"question": "q", "reference": "a", "rejected": "b"}),
    ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, {"question": "q", "reference": "a", "rejected": "b"}),
    ({"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [USER]}}, {"id": "r", "question": "q"}),
    ({"inputs": {"question": "q"}, "outputs": {"answer": "a"}}, {"question": "q", "reference": "a"}),
    ({"inputs": {"messages": [USER]}, "outputs": {"messages": [BOT]}}, {"question": "q", "reference": "a"}),
    ({"id": "t", "input": {"messages": [USER]}, "output": BOT, "metadata": {}}, {"id": "t", "question": "q", "reference": "a"}),
    ({"question": "q", "std_answer": "a"}, {"question": "q", "reference": "a"}),
    ({"question": "q", "choice0": "x", "choice1": "y", "label": 1}, {"question": "q\nA. x\nB. y", "reference": "B. y"}),
    ({"question": "q", "option_1": "x", "option_2": "y", "answer": 1}, {"question": "q\nA. x\nB. y", "reference": "A. x"}),
    ({"Question": "q", "A": "x", "B": "y", "C": "z", "Answer": "(b)"}, {"question": "q\nA. x\nB. y\nC. z", "reference": "B. y"}),
    ({"question": "q", "options": ["A)x", "B)y"], "correct": "B"}, {"question": "q\nA. x\nB. y", "reference": "B. y"}),
    ({"premise": "p", "hypothesis": "h", "label": 0}, {"question": "premise: p\nhypothesis: h", "reference": "0"}),
    ({"question": "q", "contexts": ["c", "d"], "answer": "a"}, {"question": "q", "context": "c\n\nd", "reference": "a"}),
    ({"text": "### Human: q\n### Assistant: a"}, {"question": "q", "reference": "a"}),
    ({"text": "<s>[INST] q [/INST] a </s>"}, {"question": "q", "reference": "a"}),
    ({"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"}, {"question": "q", "reference": "a"}),
    ({"conversation": "Customer: q\nAgent: a"}, {"question": "q", "reference": "a"}),
    ({"messages": [{"role": "human", "content": [{"type": "text", "value": "q"}]}, {"role": "gpt", "content": [{"type": "text", "value": "a"}], "loss_weight": 1.0}]}, {"question": "q", "reference": "a"}),
    ({"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]}, {"question": "q", "reference": "a"}),
    ({"messages": [USER], "choices": [{"message": BOT}]}, {"question": "q", "reference": "a"}),
    ({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}, {"question": "q", "reference": "a", "rejected": "b"}),
    ({"chosen_messages": [USER, BOT], "rejected_messages": [USER, {**BOT, "content": "b"}]}, {"question": "q", "reference": "a", "rejected": "b"}),
    ({"input": [USER], "output": {"choices": [{"message": BOT}]}}, {"question": "q", "reference": "a"}),
    ({"input": {"messages": [USER], "tools": [TOOL]}, "output": CALLS}, {"question": "q", "messages": [USER], "tools": [TOOL], "reference": WRITTEN}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), SHAPES, ids=lambda part: "+".join(part))
def test_a_shape_is_recognised_and_nothing_of_it_is_left_unread(row: dict, expected: dict):
    reading = Reading()
    item = parse_line(1, json.dumps(row).encode(), reading)
    assert isinstance(item, Question), item
    assert item.model_dump(exclude_none=True, exclude={"item"}) == {"id": "row-1"} | expected
    assert {name for name in reading.ignored if not is_about(name)} == set()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER], "choices": [{"message": BOT, "finish_reason": "length"}]},
        {"input": [USER], "output": {"choices": [{"message": BOT, "finish_reason": "length"}]}},
    ],
)
def test_a_stored_completion_that_was_cut_off_is_no_reference(row: dict):
    reading = Reading()
    item = parse_line(1, json.dumps(row).encode(), reading)
    assert isinstance(item, Question)
    assert item.reference is None
    assert [(count, "finish_reason length" in note) for note, count in reading.notes.items()] == [(1, True)]


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"foo": "x", "bar": "y"}, "no_question", "the row has foo, bar"),
        (
            {"Ticket-Nr.": "7", "Thema": "x", "Frage des Kunden": "Wann?", "Antwort des Supports": "Morgen."},
            "no_question",
            "--map 'question=Frage des Kunden' --map 'reference=Antwort des Supports'",
        ),
        ({"question": "", "answer": "b"}, "invalid_row", "question: the text is empty"),
        ({"question": {"a": 1}, "answer": "b"}, "invalid_row", "question: a text is expected"),
        ({"conversations": 5}, "invalid_row", "a list of"),
        ({"chosen": "a", "rejected": "b"}, "invalid_row", "no field with the question"),
        ({"custom_id": "1", "body": {"input": "x"}}, "invalid_row", "with messages is expected"),
        ({"messages": [USER, BOT], "images": ["x.jpg"]}, "invalid_row", "images: only texts"),
        (
            {"translation": {"en": "x", "tr": "y"}},
            "no_question",
            "--map question=translation.en --map reference=translation.tr",
        ),
        ({"messages": [USER, CALLS]}, "invalid_row", "the answer calls 'add', and the row offers no tools"),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{"}}]},
                ],
                "tools": [TOOL],
            },
            "invalid_row",
            "messages.1.tool_calls.0.function.arguments: a JSON object",
        ),
        ({"messages": [USER], "tools": [{"name": 1}]}, "invalid_row", "tools.0: a tool"),
    ],
)
def test_what_is_not_recognised_is_refused_with_what_there_is(row: dict, code: str, words: str):
    item = parse_line(1, json.dumps(row).encode())
    assert isinstance(item, LineError)
    assert item.code == code
    assert words in item.message


@pytest.mark.parametrize(
    ("columns", "row", "expected"),
    [
        ({"question": "a", "reference": "b"}, {"a": "q", "b": 3}, {"question": "q", "reference": "3"}),
        ({"question": "x.y", "reference": "z.0"}, {"x": {"y": "q"}, "z": ["r", "s"]}, {"question": "q", "reference": "r"}),
        ({"question": "a", "reference": ""}, {"a": "q", "answer": "r"}, {"question": "q"}),
        ({"question": "a", "reference": "b"}, {"a": "q"}, {"question": "q"}),
        ({"messages": "log.turns"}, {"log": {"turns": [USER, BOT]}}, {"question": "q", "reference": "a"}),
    ],
)  # fmt: skip
def test_a_mapping_names_the_fields(columns: dict, row: dict, expected: dict):
    item = parse_line(1, json.dumps(row).encode(), Reading(shape=by_mapping(columns)))
    assert isinstance(item, Question), item
    assert item.model_dump(exclude_none=True, exclude={"item"}) == {"id": "row-1"} | expected


@pytest.mark.parametrize(
    ("columns", "row", "words"),
    [
        ({"question": "txt"}, {"text": "t"}, "no such field; it has text"),
        ({"question": "text.a"}, {"text": "t"}, "no such field; it has str"),
        ({"question": "a.c"}, {"a": {"b": 1}}, "no such field; it has b"),
    ],
)
def test_a_mapped_question_that_is_missing_is_named(columns: dict, row: dict, words: str):
    item = parse_line(1, json.dumps(row).encode(), Reading(shape=by_mapping(columns)))
    assert isinstance(item, LineError)
    assert words in item.message


@pytest.mark.parametrize(
    ("name", "split"), [("train", Split.TRAIN), ("Validation", Split.DEV), ("test", Split.TEST), ("x", None), (3, None)]
)
def test_the_split_of_a_row_is_read(name: Any, split: Split | None):
    item = parse_line(1, json.dumps({"question": "q", "split": name}).encode())
    assert isinstance(item, Question)
    assert item.split == split


NAMES = st.sampled_from(
    [*QUESTION[:8], *REFERENCE[:12], *CONTEXT[:2], *CATEGORY[:1], *TURNS, "messages", "chosen", "rejected", "inputs", "outputs",
     "input", "output", "body", "custom_id", "preferred_output", "choices", "history", "system", "id", "split", "title"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(["user", "human", "q"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "messages", "type", "0"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.booleans())
def test_no_row_raises(row: dict, by_hand: bool):
    reading = Reading(shape=by_mapping({"question": "question.text", "messages": ""})) if by_hand else Reading()
    item = parse_line(1, json.dumps(row).encode(), reading)
    assert isinstance(item, Question | LineError)
