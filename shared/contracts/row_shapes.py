"""The shapes of rows that people have, recognised by the names of their fields, as rows of a dataset.

A shape is found for each row by its field names, so a file may mix them. A mapping names the fields instead.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from shared.contracts.answer_format import CUT_OFF
from shared.contracts.field_names import QUESTION, REFERENCE, TURNS, RowField, is_question, pick, simple
from shared.contracts.field_values import as_question, as_text, inside, mapped
from shared.contracts.json_types import Json
from shared.contracts.mapping_hints import mapping_hint
from shared.contracts.openai_rows import PREFERENCE, NotUsable, answer_of, from_messages, from_preference, read_tools
from shared.contracts.transcripts import spoken

CHAT = "chat messages"  # OpenAI's rows
FIELDS = get_args(RowField)
TARGETS = frozenset(FIELDS)
ROLES = {
    "human": "user", "user": "user", "client": "user", "prompter": "user", "customer": "user", "question": "user", "instruction": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "claude": "assistant", "agent": "assistant", "ai": "assistant",
    "answer": "assistant", "system": "system", "developer": "system", "tool": "tool", "function": "tool",
    "function_call": "assistant", "observation": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call")  # speakers whose words are a call


class Shape(NamedTuple):
    """name: for people. convert: a row with this shape's fields as a row of a dataset; raises NotUsable.

    reads: the row's fields that are used.
    """

    name: str
    convert: Callable[[Json], Json]
    reads: frozenset[str]
    partial: bool = False  # a mapping that names no question: the rest is recognised by names


class NoShape(NotUsable):
    """No field is recognised as the question."""

    def __init__(self, fields: Sequence[str]):
        shown = ", ".join(fields[:20]) or "none"
        super().__init__(
            "question", f"no field is recognised as the question; the row has {shown}. {mapping_hint(fields)}"
        )


@lru_cache(maxsize=1024)
def shape_of(fields: tuple[str, ...]) -> Shape:
    """The shape of rows with these fields. Raises NoShape."""
    there = set(fields)
    if {"messages", "chosen", "rejected"} <= there:
        return _pairs(fields)
    if {"name", "acceptedAnswer"} <= there:
        return by_mapping({"question": "name", "reference": "acceptedAnswer"})._replace(name="questions of schema.org")
    if "messages" in there:
        return _turns_shape(CHAT, "messages", fields)
    if {"input", "preferred_output"} <= there:
        return Shape("preference pairs of OpenAI", _preference, frozenset([*PREFERENCE, *FIELDS]))
    if {"custom_id", "body"} <= there:
        return Shape("requests of OpenAI's batch API", _batch, frozenset(["custom_id", "body", "method", "url"]))
    if {"inputs", "outputs"} <= there:
        return Shape("runs of LangSmith", _trace("inputs", "outputs"), frozenset(["id", "inputs", "outputs"]))
    if {"chosen", "rejected"} <= there:
        return _pairs(fields)
    if {"chosen_messages", "rejected_messages"} <= there:
        return _pairs(fields, "chosen_messages", "rejected_messages")
    turns = pick(fields, "turns", set())
    if turns is not None and not (turns == "data" and pick(fields, "question", set())):
        return _turns_shape("conversations", turns, fields)
    pair = next((pair for pair in TEXT_PAIRS if set(pair) <= {simple(name) for name in fields}), None)
    if pair is not None:
        return _text_pairs(pair, fields)
    answered = next((name for name in ("output", "ideal", "expected_output") if name in there), None)
    if "input" in there and answered and not there & {"instruction", "question", "prompt", "query"}:
        extras = _extras(fields, {"input", answered})
        return Shape(
            f"input and {answered}", _trace("input", answered), frozenset(["input", answered, *extras.values()])
        )
    return _columns_shape(fields)


def _extras(fields: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Our field -> the row's field, of those that stand beside question and answer."""
    chosen: dict[str, str] = {}
    for role in ("context", "category", "group", "id"):
        name = pick(fields, role, taken)
        if name is not None:
            chosen[role] = name
            taken.add(name)
    for role in ("title", "source", "split", "teacher_context"):
        if role in fields and role not in taken:
            chosen[role] = role
    return chosen


INPUTS = ("input", "输入")  # what an instruction is about; it joins the question


