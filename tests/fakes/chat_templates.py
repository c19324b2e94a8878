"""Chat templates with one property each, as the families' own have them, for a tokenizer with SPECIAL_TOKENS.

One line per template: its text, the tokenizer's end token, and what must come out: the prompt for "What is ls?" under the pinned
system text, in trainer, engine and chat alike, and the token after the answer.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>", "<turn>", "<turn_end>", "[ASK]", "[/ASK]", "<|end|>",
)  # fmt: skip
QUESTION = "What is ls?"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
)
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
HEAD = "<|im_start|>system\nAnswer the question.<|im_end|>\n<|im_start|>user\nWhat is ls?<|im_end|>\n"
PLAIN = HEAD + "<|im_start|>assistant\n"
NO_THOUGHT = PLAIN + "<think>\n\n</think>\n\n"
TURNS = (
    "{{ bos_token }}"
    "{% for message in messages %}CHECK"
    "{{ '<turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' + message.content | trim + '<turn_end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
NO_SYSTEM = "{% if message.role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
ALTERNATE = "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
FOLDED = "<bos><turn>user\nAnswer the question.\n\nWhat is ls?<turn_end>\n<turn>model\n"
TOOL_TURNS = (
    "{% if tools %}{{ '<|im_start|>tools\n' }}{% for tool in tools %}{{ tool | tojson + '\n' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}"
    "{{ '\n<tool_call>\n' + {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
)
SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (messages[0].content + '\n\n' if messages[0].role == 'system' else '') }}"
    "{% for tool in tools %}{{ tool | tojson + '\n' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if not (tools and loop.first and message.role == 'system') %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content }}{% for call in message.tool_calls or [] %}"
    "{{ '\n<tool_call>\n' + {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
)
OPENED = "{{ '<think>\n' if enable_thinking | default(true) else '<think>\n\n</think>\n\n' }}"


@dataclass(frozen=True)
class TemplateCase:
    """eos: the tokenizer's end token. prompt: what must be rendered. turn_end: the token that ends a turn. plain: nothing is to
    be changed. think: the student may write thoughts. arguments: of METEOR_STUDENT_TEMPLATE_ARGS. config: more of
    tokenizer_config.json."""

    text: str
    prompt: str = PLAIN
    turn_end: str = "<|im_end|>"
    eos: str = "<|im_end|>"
    plain: bool = False
    think: bool = False
    thought_open: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


CASES = {
    "chatml": TemplateCase(CHATML + START, plain=True),
    "end of text instead of turn": TemplateCase(CHATML + START, eos="<|endoftext|>"),
    "system role raises": TemplateCase(
        TURNS.replace("CHECK", NO_SYSTEM), FOLDED, turn_end="<turn_end>", eos="<|endoftext|>"
    ),
    "system role and order raise": TemplateCase(
        TURNS.replace("CHECK", NO_SYSTEM + ALTERNATE), FOLDED, turn_end="<turn_end>", eos="<|endoftext|>"
    ),
    "system role is dropped": TemplateCase(
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
        "{{ '[ASK] ' + message.content + ' [/ASK]' }}{% elif message.role == 'assistant' %}"
        "{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}",
        "<bos>[ASK] Answer the question.\n\nWhat is ls? [/ASK]",
    ),
    "system text only in front of the first question": TemplateCase(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for message in messages %}{% if message.role == 'user' %}"
        "{{ '[ASK]' + (system + '\n' if loop.first and system else '') + message.content + '[/ASK]' }}{% else %}"
        "{{ message.content + eos_token }}{% endif %}{% endfor %}",
        "<bos>[ASK]Answer the question.\nWhat is ls?[/ASK]",
        plain=True,
    ),
    "thoughts unless switched off": TemplateCase(
        CHATML + START.replace("{% endif %}", SWITCH + "{% endif %}"), NO_THOUGHT, think=True
    ),
    "thoughts opened unless switched off": TemplateCase(
        CHATML + START.replace("{% endif %}", OPENED + "{% endif %}"), NO_THOUGHT, think=True
    ),
    "thoughts opened always": TemplateCase(CHATML + START.replace("t\n'", "t\n<think>\n'"), NO_THOUGHT, think=True),
    "thoughts opened always, without a line break": TemplateCase(
        CHATML + START.replace("t\n'", "t\n<think>'"), NO_THOUGHT, think=True
    ),
    "thoughts opened always, wanted": TemplateCase(
        CHATML + START.replace("t\n'", "t\n<think>\n'"),
        PLAIN + "<think>\n",
        think=True,
        thought_open=True,
        arguments={"enable_thinking": True},
    ),
    "thoughts wanted": TemplateCase(
        CHATML + START.replace("{% endif %}", SWITCH + "{% endif %}"),
        think=True,
        arguments={"enable_thinking": True},
    ),
    "other marks of thoughts": TemplateCase(CHATML + START.replace("t\n'", "t\n[THINK]'"),
        PLAIN + "[THINK]\n\n[/THINK]\n\n", think=True),
    "a switch that turns off when true": TemplateCase(
        CHATML + START.replace("{% endif %}", "{{ '<think>\n\n</think>\n\n' if no_think else '<think>\n' }}{% endif %}"),
        NO_THOUGHT,
        think=True,
    ),
    "an instruction to think": TemplateCase(
        CHATML.replace("{{", "{% if message.role == 'system' and thinking | default(true) %}{{ 'Think long.' }}{% endif %}{{")
        + START,
    ),
    "today's date": TemplateCase(
        "{{ 'Today: ' + strftime_now('%d %b %Y') + '.\n' }}" + CHATML + START, "Today: 01 Jan 2026.\n" + PLAIN
    ),
    "today's date unless given": TemplateCase(
        "{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%B %-d, %Y') %}{% endif %}{% endif %}"
        "{{ 'Today: ' + date_string + '.\n' }}" + CHATML + START,
        "Today: January 1, 2026.\n" + PLAIN,
    ),
    "today's date in a macro": TemplateCase(
        "{% macro day() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}{{ 'Today: ' + day() + '.\n' }}" + CHATML + START,
        "Today: 2026-01-01.\n" + PLAIN,
    ),
    "everything at once": TemplateCase(
        TURNS.replace("{{ bos_token }}", "{{ bos_token + strftime_now('%Y') }}")
        .replace("CHECK", NO_SYSTEM + ALTERNATE)
        .replace("model\n' }}", "model\n<think>\n' }}"),
        "<bos>2026" + FOLDED.removeprefix("<bos>") + "<think>\n\n</think>\n\n",
        turn_end="<turn_end>",
        eos="<|endoftext|>",
        think=True,
    ),
    "content as parts": TemplateCase(
        CHATML.replace("message['content']", "message.content | map(attribute='text') | join") + START
    ),
    "no generation prompt": TemplateCase(CHATML),
    "trimmed content": TemplateCase(CHATML.replace("['content']", ".content | trim").replace("' + message.content | trim + '", "' + (message.content | trim) + '") + START, plain=True),
    "begins with the first token": TemplateCase("{{ bos_token }}" + CHATML + START, "<bos>" + PLAIN, plain=True),
    "begins with the first token, as the tokenizer does": TemplateCase(
        "{{ bos_token }}" + CHATML + START, "<bos>" + PLAIN, plain=True, config={"add_bos_token": True}
    ),
    "several templates": TemplateCase(
        "", plain=True, config={"chat_template": [{"name": "tool_use", "template": TOOL_TURNS + START}, {"name": "default", "template": CHATML + START}]}
    ),
    "tools and calls": TemplateCase(TOOL_TURNS + START, plain=True),
    "tools, no system role, another turn end": TemplateCase(
        TOOL_TURNS.replace("{% for message in messages %}", "{% for message in messages %}" + NO_SYSTEM) + START,
        "<|im_start|>user\nAnswer the question.\n\nWhat is ls?<|im_end|>\n<|im_start|>assistant\n",
        eos="<|endoftext|>",
    ),
    "tools, order raises, thoughts": TemplateCase(
        TOOL_TURNS.replace("{% for message in messages %}", "{% for message in messages %}{% if message.role in ['user', 'assistant'] and "
            "loop.previtem and loop.previtem.role == message.role %}{{ raise_exception('roles must alternate') }}{% endif %}")
        + START.replace("{% endif %}", SWITCH + "{% endif %}"),
        NO_THOUGHT,
        think=True,
    ),
    "tools, content as parts": TemplateCase(
        TOOL_TURNS.replace("(message.content or '')", "(message.content | map(attribute='text') | join)") + START
    ),
    "tools in the system turn, thoughts opened unless switched off": TemplateCase(
        TOOLS + START.replace("{% endif %}", OPENED + "{% endif %}"), NO_THOUGHT, think=True
    ),
    "marks the answer for training": TemplateCase(
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}"
        "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
        "{{ message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}" + START,
        plain=True,
    ),
}  # fmt: skip


def write_case(folder: Path, case: TemplateCase) -> Path:
    """A folder's tokenizer and template, without weights: a byte-level BPE of at most 512 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([HEAD, "answer the question: ls lists files"], trainer)
    if case.config.get("add_bos_token"):
        bos = ("<bos>", SPECIAL_TOKENS.index("<bos>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[bos])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": case.eos,
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "chat_template": case.text,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config | case.config))
    return folder
