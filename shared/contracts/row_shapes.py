"""The shapes of rows that people have, recognised by the names of their fields, as rows of a dataset.

A shape is found for each row by its field names, so a file may mix them. A mapping names the fields instead.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from shlex import quote
from typing import Any, NamedTuple

from shared.contracts.answer_format import CUT_OFF
from shared.contracts.json_types import Json
from shared.contracts.openai_rows import PREFERENCE, NotUsable, answer_of, from_messages, from_preference, read_tools
from shared.contracts.transcripts import spoken

CHAT = "chat messages"  # OpenAI's rows
FIELDS = (
    "question",
    "reference",
    "rejected",
    "title",
    "context",
    "teacher_context",
    "category",
    "group",
    "source",
    "id",
    "split",
    "messages",
)
TARGETS = frozenset(FIELDS)
ROLES = {
    "human": "user", "user": "user", "client": "user", "prompter": "user", "customer": "user", "question": "user", "instruction": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bing": "assistant", "bard": "assistant", "claude": "assistant", "agent": "assistant", "ai": "assistant",
    "answer": "assistant", "system": "system", "developer": "system", "tool": "tool", "function": "tool",
    "function_call": "assistant", "observation": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call")  # speakers whose words are a call
# names of a field, the likeliest first; they are compared without case, accents, spaces and punctuation
QUESTION = (
    "question", "instruction", "prompt", "query", "request", "input", "inputs", "problem", "utterance", "q", "user", "human",
    "instructions", "questiontext", "querytext", "prompttext", "task", "taskdescription", "usermessage", "userinput", "ask", "goal", "nl", "text", "message",
    "sentence", "source text", "src", "title", "frage", "fråga", "spørgsmål", "spørsmål", "anfrage", "kundenanfrage", "aufgabe", "nachricht", "pregunta", "consulta", "instruccion", "demande", "pergunta", "domanda", "vraag", "pytanie",
    "вопрос", "запрос", "问题", "問題", "提问", "质问", "質問", "问", "問", "用户问题", "提问内容", "指令", "질문", "soru", "प्रश्न", "सवाल", "سؤال", "السؤال",
)  # fmt: skip
REFERENCE = (
    "reference", "answer", "response", "completion", "output", "ideal", "solution", "target", "expectedoutput", "expected",
    "gold", "groundtruth", "reply", "a", "assistant", "gpt", "bestanswer", "correctanswer", "acceptedanswer", "answers",
    "canonicalsolution", "finalanswer", "referenceanswer", "expectedanswer", "modelanswer", "answertext", "responses", "answerkey", "answeridx", "correct", "correctindex",
    "targets", "outputs", "cmd", "command", "sql", "sqlquery", "cypher", "sparql", "code", "label", "labels", "labeltext", "intent", "sentiment", "summary", "translation", "tgt",
    "chosen", "antwoord", "svar", "antwort", "antworttext", "lösung", "musterlösung", "respuesta", "solución", "salida", "resposta", "risposta", "reponse", "antwoord", "odpowiedz", "ответ", "回答", "答案", "最佳答案", "客服回复", "回复", "输出", "cop",
    "答", "答え", "解答", "답변", "대답", "cevap", "yanıt", "उत्तर", "जवाब", "جواب", "الجواب", "الإجابة",
)  # fmt: skip
CONTEXT = (
    "context",
    "passage",
    "document",
    "background",
    "schema",
    "ctx",
    "contexttext",
    "contexts",
    "retrievedcontexts",
    "referencecontexts",
    "passages",
    "documents",
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
TURNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "contents", "turns", "chat", "data")
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
    partial: bool = False  # a mapping that names no question: the rest is recognised by names


class NoShape(NotUsable):
    """No field is recognised as the question."""

    def __init__(self, fields: Sequence[str]):
        shown = ", ".join(fields[:20]) or "none"
        super().__init__(
            "question", f"no field is recognised as the question; the row has {shown}. {mapping_hint(fields)}"
        )


# Words in the names of fields that a person would choose first where none is taken for the question or the answer: help desks,
# trackers, wikis. The likeliest first.
ASKED_LIKELY = (
    "description",
    "beschreibung",
    "body",
    "message",
    "topictitle",
    "subject",
    "betreff",
    "asunto",
    "sujet",
    "content",
    "text",
)
ANSWERED_LIKELY = (
    "acceptedanswer", "reply", "comment", "resolution", "notes", "response", "conversation", "body", "value", "content", "text", "html",
)  # fmt: skip


def mapping_hint(fields: Sequence[str]) -> str:
    """How the fields are named by hand, with names of the row: the first that do not describe it."""
    named = [name for name in fields if not is_about(name)] or list(fields)
    question, answer = [*named, "FIELD", "FIELD"][:2]
    return f"Name it, for example: {mapped_as(question=question, reference=answer)} (over HTTP the field mapping)"


def mapped_as(**columns: str) -> str:
    """The options of a command that name these fields, as a shell takes them."""
    pairs = [f"{field}={name}" for field, name in columns.items()]
    return " ".join(f"--map {pair if PLAIN.fullmatch(pair) else quote(pair)}" for pair in pairs)


PLAIN = re.compile(r"[\w.=+/@-]+")


def suggested_mapping(row: Json) -> str | None:
    """The same with the texts that the row holds, at any depth; None where it has no two of them."""
    places = _texts(row, 0)
    asked = next(iter(sorted(places, key=_asked_rank)), None)
    answered = None if asked is None else likely_answer(row, asked)
    if asked is None or answered is None:
        return None
    if asked.partition(STAR)[0] != answered.partition(STAR)[0]:  # not members of one list: the first of each
        asked, answered = asked.replace(STAR, ".0"), answered.replace(STAR, ".0")
    return f"{mapped_as(question=asked, reference=answered)} (over HTTP the field mapping)"


def likely_answer(row: Json, asked: str = "") -> str | None:
    """The place of the text that is the likeliest answer, beside the question's; None where there is no text."""
    inside_of = asked.partition(STAR)[0] if STAR in asked else None
    places = [
        place
        for place in _texts(row, 0)
        if place != asked and (inside_of is None or place.partition(STAR)[0] == inside_of)
    ]
    return next(iter(sorted(places, key=_answered_rank)), None)