def _columns_shape(fields: tuple[str, ...]) -> Shape:
    """Question and answer by the names of their fields, alpaca's instruction and input among them."""
    question = pick(fields, "question", set())
    if question is None:
        raise NoShape(fields)
    columns, taken = {"question": question}, {question}
    if simple(question) == "title" and "title" in fields:  # a title alone is the question
        taken.add("title")
    for role in ("reference", "rejected"):
        name = pick(fields, role, taken)
        if name is not None:
            columns[role] = name
            taken.add(name)
    columns |= _extras(fields, taken)
    joined = [name for name in fields if simple(name) in INPUTS and name not in columns.values()]
    system, history = pick(fields, "system", taken), pick(fields, "history", taken)
    taken |= {*columns.values(), *joined, *filter(None, [system, history])}
    name = "alpaca" if joined and simple(question) == "instruction" else _named(columns)
    options = next((field for field in ("choices", "options") if field in fields), None)
    alone = simple(question) == "text" and "reference" not in columns  # the text may be a conversation
    others = {field: name for field, name in columns.items() if field != "question"}
    lettered = [] if options else _option_columns(fields, taken)
    taken |= {*lettered}

    def convert(row: Json) -> Json:
        asked = row[question]
        made = mapped(row, others)
        if isinstance(asked, list) and asked and isinstance(asked[0], dict):  # a conversation, and its answer beside it
            answer = {"reference": _said(row[columns["reference"]])} if "reference" in columns else {}
            return made | from_messages(_messages(question, asked), question, _offered(row)) | answer
        if alone and isinstance(asked, str) and (talk := spoken(asked)):
            return made | from_messages(talk, question)
        if isinstance(asked, dict):
            inner = next((asked[name] for name in asked if is_question(name)), asked)
            asked = inner if isinstance(inner, str) else asked
        made["question"] = as_question(question, asked)
        answers = row[columns["reference"]] if "reference" in columns else None
        if isinstance(answers, list) and len(answers) > 1 and not options:
            made["note"] = "of several answers the first is used"
        if joined and (more := as_text(row[joined[0]])):
            made["question"] = "\n\n".join(filter(None, [made["question"], more]))
        if lettered and columns.get("reference"):
            given = {chr(65 + n): row[column] for n, column in enumerate(lettered) if row.get(column) is not None}
            made |= _with_options(made, given, row[columns["reference"]], _first_number(lettered))
        if options and isinstance(row[options], list | dict) and row[options]:
            made |= _with_options(made, row[options], row[columns["reference"]] if "reference" in columns else None)
        told = as_text(row[system]) if system else None
        earlier = _pairs_of_turns(row[history]) if history and row[history] else []
        tools = _offered(row)
        if not (told or earlier or tools):
            return made
        asked = "\n\n".join(filter(None, [made.pop(part, None) for part in ("title", "question", "context")]))
        messages = [*earlier, {"role": "user", "content": asked}]
        if told:
            messages = [{"role": "system", "content": told}, *messages]
        answer = {"reference": made["reference"]} if "reference" in made else {}
        return made | from_messages(messages, tools=tools) | answer

    reads = taken | {*filter(None, [options])} | ({"tools"} & set(fields))
    if "reference" in columns and "label" not in reads and "label" in fields:
        return Shape(name, lambda row: without_unwanted(row, convert(row)), frozenset(reads | {"label"}))
    return Shape(name, convert, frozenset(reads))


def without_unwanted(row: Json, made: Json) -> Json:
    """Unpaired preferences, as KTO has them: the answer of a row whose `label` is false is not to be learned."""
    label = row.get("label")
    if label is False or (isinstance(label, str) and label.strip().casefold() == "false"):  # a table has texts
        return made | {"reference": None, "note": "the answer is marked as unwanted (label false) and is not used"}
    return made


def _offered(row: Json) -> list[Json]:
    """The row's tools; none where the field of that name holds something else."""
    try:
        return read_tools(row) if "tools" in row else []
    except NotUsable:
        return []


def _named(columns: Mapping[str, str]) -> str:
    return " and ".join(columns[role] for role in ("question", "reference", "rejected") if role in columns)


