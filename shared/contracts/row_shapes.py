"""The shapes of rows that people have, recognised by the names of their fields, as rows of a dataset.

A shape is found for each row by its field names, so a file may mix them. A mapping names the fields instead.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from shared.contracts.json_types import Json
from shared.contracts.openai_rows import PREFERENCE, NotUsable, from_messages, from_preference

FIELDS = (
    "question",
    "reference",
    "rejected",
    "title",
    "context",
    "category",
    "group",
    "source",
    "id",
    "split",
    "messages",
)
TARGETS = frozenset(FIELDS)
ROLES = {
    "human": "user", "user": "user", "prompter": "user", "customer": "user", "question": "user", "instruction": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "claude": "assistant", "agent": "assistant", "ai": "assistant",
    "answer": "assistant", "system": "system", "developer": "system", "tool": "tool", "function": "tool",
    "function_call": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
# names of a field, the likeliest first; they are compared without case, accents, spaces and punctuation
QUESTION = (
    "question", "instruction", "prompt", "query", "request", "input", "problem", "utterance", "q", "user", "human",
    "instructions", "questiontext", "task", "taskdescription", "usermessage", "userinput", "goal", "nl", "inputs", "text",
    "sentence", "source text", "src", "title", "frage", "anfrage", "pregunta", "pergunta", "domanda", "vraag", "pytanie",
    "вопрос", "запрос", "问题", "問題", "提问", "质问", "質問", "问", "問", "질문", "soru", "प्रश्न", "सवाल", "سؤال", "السؤال",
)  # fmt: skip
REFERENCE = (
    "reference", "answer", "response", "completion", "output", "ideal", "solution", "target", "expectedoutput", "expected",
    "gold", "groundtruth", "reply", "a", "assistant", "gpt", "bestanswer", "correctanswer", "acceptedanswer", "answers",
    "canonicalsolution", "finalanswer", "referenceanswer", "expectedanswer", "modelanswer", "answertext", "responses", "answerkey", "answeridx", "correct", "correctindex",
    "targets", "outputs", "cmd", "command", "sql", "code", "label", "labels", "labeltext", "summary", "translation", "tgt",
    "chosen", "antwort", "respuesta", "resposta", "risposta", "reponse", "antwoord", "odpowiedz", "ответ", "回答", "答案",
    "答", "答え", "解答", "답변", "대답", "cevap", "yanıt", "उत्तर", "जवाब", "جواب", "الجواب", "الإجابة",
)  # fmt: skip
CONTEXT = (
    "context",
    "passage",
    "document",
    "background",
    "schema",
    "ctx",
    "contexto",
    "contexte",
    "kontext",
    "上下文",
    "背景",
)
CATEGORY = (
    "category",
    "topic",
    "subject",
    "kategorie",
    "categoria",
    "categorie",
    "categoría",
    "категория",
    "类别",
    "分类",
    "カテゴリ",
    "kategori",
)
GROUP = ("group", "conversationid", "sessionid", "threadid", "dialogueid")
IDS = (
    "id",
    "qid",
    "questionid",
    "taskid",
    "uid",
    "uuid",
    "exampleid",
    "promptid",
    "customid",
    "nr",
    "no",
    "index",
    "idx",
)
REJECTED = ("rejected", "rejectedresponse")
SYSTEM = ("system", "systemprompt", "systemmessage")
HISTORY = ("history",)
TURNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat", "data")
ABOUT = {  # names of fields that describe a row, so that leaving them unread loses no answer
    "metadata", "meta", "source", "url", "link", "license", "licence", "date", "created", "createdat", "timestamp", "time",
    "lang", "language", "locale", "split", "score", "tags", "tag", "author", "user id", "dataset", "version", "type", "kind",
    "difficulty", "level", "model", "weight", "tools", "usage", "comment", "notes", "status", "name", "file", "filename",
}  # fmt: skip


class Shape(NamedTuple):
    """name: for people. convert: a row with this shape's fields as a row of a dataset; raises NotUsable.

    reads: the row's fields that are used.
    """

    name: str
    convert: Callable[[Json], Json]
    reads: frozenset[str]


class NoShape(NotUsable):
    """No field is recognised as the question."""

    def __init__(self, fields: Sequence[str]):
        shown = ", ".join(fields[:20]) or "none"
        super().__init__(
            "question",
            f"no field is recognised as the question; the row has {shown}. Name it in the mapping: question=FIELD",
        )


def simple(name: str) -> str:
    """A field's name without case, accents of Latin letters, spaces and punctuation."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    kept = "".join(c for c in folded if not ("\u0300" <= c <= "\u036f"))
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", kept))


def _names(names: Sequence[str]) -> dict[str, int]:
    return {simple(name): place for place, name in reversed(list(enumerate(names)))}


