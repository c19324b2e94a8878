"""One row with a system text, several turns, tools and calls of them has the same token ids in training and search, in the engine when a
step asks it, and in the engine when public chat asks it, for every chat template of the zoo."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from services.api.features.chat.service import asked as asked_in_chat
from services.api.features.jobs.checks import refused_rows
from services.api.model_router import Target
from services.trainer.train import data
from services.trainer.train.model import load_tokenizer
from services.weak_model.worker.prompts import answer_messages
from shared.artifacts.bases import Bases
from shared.artifacts.chat_templates import prompt_template
from shared.contracts.chat import ChatRequest
from shared.contracts.data import Question, parse_line
from shared.contracts.errors import UserError
from shared.contracts.rows import Example, StudentPrompt, asked
from shared.contracts.tool_calls import normal_answer
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.chat_templates import CASES, write_case
from tests.unit.test_chat_templates import rendered_by_the_engine


def call(folder: str) -> dict[str, Any]:
    function = {"name": "list_files", "arguments": json.dumps({"folder": folder, "all": True})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call00000", "type": "function", "function": function}],
    }


TOOL = {
    "type": "function",
    "function": {"name": "list_files", "parameters": {"type": "object", "properties": {"folder": {"type": "string"}}}},
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "What is in /tmp?"},
    call("/tmp"),
    {"role": "tool", "tool_call_id": "call00000", "content": "a.txt"},
    {"role": "assistant", "content": "One file, a.txt."},
    {"role": "user", "content": "And in /var?"},
]
WORDS = ("Be brief.", "What is in /tmp?", "list_files", '"/tmp"', "a.txt", "One file, a.txt.", "And in /var?")


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_the_same_prompt_everywhere(name: str, tmp_path: Path):
    case, folder = CASES[name], write_case(tmp_path / "base", CASES[name])
    bases = Bases(student_model="base", student_path=folder, students={}, student_template_args=case.arguments)
    shows_calls = bases.shows_calls("base")
    question = parse_line(1, json.dumps({"messages": [*MESSAGES, call("/var")], "tools": [TOOL]}).encode())
    assert isinstance(question, Question)
    row = StudentPrompt(**asked(question, shows_calls))
    assert row.conversation is not None
    profile = bases.ref("base", conversations=True).profile
    tokenizer = load_tokenizer(folder, profile)
    trained = data.prompt_ids(tokenizer, row)

    step = rendered_by_the_engine(folder, case, answer_messages(row), tmp_path, tools=row.conversation.tools)
    assert tokenizer.decode(step) == tokenizer.decode(trained)
    assert step == trained

    request = ChatRequest.model_validate({"model": "base", "messages": MESSAGES, "tools": [TOOL]})
    chat = asked_in_chat(request, Target("base", "base", "base", "base"), DEFAULT_PROJECT, bases.template("base")).body
    assert rendered_by_the_engine(folder, case, chat["messages"], tmp_path, tools=as_the_engine_reads(chat)) == trained

    text = cast(str, tokenizer.decode(trained))
    assert all(word in text for word in WORDS)
    assert [text.index(word) for word in WORDS[:2]] < [text.index(word) for word in WORDS[-2:]]
    assert "Answer the question." not in text

    example = Example(**asked(question, shows_calls), completion=question.reference or "")
    (ids,) = data.example_ids(tokenizer, [example], 2000, profile)
    assert ids["input_ids"][: len(trained)] == trained
    learned = cast(str, tokenizer.decode([token for token in ids["labels"] if token != data.IGNORED]))
    assert learned.endswith(case.turn_end)
    assert learned.count(case.turn_end) == 1
    assert ("<tool_call>" in learned) == shows_calls  # the template's own way to write a call
    assert "<|im_start|>" not in learned
    opening = profile.opening.strip()
    assert normal_answer(learned.removeprefix(opening), {"list_files"}) == question.reference


def as_the_engine_reads(body: dict[str, Any]) -> list[dict[str, Any]]:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return [tool.model_dump() for tool in ChatCompletionRequest(**body).tools or []]


def test_a_job_hears_before_it_begins_which_conversations_its_student_refuses(tmp_path: Path):
    """A template that wants the user to begin, and an assistant that greets first."""
    folder = write_case(tmp_path / "base", CASES["system role and order raise"])
    bases = Bases(student_model="base", student_path=folder, students={})
    template = prompt_template(folder, bases.prompts("base"))
    greeting = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Is there tea?"}]
    lines = [
        json.dumps({"id": name, "messages": said}).encode() for name, said in {"a": greeting, "b": MESSAGES}.items()
    ]
    rows = [row for row in map(parse_line, (1, 2), lines) if isinstance(row, Question)]
    assert refused_rows(template, rows, bases.shows_calls("base")) == {"a": "roles must alternate"}
    profile = bases.ref("base", conversations=True).profile
    with pytest.raises(UserError, match="refuses row 'a': roles must alternate"):
        data.prompt_ids(load_tokenizer(folder, profile), StudentPrompt(**asked(rows[0], False)))