def _pairs_of_turns(history: Any) -> list[Json]:
    """Earlier turns as lists of two texts, as alpaca's descendants have them, or as messages."""
    turns: list[Json] = []
    for turn in history if isinstance(history, list) else []:
        if isinstance(turn, list) and len(turn) == 2:
            turns += [
                {"role": "user", "content": as_text(turn[0]) or ""},
                {"role": "assistant", "content": as_text(turn[1]) or ""},
            ]
        elif isinstance(turn, dict):
            turns.append(_message("history", turn))
    return turns


OPTIONS = (("a", "b", "c"), ("opa", "opb", "opc"))
OPTION = re.compile(r"(?:choice|option|opt|ans|alternative)([0-9a-h])")


def _option_columns(fields: Sequence[str], taken: set[str]) -> list[str]:
    """The columns of a multiple-choice test that holds each option by itself: A, B, C, D; choice0, choice1; option_a."""
    names = {simple(name): name for name in fields if name not in taken or simple(name) == "a"}
    for start in OPTIONS:
        if set(start) <= names.keys():
            prefix = start[0][:-1]
            return [names[prefix + letter] for letter in "abcdefgh" if prefix + letter in names]
    options = sorted(name for name in names if OPTION.fullmatch(name))
    return [names[name] for name in options] if len(options) > 1 else []


def _first_number(columns: Sequence[str]) -> int:
    """1 where the options are counted from 1."""
    last = simple(columns[0])[-1]
    return int(last) if last in "01" else 0


def _with_options(made: Json, options: Any, right: Any, first: int = 0) -> Json:
    """The options stand below the question as A, B, C; an answer that is a letter or a number becomes its option's text."""
    if isinstance(options, dict) and isinstance(options.get("text"), list):  # {"text": [...], "label": [...]}
        labels, texts = [str(label) for label in options.get("label") or []], options["text"]
    elif isinstance(options, dict):
        labels, texts = [str(label) for label in options], list(options.values())
    else:
        labels, texts = [], options
    labels = labels if len(labels) == len(texts) else [chr(65 + number) for number in range(len(texts))]
    written = [re.match(r"\(?([A-H])[).:]", str(text)) for text in texts]  # options that name their letter themselves
    if texts and all(written):
        labels = [match[1] for match in written if match]
        texts = [str(text)[match.end() :].strip() for text, match in zip(texts, written, strict=True) if match]
    lines = [f"{label}. {as_text(text)}" for label, text in zip(labels, texts, strict=True)]
    answer = made.get("reference")
    place = right - first if isinstance(right, int) and not isinstance(right, bool) else None
    if isinstance(right, str):
        short = right.strip().strip("().").upper()
        if short in labels:
            place = labels.index(short)
        elif right.strip() in labels:
            place = labels.index(right.strip())
        elif right.strip().isdecimal():
            place = int(right) - first
    if place is not None and 0 <= place < len(lines):
        answer = lines[place]
    return {"question": "\n".join([made["question"] or "", *lines]), "reference": answer}


TEXT_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"), ("texta", "textb"),
    ("sentencea", "sentenceb"),
)  # fmt: skip


def _text_pairs(pair: tuple[str, str], fields: tuple[str, ...]) -> Shape:
    """Two texts and what holds between them: inference, paraphrases."""
    names = {simple(name): name for name in fields}
    parts = [names[name] for name in pair]
    answer = pick(fields, "reference", {*parts}) or next(
        (names[name] for name in ("isduplicate", "similar", "similarity", "score", "relation") if name in names), None
    )
    taken = {*parts, *filter(None, [answer])}
    extras = _extras(fields, taken)

    def convert(row: Json) -> Json:
        asked = [f"{name}: {said}" for name in parts if (said := as_text(row[name]))]
        return mapped(row, extras | ({"reference": answer} if answer else {})) | {"question": "\n".join(asked)}

    return Shape(" and ".join([*parts, *filter(None, [answer])]), convert, frozenset([*taken, *extras.values()]))


