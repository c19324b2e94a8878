"""How a base must be prompted, found by rendering its chat template: no model library, milliseconds.

What a template cannot do is added around its text, so that trainer, engine, public chat and exports render the same prompt for
the same messages: a prelude rearranges the messages and sets the template's arguments, a postlude completes the generation
prompt. A request's own template arguments win over the prelude's.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.contracts.errors import UserError
from shared.contracts.json_types import Json
from shared.contracts.prompt_profile import PromptProfile

TEMPLATE, CONFIG, TOKENIZER = "chat_template.jinja", "tokenizer_config.json", "tokenizer.json"
GENERATION = "generation_config.json"
PINNED = date(2026, 1, 1)  # today, for a template that writes the date: an answer must not depend on the day
THINK = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
# Names of template arguments that turn thoughts on or off, and of those that turn them off when true.
SWITCH = re.compile(r"(?!.*(effort|budget|level|content|token)).*(think|thought|reason)", re.IGNORECASE)
NEGATED = re.compile(r"(^|_)(no|not|non|disable|skip|hide|without)", re.IGNORECASE)
REMEDY = "name a Jinja file of yours in METEOR_STUDENT_TEMPLATE"
OWN_FOLLOWS = "{#- above: set for this model; below: its own template #}"
SYSTEM, ASKED, ANSWERED, ASKED_AGAIN = "zqsystem", "zqfirst", "zqanswer", "zqsecond"  # words that no template contains

Message = dict[str, Any]
_system = {"role": "system", "content": SYSTEM}
_asked = {"role": "user", "content": ASKED}
_asked_again = {"role": "user", "content": ASKED_AGAIN}
_answered = {"role": "assistant", "content": ANSWERED}
_answered_again = {"role": "assistant", "content": ASKED_AGAIN}


class TemplateRefused(UserError):
    """A folder whose prompts cannot be rendered; code no_chat_template or bad_chat_template. reason: the message without the
    remedy."""

    code = "bad_chat_template"

    def __init__(self, reason: str, remedy: str = "", code: str | None = None):
        super().__init__(f"{reason}; {remedy}" if remedy else reason, code=code)
        self.reason = reason
        self.remedy = remedy


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; its content is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment(today: str) -> Environment:
    """As transformers and vLLM set it up. today: what the template gets for the date in any format."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _as_json
    names: dict[str, Any] = {"raise_exception": _refuse, "strftime_now": lambda form: today}
    environment.globals.update(names)
    return environment


@lru_cache(maxsize=256)
def _compiled(text: str, today: str) -> Template:
    return _environment(today).from_string(text)


def _as_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text with what is added around it. tokens: bos_token, eos_token, ... as the tokenizer hands them over.

    arguments: defaults for the template's own arguments. folds: system texts become part of the next user turn. merges:
    consecutive turns of one role become one. parts: a content is a list of parts. pinned: the date is PINNED. generation: text
    that ends the prompt.
    """

    text: str
    tokens: Mapping[str, str]
    arguments: tuple[tuple[str, Any], ...] = ()
    folds: bool = False
    merges: bool = False
    parts: bool = False
    pinned: bool = False
    generation: str = ""

    @cached_property
    def adapted(self) -> str:
        prelude = [_pinned_date()] if self.pinned else []
        prelude += [
            f"{{%- if {name} is not defined -%}}{{%- set {name} = {_literal(value)} -%}}{{%- endif -%}}"
            for name, value in self.arguments
        ]
        if self.folds or self.merges or self.parts:
            prelude.append(_rearranged(self.folds, self.merges, self.parts))
        text = self.text
        if self.generation:
            text = text.removesuffix("\n")
            text += f"{{%+ if add_generation_prompt %}}{{{{ {_literal(self.generation)} }}}}{{% endif %}}"
        # The line break is dropped with the comment before it, so the template's own first line is a first line.
        return f"{''.join(prelude)}{OWN_FOLLOWS}\n{text}" if prelude else text

    def render(
        self,
        messages: Sequence[Message],
        prompt: bool = False,
        today: str = "",
        tools: Sequence[Json] | None = None,
        **arguments: Any,
    ) -> str:
        """Raises TemplateRefused with the template's own words."""
        try:
            return _compiled(self.adapted, today).render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=prompt,
                **{**self.tokens, **arguments},
            )
        except Exception as error:  # the template's code may fail in any way
            raise TemplateRefused(str(error) or type(error).__name__) from error

    def shows(self, *messages: Message) -> bool:
        """Whether all of these messages stand in the prompt."""
        try:
            text = self.render(messages)
        except TemplateRefused:
            return False
        return all(message["content"] in text for message in messages)

    def answered(self) -> str:
        """What stands between the question and its answer, ANSWERED, and what follows it."""
        try:
            text = self.render([_system, _asked, _answered])
        except TemplateRefused:  # it wants the last word to be the user's
            text = self.render([_system, _asked, _answered, _asked_again])
        return text.rpartition(ASKED)[2]

    def prompt_end(self, **arguments: Any) -> str:
        """What follows the question, up to where the student begins."""
        return self.render([_system, _asked], prompt=True, **arguments).rpartition(ASKED)[2]

    @cached_property
    def names(self) -> list[str]:
        """Of the arguments that the template reads."""
        return sorted(meta.find_undeclared_variables(_environment("").parse(self.adapted)))


