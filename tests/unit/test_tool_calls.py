"""An answer with calls as one text: the same for every way in which a model writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.tool_calls import answer_text, normal_answer, read_answer

CALL = '{"name": "add", "arguments": {"a": 1, "b": [2]}}'
OPENAI = {"id": "call00000", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": [2]}'}}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (CALL, CALL),
        ('{"name": "add", "parameters": {"b": [2], "a": 1}}', CALL),
        ('{"type": "function", "function": {"name": "add", "arguments": "{\\"b\\": [2], \\"a\\": 1}"}}', CALL),
        (f"<tool_call>\n{CALL}\n</tool_call>", CALL),
        (f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>", f"{CALL}\n{CALL}"),
        (f"[TOOL_CALLS] [{CALL}, {CALL}]", f"{CALL}\n{CALL}"),
        (f"```json\n{CALL}\n```", CALL),
        (f"I add them.\n\n<tool_call>{CALL}</tool_call>", f"I add them.\n{CALL}"),
        ('{"name": "delete", "arguments": {}}', '{"name": "delete", "arguments": {}}'),
        ('{"name": "add", "arguments": [1]}', '{"name": "add", "arguments": [1]}'),
        ('{"name": "add"', '{"name": "add"'),
        ("A set is {1, 2}, a list [1].", "A set is {1, 2}, a list [1]."),
        ("", ""),
    ],
)
def test_calls_have_one_form(written: str, normal: str):
    assert normal_answer(written, {"add"}) == normal
    assert normal_answer(normal, {"add"}) == normal


def test_a_text_and_its_message_are_the_same():
    text = answer_text("I add them.", [OPENAI, OPENAI])
    assert text == f"I add them.\n{CALL}\n{CALL}"
    words, calls = read_answer(text, {"add"})
    assert words == "I add them."
    assert [call["function"] for call in calls] == [OPENAI["function"]] * 2
    assert read_answer(text, set()) == (text, [])


@given(st.text(alphabet='{}[]":,adn123 \n<>`', max_size=80))
def test_no_text_raises_and_the_form_is_final(text: str):
    once = normal_answer(text, {"add", "a"})
    assert normal_answer(once, {"add", "a"}) == once
