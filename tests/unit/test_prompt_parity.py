"""One row with a system text, several turns, tools and calls of them has the same token ids in the trainer, in the engine when a step
asks it, and in the engine when public chat asks it, for every chat template of the zoo."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.api.features.chat.service import asked
from services.api.model_router import Target
from services.trainer.train.model import load_tokenizer
from shared.artifacts.chat_templates import read_prompts
from shared.artifacts.template_text import template_text
from shared.contracts.chat import ChatRequest
from shared.contracts.prompt_profile import PLAIN
from shared.jobs.tables import DEFAULT_PROJECT
from tests.fakes.chat_templates import CASES, write_case
from tests.unit.test_chat_templates import rendered_by_the_engine

TOOL = {
    "type": "function",
    "function": {
        "name": "list_files",
        "description": "Of a folder.",
        "parameters": {"type": "object", "properties": {"folder": {"type": "string"}}},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "list_files", "arguments": '{"folder": "/tmp"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is in /tmp?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"},
    {"role": "assistant", "content": "One file, a.txt."},
    {"role": "user", "content": "And in /var?"},
]


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_the_same_prompt_everywhere(name: str, tmp_path: Path):
    case, folder = CASES[name], write_case(tmp_path / "base", CASES[name])
    request = ChatRequest.model_validate({"model": "base", "messages": MESSAGES, "tools": [TOOL]})
    chat = asked(request, Target("base", "base", "base", "base"), DEFAULT_PROJECT, template_text(folder)).body
    tokenizer = load_tokenizer(folder, read_prompts(folder, arguments=case.arguments) or PLAIN)
    tools = chat.get("tools")
    parsed = [
        turn
        | {
            "tool_calls": [
                call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
                for call in turn["tool_calls"]
            ]
        }
        if turn.get("tool_calls")
        else turn
        for turn in chat["messages"]
    ]
    ids = tokenizer.apply_chat_template(parsed, tools=tools, add_generation_prompt=True, return_dict=False)
    engine = rendered_by_the_engine(folder, case, chat["messages"], tmp_path / "chat", tools=tools)
    assert tokenizer.decode(engine) == tokenizer.decode(ids)
    assert engine == ids
    text = tokenizer.decode(ids)
    assert all(word in text for word in ("list_files", '"/tmp"', "a.txt"))
    places = [text.index(word) for word in ("Be brief.", "What is in /tmp?", "One file, a.txt.", "And in /var?")]
    assert places == sorted(places)
