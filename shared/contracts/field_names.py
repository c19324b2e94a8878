"""What the name of a field says: which are taken for the question, the answer and the rest of a row."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

RowField = Literal[
    "question", "reference", "rejected", "title", "context", "teacher_context", "category", "group", "source", "id", "split", "messages",
]  # fmt: skip
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


def simple(name: str) -> str:
    """A field's name without case, accents of Latin letters, spaces and punctuation."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    kept = "".join(c for c in folded if not ("\u0300" <= c <= "\u036f"))
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", kept))


def _names(names: Sequence[str]) -> dict[str, int]:
    return {simple(name): place for place, name in reversed(list(enumerate(names)))}


PLACES = {
    "question": _names(QUESTION), "reference": _names(REFERENCE), "context": _names(CONTEXT), "category": _names(CATEGORY),
    "group": _names(GROUP), "id": _names(IDS), "rejected": _names(REJECTED), "turns": _names(TURNS), "system": _names(SYSTEM),
    "history": _names(HISTORY),
}  # fmt: skip
_ABOUT = {simple(name) for name in ABOUT} | PLACES["id"].keys()


def is_about(name: str) -> bool:
    """Whether a field of this name describes the row (a date, a link), so that it holds no answer."""
    return simple(name) in _ABOUT or simple(name).endswith(("id", "url", "date", "at"))


def is_question(name: str) -> bool:
    """Whether a field of this name is taken for the question."""
    return simple(name) in PLACES["question"]


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
    return simple(name) in PLACES["id"]


def is_answer(name: str) -> bool:
    """Whether a field of this name is taken for the answer."""
    return simple(name) in PLACES["reference"]


def likeliest_answer(fields: Sequence[str]) -> str | None:
    """The field that is taken for the answer."""
    return pick(fields, "reference", set()) if any(is_answer(name) for name in fields) else None


def looks_like_answer(name: str) -> bool:
    """Whether the name speaks of an answer, without being one that is taken."""
    return any(end in simple(name) for end in ENDS["reference"])


def _words(name: str) -> list[str]:
    return [simple(word) for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]


def asks(name: str) -> bool:
    """Whether a word of a longer name speaks of a question: "Frage des Kunden"."""
    return any(word in ENDS["question"] for word in _words(name))


def is_numbering(name: str) -> bool:
    """Whether a name ends with a word for a number or an id: "Ticket-Nr."."""
    return any(word in PLACES["id"] for word in _words(name)[-1:])


def pick(fields: Sequence[str], role: str, taken: set[str]) -> str | None:
    """The field that is the likeliest of a role's names."""
    places = PLACES[role]
    free = [name for name in fields if name not in taken]
    named = [(places[simple(name)], name) for name in free if simple(name) in places]
    if named:
        return min(named)[1]
    ends = [name for name in free if role in ENDS and simple(name).endswith(ENDS[role])]
    return ends[0] if len(ends) == 1 else None  # `std_answer`; of `left_answer` and `right_answer` nobody knows