def _pairs(fields: tuple[str, ...], better: str = "chosen", worse: str = "rejected") -> Shape:
    """A better and a worse answer, as texts, as messages, or as whole conversations."""
    rest = tuple(name for name in fields if name not in (better, worse))
    turns = pick(rest, "turns", set())
    prompt = turns or pick(rest, "question", set())
    extras = _extras(rest, {prompt} if prompt else set())

    def convert(row: Json) -> Json:
        chosen, rejected = row[better], row[worse]
        if isinstance(chosen, dict) and isinstance(rejected, dict):  # one message each
            chosen, rejected = [chosen], [rejected]
        if _are_answers(chosen) and _are_answers(rejected) and prompt is not None:
            chosen, rejected = _said(chosen), _said(rejected)
        if isinstance(chosen, str) and isinstance(rejected, str) and prompt is None:
            chosen, rejected = _transcript(chosen), _transcript(rejected)
        more = mapped(row, extras)
        if isinstance(chosen, list) and isinstance(rejected, list):
            tools = _offered(row)
            asked = from_messages(_messages(better, chosen), better, tools)
            other = from_messages(_messages(worse, rejected), worse, tools)
            if asked["reference"] is None or other["reference"] is None:
                raise NotUsable(better, "the last message of both conversations must be the assistant's")
            if (prompt is not None) and turns is None and not any(_role(turn) == "user" for turn in chosen):
                asked["question"] = as_text(row[prompt])
            return more | asked | {"rejected": other["reference"]}
        if prompt is None:
            raise NoShape(fields)
        asked = row[prompt]
        base: Json = (
            {"question": as_question(prompt, asked)}
            if not isinstance(asked, list)
            else from_messages(_messages(prompt, asked), prompt, _offered(row))
        )
        return more | base | {"reference": as_text(chosen), "rejected": as_text(rejected)}

    reads = frozenset([better, worse, *filter(None, [prompt]), *extras.values()])
    return Shape("chosen and rejected", convert, reads)


def _are_answers(turns: Any) -> bool:
    """Whether it is a list of messages, none of them the user's: the prompt stands beside it."""
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and _role(turn) != "user" for turn in turns)
    )


def _transcript(text: str) -> list[Json]:
    """A conversation written as `Human: ...` and `Assistant: ...`. Raises NotUsable."""
    turns = spoken(text)
    if turns is None:
        raise NotUsable("chosen", "there is no field with the question, and the answer is no conversation")
    return turns


NOTE = "\x00note"  # a field that unfolding adds: what was decided for the row
MEDIA = ("images", "videos", "audios")


BESIDE_TURNS = {"choices", "label", NOTE, "tools", "functions", *MEDIA}  # fields that say something of a conversation


def _turns_shape(name: str, field: str, fields: tuple[str, ...]) -> Shape:
    """Conversations as lists of turns, with the names for role and content that there are."""
    taken = {field}
    system = pick(fields, "system", taken)
    extras = _extras(fields, {field, *filter(None, [system])})
    extras |= {role: role for role in ("reference", "rejected") if role in fields}

    def convert(row: Json) -> Json:
        turns = row[field]
        turns = json.loads(turns) if isinstance(turns, str) and turns.lstrip().startswith("[") else turns
        if isinstance(turns, str) and field != "messages":
            turns = spoken(turns) or [turns]
        if field == "turns" and isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
            return _asked_in_turn(turns, mapped(row, extras))
        if not isinstance(turns, list) or not turns:
            raise NotUsable(field, "a list of {role, content} objects is expected")
        turns = _spoken_in_pairs(turns)
        plain = field == "messages"  # OpenAI's name: a turn that is a text alone is a mistake there
        messages = [
            turn if plain and not isinstance(turn, dict) else _message(f"{field}.{number}", turn, number)
            for number, turn in enumerate(turns)
        ]
        if not plain and not any(isinstance(turn, dict) and turn.get("role") for turn in messages):
            raise NoShape(fields)  # a list of something else under that name: a help desk's `conversations`
        if system and (told := as_text(row[system])):
            messages = [{"role": "system", "content": told}, *messages]
        if any(row.get(name) for name in MEDIA):
            raise NotUsable(
                next(name for name in MEDIA if row.get(name)), "only texts can be used, and the row has media"
            )
        made = from_messages(_with_ids(messages), field, read_tools(row)) | mapped(row, extras)
        if isinstance(row.get("choices"), list) and made["reference"] is None:  # a stored completion
            made |= _completed(row["choices"])
        if NOTE in row:
            made["note"] = row[NOTE]
        return without_unwanted(row, made)

    return Shape(
        name,
        convert,
        frozenset([field, *filter(None, [system]), *extras.values(), *(BESIDE_TURNS & set(fields))]),
    )