_PLACES = {
    "question": _names(QUESTION), "reference": _names(REFERENCE), "context": _names(CONTEXT), "category": _names(CATEGORY),
    "group": _names(GROUP), "id": _names(IDS), "rejected": _names(REJECTED), "turns": _names(TURNS), "system": _names(SYSTEM),
    "history": _names(HISTORY),
}  # fmt: skip
_ABOUT = {simple(name) for name in ABOUT} | _PLACES["id"].keys()


def is_about(name: str) -> bool:
    """Whether a field of this name describes the row (a date, a link), so that it holds no answer."""
    return simple(name) in _ABOUT or simple(name).endswith(("id", "url", "date", "at"))


def is_question(name: str) -> bool:
    """Whether a field of this name is taken for the question."""
    return simple(name) in _PLACES["question"]


def _pick(fields: Sequence[str], role: str, taken: set[str]) -> str | None:
    """The field that is the likeliest of a role's names."""
    places = _PLACES[role]
    named = [(places[simple(name)], name) for name in fields if name not in taken and simple(name) in places]
    return min(named)[1] if named else None


@lru_cache(maxsize=1024)
def shape_of(fields: tuple[str, ...]) -> Shape:
    """The shape of rows with these fields. Raises NoShape."""
    there = set(fields)
    if "messages" in there:
        return _turns_shape("chat messages", "messages", fields)
    if {"input", "preferred_output"} <= there:
        return Shape("preference pairs of OpenAI", _preference, frozenset([*PREFERENCE, *FIELDS]))
    if {"custom_id", "body"} <= there:
        return Shape("requests of OpenAI's batch API", _batch, frozenset(["custom_id", "body", "method", "url"]))
    if {"inputs", "outputs"} <= there:
        return Shape("runs of LangSmith", _trace("inputs", "outputs"), frozenset(["id", "inputs", "outputs"]))
    if {"chosen", "rejected"} <= there:
        return _pairs(fields)
    turns = _pick(fields, "turns", set())
    if turns is not None:
        return _turns_shape("conversations", turns, fields)
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
        name = _pick(fields, role, taken)
        if name is not None:
            chosen[role] = name
            taken.add(name)
    for role in ("title", "source", "split"):
        if role in fields and role not in taken:
            chosen[role] = role
    return chosen


def _columns_shape(fields: tuple[str, ...]) -> Shape:
    """Question and answer by the names of their fields, alpaca's instruction and input among them."""
    question = _pick(fields, "question", set())
    if question is None:
        raise NoShape(fields)
    columns, taken = {"question": question}, {question}
    if simple(question) == "title" and "title" in fields:  # a title alone is the question
        taken.add("title")
    for role in ("reference", "rejected"):
        name = _pick(fields, role, taken)
        if name is not None:
            columns[role] = name
            taken.add(name)
    columns |= _extras(fields, taken)
    joined = [name for name in fields if simple(name) == "input" and name not in columns.values()]
    system, history = _pick(fields, "system", taken), _pick(fields, "history", taken)
    taken |= {*columns.values(), *joined, *filter(None, [system, history])}
    name = "alpaca" if joined and simple(question) == "instruction" else _named(columns)
    options = next((field for field in ("choices", "options") if field in fields), None)

    def convert(row: Json) -> Json:
        asked = row[question]
        made = mapped(row, {field: name for field, name in columns.items() if field != "question"})
        if isinstance(asked, list) and asked and isinstance(asked[0], dict):  # a conversation, and its answer beside it
            answer = {"reference": _said(row[columns["reference"]])} if "reference" in columns else {}
            return (
                made
                | from_messages([_message(f"{question}.{n}", turn) for n, turn in enumerate(asked)], question)
                | answer
            )
        made["question"] = as_question(question, asked)
        if joined and (more := as_text(row[joined[0]])):
            made["question"] = "\n\n".join(filter(None, [made["question"], more]))
        if system and (told := as_text(row[system])):
            made["context"] = "\n\n".join(filter(None, [told, made.get("context")]))
        if history and row[history]:
            earlier = from_messages(
                [*_pairs_of_turns(row[history]), {"role": "user", "content": made["question"] or ""}]
            )
            made["context"] = "\n\n".join(filter(None, [made.get("context"), earlier["context"]]))
        if options and isinstance(row[options], list | dict) and row[options]:
            made |= _with_options(made, row[options], row[columns["reference"]] if "reference" in columns else None)
        return made

    return Shape(name, convert, frozenset(taken | {*filter(None, [options])}))


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