def read_prompts(
    folder: Path, given: Path | None = None, arguments: Json | None = None, steps_only: bool = False
) -> PromptProfile | None:
    """How the model in this folder must be prompted; None: its own template does, or the folder has no tokenizer.

    given: a template instead of the folder's own. arguments: for the template, instead of those found here. steps_only: without
    what conversations alone need (consecutive turns of one role), so that it changes no step's hash.
    Raises TemplateRefused, with the remedy.
    """
    if given is None and not any((folder / name).is_file() for name in (TEMPLATE, CONFIG, TOKENIZER)):
        return None
    return _read(folder, given, json.dumps(arguments or {}, sort_keys=True), steps_only)


@cache
def _read(folder: Path, given: Path | None, arguments: str, steps_only: bool) -> PromptProfile | None:
    config = _json(folder / CONFIG)
    own = _own_template(folder, config)
    text = _given_text(given) if given else own
    if text is None:
        raise TemplateRefused(
            f"{folder.name} has no chat template: it is a base model without a conversation format",
            f"take its instruct version, or {REMEDY}",
            code="no_chat_template",
        )
    tokens = _tokens(_json(folder / "special_tokens_map.json")) | _tokens(config)
    asked: Json = json.loads(arguments)
    try:
        template = _adapt(ChatTemplate(text, tokens, tuple(asked.items())), asked)
        if steps_only:
            template = replace(template, merges=False)
        marks = _thought_marks(template)
        profile = PromptProfile(
            template=template.adapted if template.adapted != own else None,
            turn_end=_turn_end(template, folder, config),
            think=marks,
            thought_open=_thought(template.prompt_end(), marks) == "open",
        )
    except TemplateRefused as error:
        reason = f"the chat template of {given or folder.name} cannot render a question: {error.reason}"
        raise TemplateRefused(reason, REMEDY) from error
    return profile if profile != PromptProfile() else None


def prompt_template(folder: Path, profile: PromptProfile | None) -> ChatTemplate:
    """What a base is prompted with, to render messages without a model library. Raises TemplateRefused."""
    config = _json(folder / CONFIG)
    text = profile.template if profile is not None and profile.template else _own_template(folder, config)
    if text is None:
        raise TemplateRefused(f"{folder.name} has no chat template", code="no_chat_template")
    return ChatTemplate(text, _tokens(_json(folder / "special_tokens_map.json")) | _tokens(config))


def end_ids(folder: Path, profile: PromptProfile | None) -> list[int]:
    """All token ids that end a turn, where the folder's own generation_config.json does not name the turn's end; else empty."""
    if profile is None or profile.turn_end is None:
        return []
    own = _json(folder / GENERATION).get("eos_token_id")
    ids = [one for one in (own if isinstance(own, list) else [own]) if isinstance(one, int)]
    end = _added_tokens(folder, _json(folder / CONFIG)).get(profile.turn_end)
    return [] if end is None or end in ids else [*ids, end]