def _spoken_in_pairs(turns: Sequence[Any]) -> Sequence[Any]:
    """Capybara's turns, each with an input and an output, as texts that alternate; others as they are."""
    if not all(isinstance(turn, dict) and turn.keys() >= {"input", "output"} for turn in turns):
        return turns
    return [part for turn in turns for part in (turn["input"], turn["output"])]


def _asked_in_turn(turns: Sequence[Any], more: Json) -> Json:
    """Questions that are asked one after the other, as in MT-Bench: only the first stands for itself."""
    note = {"note": "only the first of several questions is used: the later ones follow answers that are not there"}
    return more | {"question": turns[0] if turns else None} | (note if len(turns) > 1 else {})


TEXT_PARTS = ("text", "input_text", "output_text", None)


def in_openai_form(turn: Json) -> Json:
    """A message with the spellings of other tools: roles in capitals, `prompter`; parts of text under other names; loss weights."""
    role, content = turn["role"], turn.get("content", turn.get("text", turn.get("parts", turn.get("value"))))
    if isinstance(role, str) and role.casefold() in CALLS and (calls := _calls_of(content)):
        return {"role": "assistant", "content": None, "tool_calls": calls}
    known = ROLES.get(role.casefold()) if isinstance(role, str) and role not in ROLES.values() else None
    made = turn | ({"role": known} if known else {})
    if isinstance(content, list) and content and all(isinstance(part, dict) for part in content):
        parts = [_text_part(part) for part in content]
        made = made | {"content": parts} if parts != content or "content" not in turn else made
    elif "content" not in turn and content is not None:
        made = made | {"content": content}
    if "loss_weight" in turn and "weight" not in turn:
        made = made | {"weight": int(bool(turn["loss_weight"]))}
    return made


def _text_part(part: Json) -> Json:
    said = part.get("text", part.get("value"))
    return {"type": "text", "text": said} if part.get("type") in TEXT_PARTS and isinstance(said, str) else part


def _messages(where: str, turns: Sequence[Any]) -> list[Any]:
    return _with_ids([_message(f"{where}.{number}", turn, number) for number, turn in enumerate(turns)])


def _with_ids(messages: Sequence[Any]) -> list[Any]:
    """Results of tools that name no call get the ids of the calls before them, in order."""
    made, open_calls = [], []
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("tool_calls"), list):
            open_calls = [
                call.get("id") or f"call_{n}" for n, call in enumerate(message["tool_calls"]) if isinstance(call, dict)
            ]
        elif isinstance(message, dict) and message.get("role") == "tool" and open_calls:
            given = message.get("tool_call_id")
            if given in open_calls:
                open_calls.remove(given)
            elif not given:
                message = message | {"tool_call_id": open_calls.pop(0)}
        made.append(message)
    return made


def _role(turn: Json) -> str | None:
    role = turn.get("role", turn.get("from", turn.get("speaker", turn.get("sender"))))
    return ROLES.get(role.casefold()) if isinstance(role, str) else None


def _message(where: str, turn: Any, number: int = 0) -> Json:
    """A turn as one of OpenAI's messages; turns that are texts alternate, the user's first."""
    if isinstance(turn, str):
        return {"role": "assistant" if number % 2 else "user", "content": turn}
    if not isinstance(turn, dict):
        return turn
    if "role" in turn:
        return in_openai_form(turn)
    role = _role(turn)
    content = next((turn[name] for name in ("value", "content", "text", "message") if name in turn), None)
    speaker = turn.get("from", turn.get("speaker", turn.get("sender")))
    if isinstance(speaker, str) and speaker.casefold() in CALLS and (calls := _calls_of(content)):
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if role is None:
        return {"role": speaker, "content": content}
    return {"role": role, "content": content if isinstance(content, str | list) else as_text(content)}


def _calls_of(content: Any) -> list[Json]:
    """A call, or a list of them, that is written as JSON; none where it is something else."""
    try:
        value = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        return []
    calls = value if isinstance(value, list) else [value]
    named = all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls)
    return [{"id": f"call_{number}", "function": call} for number, call in enumerate(calls)] if named else []


def _preference(row: Json) -> Json:
    rest = {name: part for name, part in row.items() if name in TARGETS and name not in PREFERENCE}
    return rest | from_preference(row)


def _batch(row: Json) -> Json:
    body = row["body"] if isinstance(row["body"], dict) else {}
    if "messages" not in body:
        raise NotUsable("body.messages", "a request with messages is expected")
    tools = read_tools(body, "body.")
    return {"id": as_text(row["custom_id"])} | from_messages(body["messages"], "body.messages", tools)