def _asked_rank(place: str) -> int:
    name = place.rpartition(".")[2]
    if is_strong_question(name):
        return 0
    return 1 + _word_rank(name, ASKED_LIKELY) + (MANY if "comment" in simple(place) else 0)


def _answered_rank(place: str) -> int:
    *around, name = place.split(".")
    if is_answer(name) and simple(name) not in ("summary", "title"):
        return 0
    of_answers = any(looks_like_answer(part) for part in [*around, name]) and simple(name) != "resolution"
    if of_answers and not is_about(name):
        return 1
    return (
        2 + min(_word_rank(part, ANSWERED_LIKELY) for part in [*around, name]) + (MANY if place.count(".") > 4 else 0)
    )


MANY = 100


def _word_rank(name: str, words: Sequence[str]) -> int:
    """The place of the first of the words that the name holds; names that describe a row come last."""
    short = simple(name)
    rank = next((2 * place + (word != short) for place, word in enumerate(words) if word in short), 2 * len(words))
    return rank + (MANY if is_about(name) and rank == 2 * len(words) else 0)


STAR = ".*"


def _texts(value: Any, depth: int) -> list[str]:
    """Dotted paths of the texts in a row; a star stands for the members of a list of objects."""
    places: list[str] = []
    for name, part in islice(value.items(), 50):
        inner, path = part, str(name)
        if isinstance(part, list) and part and isinstance(part[0], dict):
            inner, path = part[0], f"{name}{STAR}"
        if isinstance(inner, dict) and depth < 3:
            places += [f"{path}.{place}" for place in _texts(inner, depth + 1)]
        elif (isinstance(part, list) and part and isinstance(part[0], str)) or (isinstance(part, str) and part.strip()):
            places.append(path)
    return places


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


ENDS = {  # the ends of names of a field, where it is the only one with such an end
    "question": ("question", "prompt", "instruction", "query", "frage", "anfrage", "pregunta", "问题"),
    "reference": (
        "antwort",
        "respuesta",
        "reponse",
        "答案",
        "回复",
        "answer",
        "response",
        "completion",
        "reply",
        "reference",
        "solution",
        "output",
        "query",
    ),
}
WEAK = _names(
    ("input", "inputs", "text", "sentence", "title", "task", "goal", "src", "source text", "user", "human", "nl")
)