def _with_options(made: Json, options: Any, right: Any) -> Json:
    """The options stand below the question as A, B, C; an answer that is a letter or a number becomes its option's text."""
    if isinstance(options, dict) and isinstance(options.get("text"), list):  # {"text": [...], "label": [...]}
        labels, texts = [str(label) for label in options.get("label") or []], options["text"]
    elif isinstance(options, dict):
        labels, texts = [str(label) for label in options], list(options.values())
    else:
        labels, texts = [], options
    labels = labels if len(labels) == len(texts) else [chr(65 + number) for number in range(len(texts))]
    lines = [f"{label}. {as_text(text)}" for label, text in zip(labels, texts, strict=True)]
    answer = made.get("reference")
    place = right if isinstance(right, int) and not isinstance(right, bool) else None
    if isinstance(right, str):
        place = (
            labels.index(right.strip())
            if right.strip() in labels
            else int(right)
            if right.strip().isdecimal()
            else None
        )
    if place is not None and 0 <= place < len(lines):
        answer = lines[place]
    return {"question": "\n".join([made["question"] or "", *lines]), "reference": answer}


def _pairs(fields: tuple[str, ...]) -> Shape:
    """A better and a worse answer, as texts or as whole conversations."""
    rest = tuple(name for name in fields if name not in ("chosen", "rejected"))
    prompt = _pick(rest, "question", set())
    extras = _extras(rest, {prompt} if prompt else set())

    def convert(row: Json) -> Json:
        chosen, rejected = row["chosen"], row["rejected"]
        if isinstance(chosen, str) and isinstance(rejected, str) and prompt is None:
            chosen, rejected = _transcript(chosen), _transcript(rejected)
        more = mapped(row, extras)
        if isinstance(chosen, list) and isinstance(rejected, list):
            asked = from_messages([_message("chosen", turn) for turn in chosen])
            other = from_messages([_message("rejected", turn) for turn in rejected])
            if asked["reference"] is None or other["reference"] is None:
                raise NotUsable("chosen", "the last message of both conversations must be the assistant's")
            if (prompt is not None) and not any(_role(turn) == "user" for turn in chosen):
                asked["question"] = as_text(row[prompt])
            return more | asked | {"rejected": other["reference"]}
        if prompt is None:
            raise NoShape(fields)
        asked = row[prompt]
        base: Json = (
            {"question": as_question(prompt, asked)}
            if not isinstance(asked, list)
            else from_messages([_message(f"{prompt}.{n}", turn) for n, turn in enumerate(asked)], prompt)
        )
        return more | base | {"reference": as_text(chosen), "rejected": as_text(rejected)}

    reads = frozenset(["chosen", "rejected", *filter(None, [prompt]), *extras.values()])
    return Shape("chosen and rejected", convert, reads)