def _trace(asked: str, answered: str) -> Callable[[Json], Json]:
    """A recorded call: what went in and what came out, as texts, as messages, or as objects that hold one of them."""

    def convert(row: Json) -> Json:
        question = _inner(row[asked], (*TURNS, *QUESTION))
        answer = _inner(row[answered], (*TURNS, *REFERENCE, "content", "choices"))
        extras = mapped(row, _extras([name for name in row if name not in (asked, answered)], set()))
        if isinstance(question, list):
            read = from_messages(_messages(asked, question), asked, _tools_of_trace(row[asked]))
            return extras | read | (_completed(answer) if answer is not None else {})
        return extras | {"question": as_question(asked, question)} | _completed(answer)

    return convert


def _tools_of_trace(value: Any) -> list[Json]:
    return _offered(value) if isinstance(value, dict) else []


def _inner(value: Any, names: Sequence[str]) -> Any:
    """The text or the list of messages inside a value of a trace."""
    for _ in range(3):
        if not isinstance(value, dict) or value.get("tool_calls") or value.get("function_call"):
            return value
        simple_names = {simple(name): name for name in value}
        key = next((simple_names[simple(name)] for name in names if simple(name) in simple_names), None)
        if key is None:
            if len(value) != 1:
                return value
            key = next(iter(value))
        value = value[key]
    return value


def _completed(answer: Any) -> Json:
    """The reference of a stored completion; one that was cut off is none, and the row says so."""
    first = answer[0] if isinstance(answer, list) and answer else None
    if isinstance(first, dict) and first.get("finish_reason") == CUT_OFF:
        return {
            "reference": None,
            "note": "the answer ended at its limit of tokens (finish_reason length) and is not used",
        }
    return {"reference": _said(answer)}


def _said(answer: Any) -> str | None:
    """The text of an answer: itself, the last message, or the first choice of a completion."""
    if isinstance(answer, list) and answer and isinstance(answer[-1], dict):
        last = answer[0] if "message" in answer[0] else answer[-1]
        if "message" not in last and last.get("tool_calls"):
            return answer_of(last)
        return _said(last.get("message", last.get("content", last.get("value", last.get("text")))))
    if isinstance(answer, dict) and (answer.get("tool_calls") or answer.get("function_call")):
        return answer_of(answer)
    if isinstance(answer, dict) and "content" in answer:
        return as_text(answer["content"])
    return as_text(answer)


def by_mapping(columns: Mapping[str, str]) -> Shape:
    """Rows whose fields a person named: our field -> the row's, with dots into nested values. An empty name: none.

    A row without the field of its question is refused; every other field may be missing.
    """
    partial = not columns.get("question") and not columns.get("messages")
    none: Json = {field: None for field, name in columns.items() if not name and partial}
    columns = {field: name for field, name in columns.items() if name}
    turns = columns.pop("messages", None)

    def convert(row: Json) -> Json:
        made = {field: as_text(_joined(row, name)) for field, name in columns.items() if field != "question"}
        if "question" in columns:
            made["question"] = as_question(columns["question"], _joined(row, columns["question"], required=True))
        if turns is None:
            return none | made
        said = inside(row, turns, required=True)
        messages = _messages(turns, said if isinstance(said, list) else [])
        return from_messages(messages, turns, _offered(row)) | made

    named = [*columns.values(), *filter(None, [turns])]
    return Shape(
        "mapped by hand",
        convert,
        frozenset(named) | {part.partition(".")[0] for name in named for part in [name, *name.split("+")]},
        partial,
    )


def completed(mapping: Shape, fields: tuple[str, ...]) -> Shape:
    """A partial mapping with what the names of the fields say. Raises NoShape."""
    known = shape_of(fields)
    return Shape(mapping.name, lambda row: known.convert(row) | mapping.convert(row), known.reads | mapping.reads)


def _joined(row: Json, name: str, required: bool = False) -> Any:
    """The field of that name, or the texts of several joined by plus signs."""
    if name in row or "+" not in name:
        return inside(row, name, required)
    first, *others = (inside(row, part, required and not n) for n, part in enumerate(name.split("+")))
    return "\n\n".join(filter(None, map(as_text, [first, *others]))) or None