def write_prompt_files(folder: Path, target: Path, profile: PromptProfile | None) -> None:
    """Write into target what a profile changes of a model's folder: chat_template.jinja and generation_config.json."""
    target.mkdir(parents=True, exist_ok=True)
    if profile is not None and profile.template is not None:
        (target / TEMPLATE).write_text(profile.template, encoding="utf-8")
    if ids := end_ids(folder, profile):
        own = _json(target / GENERATION)
        (target / GENERATION).write_text(json.dumps(own | {"eos_token_id": ids}, indent=2, sort_keys=True) + "\n")


# what is found


def _adapt(template: ChatTemplate, asked: Json) -> ChatTemplate:
    """With all that the messages of a student need. Each finding is looked for in what the former ones made."""
    opening = [[_system, _asked], [_asked]]
    if any(_differs_by_day(template, messages) for messages in opening):
        template = replace(template, pinned=True)
    if not template.shows(_asked) and replace(template, parts=True).shows(_asked):
        template = replace(template, parts=True)
    if not template.shows(_system, _asked):
        template = replace(template, folds=True)
    if not template.shows(_system, _asked, _asked_again) or not template.shows(
        _system, _asked, _answered, _answered_again, {"role": "user", "content": "zqthird"}
    ):
        template = replace(template, merges=True)
    template.render([_system, _asked], prompt=True)  # raises where nothing helped
    if not template.shows(_system, _asked):
        raise TemplateRefused("it leaves out the question or the system text")
    template = replace(template, generation=_missing_generation_prompt(template))
    return _without_thinking(template, asked)


def _differs_by_day(template: ChatTemplate, messages: list[Message]) -> bool:
    try:
        return template.render(messages, True, "zqtoday") != template.render(messages, True, "zqtomorrow")
    except TemplateRefused:
        return False


def _missing_generation_prompt(template: ChatTemplate) -> str:
    """What stands before an answer, where the template does not write it for add_generation_prompt."""
    without = template.render([_system, _asked]).rpartition(ASKED)[2]
    answered = template.answered().partition(ANSWERED)[0]
    missing = answered.removeprefix(without)
    if template.prompt_end().strip() != without.strip() or missing == answered or not missing.strip():
        return template.generation
    return missing


def _without_thinking(template: ChatTemplate, asked: Json) -> ChatTemplate:
    """The student answers at once, unless the template's arguments ask for thoughts."""
    if OWN_FOLLOWS in template.text or any(SWITCH.search(name) and value for name, value in asked.items()):
        return template  # settled before, or asked for
    marks, question = _thought_marks(template), [_system, _asked]
    end = template.prompt_end()
    state = _thought(end, marks)
    if state == "closed":
        return template
    names = [name for name in template.names if SWITCH.search(name) and name not in asked]
    switched = [
        replace(template, arguments=(*template.arguments, (name, value))) for name in names for value in (False, True)
    ]
    switched = [one for one in switched if one.shows(*question)]
    for wanted in ("closed", "") if state == "open" else ("closed",):
        for one in switched:
            if _thought(one.prompt_end(), marks) == wanted:
                return one
    if marks is not None and state == "open":
        line_end = "" if end.endswith("\n") else "\n"
        return replace(template, generation=f"{template.generation}{line_end}\n{marks[1]}\n\n")
    for one in switched:  # a switch that shows elsewhere, as an instruction in the system text
        name, value = one.arguments[-1]
        if value is bool(NEGATED.search(name)) and one.render(question, True) != template.render(question, True):
            return one
    return template


def _thought_marks(template: ChatTemplate) -> tuple[str, str] | None:
    return next((marks for marks in THINK if marks[1] in template.text or marks[0] in template.text), None)


def _thought(text: str, marks: tuple[str, str] | None) -> str:
    """Where a prompt's end leaves the student: in an "open" thought, after a "closed" one, or "" without any."""
    if marks is None:
        return ""
    opened, closed = text.rfind(marks[0]), text.rfind(marks[1])
    if opened < 0:
        return ""
    return "open" if opened > closed else "closed"


def _turn_end(template: ChatTemplate, folder: Path, config: Json) -> str | None:
    """The token after an answer; None where it is the tokenizer's end token, or no token."""
    rest = template.answered().partition(ANSWERED)[2].lstrip()
    end = template.tokens.get("eos_token")
    if not rest or (end and rest.startswith(end)):
        return None
    known = sorted(_added_tokens(folder, config), key=len, reverse=True)
    return next((token for token in known if token and rest.startswith(token)), None)


