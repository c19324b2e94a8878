"""What a chat template tells of tools."""

import json
from pathlib import Path

import pytest

from shared.artifacts.template_text import renders_tools, template_text, tool_call_parser

CASES = [
    ("plain", "{{ messages[0].content }}", [], False, ""),
    ("json in tags", "{% if tools %}{{ tools }}{% endif %}<tool_call>{{ message.tool_calls }}", [], True, "hermes"),
    ("python tag", "{{ tools }}<|python_tag|>{{ message.tool_calls }}", ["<|python_tag|>"], True, "llama3_json"),
    ("python tag that is no token", "{{ tools }}<|python_tag|>{{ message.tool_calls }}", [], True, ""),
    ("xml in tags", "{{ tools }}<tool_call><function={{ message.tool_calls }}", [], True, ""),
    ("shows calls and no tools", "{{ message.tool_calls }}<tool_call>", [], False, ""),
]


@pytest.mark.parametrize(("template", "tokens", "tools", "parser"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
@pytest.mark.parametrize("own_file", [True, False])
def test_templates(tmp_path: Path, template: str, tokens: list[str], tools: bool, parser: str, own_file: bool):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"content": token} for token in tokens]}))
    config = {} if own_file else {"chat_template": [{"name": "default", "template": template}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if own_file:
        (tmp_path / "chat_template.jinja").write_text(template)
    assert (renders_tools(template_text(tmp_path)), tool_call_parser(tmp_path)) == (tools, parser)


def test_without_a_template(tmp_path: Path):
    assert template_text(tmp_path) is None
    assert tool_call_parser(tmp_path) == ""
    assert renders_tools(template_text(None)), "a server of the user's own is trusted"