def is_strong_question(name: str) -> bool:
    """Whether the name alone says that this is the question: `question`, not `text`."""
    return is_question(name) and simple(name) not in WEAK


def is_id(name: str) -> bool:
    """Whether a field of this name is taken for the row's id."""
    return simple(name) in _PLACES["id"]


def is_answer(name: str) -> bool:
    """Whether a field of this name is taken for the answer."""
    return simple(name) in _PLACES["reference"]


def likeliest_answer(fields: Sequence[str]) -> str | None:
    """The field that is taken for the answer."""
    return _pick(fields, "reference", set()) if any(is_answer(name) for name in fields) else None


def looks_like_answer(name: str) -> bool:
    """Whether the name speaks of an answer, without being one that is taken."""
    return any(end in simple(name) for end in ENDS["reference"])


def holds_answers(name: str, value: Any) -> bool:
    """Whether an unread field has a text in it, or is nested and has something under a name that speaks of an answer or of a text."""
    if isinstance(value, str):
        return bool(value.strip())
    inner = value[0] if isinstance(value, list) and value else value
    names = [name, *inner] if isinstance(inner, dict) else [name]
    if not isinstance(value, list | dict) or not value:
        return False
    return any(is_answer(one) or looks_like_answer(one) for one in names) or (
        isinstance(inner, dict) and simple(name) in NESTED and bool(_texts(inner, 0))
    )


NESTED = {"body", "content", "comments", "conversationparts", "posts", "replies"}  # fields that hold texts inside


def _pick(fields: Sequence[str], role: str, taken: set[str]) -> str | None:
    """The field that is the likeliest of a role's names."""
    places = _PLACES[role]
    free = [name for name in fields if name not in taken]
    named = [(places[simple(name)], name) for name in free if simple(name) in places]
    if named:
        return min(named)[1]
    ends = [name for name in free if role in ENDS and simple(name).endswith(ENDS[role])]
    return ends[0] if len(ends) == 1 else None  # `std_answer`; of `left_answer` and `right_answer` nobody knows


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
    turns = _pick(fields, "turns", set())
    if turns is not None and not (turns == "data" and _pick(fields, "question", set())):
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
        name = _pick(fields, role, taken)
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
    joined = [name for name in fields if simple(name) in INPUTS and name not in columns.values()]
    system, history = _pick(fields, "system", taken), _pick(fields, "history", taken)
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
    answer = _pick(fields, "reference", {*parts}) or next(
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
    turns = _pick(rest, "turns", set())
    prompt = turns or _pick(rest, "question", set())
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
    system = _pick(fields, "system", taken)
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


def mapped(row: Json, columns: Mapping[str, str]) -> Json:
    return {
        field: as_context(row[name]) if field == "context" else as_text(row[name]) for field, name in columns.items()
    }


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


def as_context(value: Any) -> str | None:
    """All passages of a context, a paragraph each."""
    if isinstance(value, dict):
        value = next(
            (part for name, part in value.items() if isinstance(part, list) and simple(name) in _PLACES["context"]),
            value,
        )
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    return as_text(value)


def as_question(name: str, value: Any) -> str | None:
    """Raises NotUsable for an object or a list, of which nobody knows what is asked."""
    if isinstance(value, dict | list):
        raise NotUsable(name, "a text is expected")
    return as_text(value)


SAID_AS = ("text", "value", "human_readable")


def as_text(value: Any) -> str | None:
    """Numbers and booleans as text, of a list of answers the first, anything else as JSON; None for nothing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        alone = all(
            isinstance(item, str | int | float) or (isinstance(item, dict) and "text" in item) for item in value
        )
        return None if not value else as_text(value[0]) if alone else _json(value)
    if isinstance(
        value, dict
    ):  # SQuAD: {"text": [...], "answer_start": [...]}; TriviaQA's value, WikiSQL's human_readable
        said = next((value[name] for name in SAID_AS if isinstance(value.get(name), str | list)), None)
        if said is not None:
            return as_text(said)
    return str(value) if isinstance(value, int | float) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