# what is read


def _json(path: Path) -> Json:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise TemplateRefused(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _own_template(folder: Path, config: Json) -> str | None:
    """As transformers chooses: the file first; of several templates in the configuration the default one."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text("utf-8")
    own = config.get("chat_template")
    if isinstance(own, list):
        own = {one.get("name"): one.get("template") for one in own}.get("default")
    return own if isinstance(own, str) else None


def _given_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateRefused(f"METEOR_STUDENT_TEMPLATE: {path} cannot be read: {error}") from error


def _tokens(config: Json) -> dict[str, str]:
    """Special tokens by name; a file writes them as text or as an object."""
    values = {name: value for name, value in config.items() if name.endswith("_token")}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _added_tokens(folder: Path, config: Json) -> dict[str, int]:
    """Ids of the tokens that stand for themselves in every text, by their text."""
    listed = _json(folder / TOKENIZER).get("added_tokens") or []
    ids = {one["content"]: int(one["id"]) for one in listed}
    decoder = config.get("added_tokens_decoder") or {}
    return ids | {one["content"]: int(number) for number, one in decoder.items()}


# what is written around a template


def _rearranged(folds: bool, merges: bool, parts: bool) -> str:
    """Jinja that replaces `messages`."""
    return "".join(_rearranging(folds, merges, parts))


def _rearranging(folds: bool, merges: bool, parts: bool) -> Iterator[str]:
    yield "{%- set kept = namespace(turns=[], system='') -%}{%- for turn in messages -%}{%- set content = turn.content -%}"
    if folds:
        yield (
            "{%- if turn.role == 'system' or turn.role == 'developer' -%}"
            "{%- set kept.system = kept.system + content + '\\n\\n' -%}{%- else -%}"
            "{%- if turn.role == 'user' and kept.system -%}"
            "{%- set content = kept.system + content -%}{%- set kept.system = '' -%}{%- endif -%}"
        )
    if merges:
        yield (
            "{%- set last = kept.turns[-1] if kept.turns else {'role': ''} -%}"
            "{%- if turn.role == last.role and turn.role in ['user', 'assistant'] and not turn.tool_calls -%}"
            "{%- set kept.turns = kept.turns[:-1] + [dict(last, content=last.content + '\\n\\n' + content)] -%}{%- else -%}"
        )
    yield "{%- set kept.turns = kept.turns + [dict(turn, content=content)] -%}"
    yield "{%- endif -%}" * (folds + merges) + "{%- endfor -%}"
    if folds:
        yield (
            "{%- if kept.system -%}"
            "{%- set kept.turns = kept.turns + [{'role': 'user', 'content': kept.system | trim}] -%}{%- endif -%}"
        )
    if parts:
        yield (
            "{%- set listed = namespace(turns=[]) -%}{%- for turn in kept.turns -%}"
            "{%- set content = [{'type': 'text', 'text': turn.content}] if turn.content is string else turn.content -%}"
            "{%- set listed.turns = listed.turns + [dict(turn, content=content)] -%}{%- endfor -%}"
            "{%- set kept = listed -%}"
        )
    yield "{%- set messages = kept.turns -%}"


def _pinned_date() -> str:
    """Jinja that replaces strftime_now: the directives that templates use, for PINNED."""
    values = {"%-d": "1", "%-m": "1", "%e": " 1", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM"}
    values |= {f"%{letter}": PINNED.strftime(f"%{letter}") for letter in "dbBhmyYAajFDx"}
    filters = "".join(f" | replace('{name}', '{value}')" for name, value in values.items())
    return f"{{%- macro strftime_now(form) -%}}{{{{- form{filters} -}}}}{{%- endmacro -%}}"


def _literal(value: Any) -> str:
    """A JSON value as a Jinja expression."""
    match value:
        case None:
            return "none"
        case str():
            escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
            return f"'{escaped}'"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case dict():
            return f"{{{', '.join(f'{_literal(name)}: {_literal(item)}' for name, item in value.items())}}}"
    return json.dumps(value)