def _transcript(text: str) -> list[Json]:
    """A conversation written as `Human: ...` and `Assistant: ...`. Raises NotUsable."""
    parts = re.split(r"(?:^|\n\n?)(Human|User|Assistant|System): ?", text)
    turns = [
        {"role": ROLES[who.casefold()], "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=False)
    ]
    if not turns:
        raise NotUsable("chosen", "there is no field with the question, and the answer is no conversation")
    return turns


def _turns_shape(name: str, field: str, fields: tuple[str, ...]) -> Shape:
    """Conversations as lists of turns, with the names for role and content that there are."""
    taken = {field}
    system = _pick(fields, "system", taken)
    extras = _extras(fields, {field, *filter(None, [system])})
    extras |= {role: role for role in ("reference", "rejected") if role in fields}

    def convert(row: Json) -> Json:
        turns = row[field]
        turns = json.loads(turns) if isinstance(turns, str) and turns.lstrip().startswith("[") else turns
        if not isinstance(turns, list) or not turns:
            raise NotUsable(field, "a list of {role, content} objects is expected")
        plain = field == "messages"  # OpenAI's name: a turn that is a text alone is a mistake there
        messages = [
            turn if plain and not isinstance(turn, dict) else _message(f"{field}.{number}", turn, number)
            for number, turn in enumerate(turns)
        ]
        if system and (told := as_text(row[system])):
            messages = [{"role": "system", "content": told}, *messages]
        return from_messages(messages, field) | mapped(row, extras)

    return Shape(name, convert, frozenset([field, *filter(None, [system]), *extras.values()]))


def _role(turn: Json) -> str | None:
    role = turn.get("role", turn.get("from", turn.get("speaker", turn.get("sender"))))
    return ROLES.get(role.casefold()) if isinstance(role, str) else None


def _message(where: str, turn: Any, number: int = 0) -> Json:
    """A turn as one of OpenAI's messages; turns that are texts alternate, the user's first."""
    if isinstance(turn, str):
        return {"role": "assistant" if number % 2 else "user", "content": turn}
    if not isinstance(turn, dict) or "role" in turn:
        return turn
    role = _role(turn)
    content = next((turn[name] for name in ("value", "content", "text", "message") if name in turn), None)
    if role is None:
        return {"role": turn.get("from", turn.get("speaker", turn.get("sender"))), "content": content}
    return {"role": role, "content": content if isinstance(content, str | list) else as_text(content)}


def _preference(row: Json) -> Json:
    rest = {name: part for name, part in row.items() if name in TARGETS and name not in PREFERENCE}
    return rest | from_preference(row)


def _batch(row: Json) -> Json:
    body = row["body"] if isinstance(row["body"], dict) else {}
    if "messages" not in body:
        raise NotUsable("body.messages", "a request with messages is expected")
    return {"id": as_text(row["custom_id"])} | from_messages(body["messages"], "body.messages")


def _trace(asked: str, answered: str) -> Callable[[Json], Json]:
    """A recorded call: what went in and what came out, as texts, as messages, or as objects that hold one of them."""

    def convert(row: Json) -> Json:
        question = _inner(row[asked], (*TURNS, *QUESTION))
        answer = _inner(row[answered], (*TURNS, *REFERENCE, "content", "choices"))
        extras = mapped(row, _extras([name for name in row if name not in (asked, answered)], set()))
        if isinstance(question, list):
            messages = [_message(f"{asked}.{number}", turn, number) for number, turn in enumerate(question)]
            read = from_messages(messages, asked)
            return extras | read | ({"reference": _said(answer)} if answer is not None else {})
        return extras | {"question": as_question(asked, question), "reference": _said(answer)}

    return convert


def _inner(value: Any, names: Sequence[str]) -> Any:
    """The text or the list of messages inside a value of a trace."""
    for _ in range(3):
        if not isinstance(value, dict):
            return value
        simple_names = {simple(name): name for name in value}
        key = next((simple_names[simple(name)] for name in names if simple(name) in simple_names), None)
        if key is None:
            if len(value) != 1:
                return value
            key = next(iter(value))
        value = value[key]
    return value


def _said(answer: Any) -> str | None:
    """The text of an answer: itself, the last message, or the first choice of a completion."""
    if isinstance(answer, list) and answer and isinstance(answer[-1], dict):
        last = answer[0] if "message" in answer[0] else answer[-1]
        return _said(last.get("message", last.get("content", last.get("value", last.get("text")))))
    if isinstance(answer, dict) and "content" in answer:
        return as_text(answer["content"])
    return as_text(answer)


def by_mapping(columns: Mapping[str, str]) -> Shape:
    """Rows whose fields a person named: our field -> the row's, with dots into nested values. An empty name: none.

    A row without the field of its question is refused; every other field may be missing.
    """
    columns = {field: name for field, name in columns.items() if name}
    turns = columns.pop("messages", None)

    def convert(row: Json) -> Json:
        made = {field: as_text(inside(row, name)) for field, name in columns.items() if field != "question"}
        if "question" in columns:
            made["question"] = as_question(columns["question"], inside(row, columns["question"], required=True))
        if turns is None:
            return made
        said = inside(row, turns, required=True)
        messages = [_message(f"{turns}.{n}", turn, n) for n, turn in enumerate(said if isinstance(said, list) else [])]
        return from_messages(messages, turns) | made

    named = [*columns.values(), *filter(None, [turns])]
    return Shape("mapped by hand", convert, frozenset(named) | {name.partition(".")[0] for name in named})


def mapped(row: Json, columns: Mapping[str, str]) -> Json:
    return {field: as_text(row[name]) for field, name in columns.items()}


def inside(value: Any, name: str, required: bool = False) -> Any:
    """The field of that name, or the value at a dotted path. Raises NotUsable where a required one is missing."""
    if isinstance(value, Mapping) and name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    if isinstance(value, Mapping) and first in value and dot:
        return inside(value[first], rest, required)
    if isinstance(value, list) and first.isdecimal() and len(first) < 9:
        inner = value[int(first)] if int(first) < len(value) else None
        return inside(inner, rest, required) if dot else inner
    if not required:
        return None
    there = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
    raise NotUsable(name, f"the row has no such field; it has {there}")


def as_question(name: str, value: Any) -> str | None:
    """Raises NotUsable for an object or a list, of which nobody knows what is asked."""
    if isinstance(value, dict | list):
        raise NotUsable(name, "a text is expected")
    return as_text(value)


def as_text(value: Any) -> str | None:
    """Numbers and booleans as text, of a list of answers the first, anything else as JSON; None for nothing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return (
            as_text(value[0])
            if value and all(isinstance(item, str | int | float) for item in value)
            else (_json(value) if value else None)
        )
    if isinstance(value, dict) and isinstance(
        value.get("text"), str | list
    ):  # SQuAD: {"text": [...], "answer_start": [...]}
        return as_text(value["text"])
    return str(value) if isinstance(value, int | float) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
