"""Questions written from passages: what the strong model is asked, how its reply is read, and which questions stay.

A change of the prompts raises the version of StepKind.ASK.
"""

import re
from typing import Any

from services.strong_model.worker.reply_text import clean
from shared.contracts import loose_json
from shared.contracts.errors import RowRefused
from shared.contracts.imports import AskParams, Passage, Written
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import OnProgress, run_rows

POINTS_AT_TEXT = re.compile(
    r"\b(?:this|the|above|following|given|provided)\s+(?:passage|text|document|section|excerpt|article|paragraph)\b"
    r"|\baccording to the (?:author|passage|text|document)\b",
    re.IGNORECASE,
)
LONGEST, SHORTEST = 400, 12  # letters of a question
CHECK_TOKENS = 8
_NUMBERED = re.compile(r"^\s*(?:[-*\u2022]|(?:Q(?:uestion)?\s*)?\d+[.):])\s*", re.IGNORECASE)
YES_OR_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def ask_messages(params: AskParams, passage: Passage) -> list[dict[str, str]]:
    rules = (
        f"You write examination questions in this field: {params.domain}. Whoever answers them will not see your source. "
        "So a question names what it is about, and never speaks of a passage, a text or an author. Its answer stands in the "
        "source, complete. Reply with a JSON list of strings and nothing else."
    )
    task = f"Source:\n{passage.shown}\n\nWrite {params.per_passage} different questions."
    return [{"role": "system", "content": rules}, {"role": "user", "content": task}]


def check_messages(passage: Passage, question: str) -> list[dict[str, str]]:
    rules = "You check questions. Reply with yes or no alone."
    task = (
        f"Source:\n{passage.shown}\n\nQuestion: {question}\n\nDoes the source answer the question completely, and can the "
        "question be understood by somebody who does not know the source?"
    )
    return [{"role": "system", "content": rules}, {"role": "user", "content": task}]


def read_questions(reply: str, cut_off: bool = False) -> list[str] | None:
    """The questions of the last list in a reply, or its lines that end in a question mark; None when there are neither.

    cut_off: the reply ended at its token limit, so what it ended in counts only if it is a whole question.
    """
    for value in reversed(loose_json.values(reply, "[", cut_off)):
        questions = [text for item in _items(value) if (text := _question(item))]
        if cut_off and questions and not questions[-1].endswith("?"):
            questions.pop()
        if questions:
            return questions
    lines = [_NUMBERED.sub("", line).strip(' *\t"') for line in loose_json.without_reasoning(reply).splitlines()]
    return [line for line in lines if line.endswith("?")] or None


def _items(value: Any) -> list[Any]:
    """A list as it is; of an object the first list in it."""
    if isinstance(value, dict):
        value = next((part for part in value.values() if isinstance(part, list)), [])
    return value if isinstance(value, list) else []


def _question(item: Any) -> str:
    """A string, or the first one of an object such as {"question": "..."}."""
    if isinstance(item, dict):
        item = item.get("question") or next((part for part in item.values() if isinstance(part, str)), "")
    return item.strip() if isinstance(item, str) else ""


def usable(question: str) -> bool:
    """Whether the question can be asked without the passage."""
    return SHORTEST <= len(question) <= LONGEST and not POINTS_AT_TEXT.search(question)


async def write_questions(
    gateway: GatewayClient, params: AskParams, rows: list[Passage], progress: OnProgress
) -> tuple[list[Written], dict[str, int]]:
    """Questions in the order of the passages, and counts. Raises what GatewayClient.chat raises."""

    async def write(passage: Passage) -> Written:
        try:
            return await _of_passage(gateway, params, passage)
        except RowRefused:
            return Written(id=passage.id, questions=[])

    written = await run_rows(write, rows, progress)
    return written, {
        "questions": sum(len(item.questions) for item in written),
        "dropped": sum(item.dropped for item in written),
        "unparsed": sum(item.unparsed for item in written),
    }


async def _of_passage(gateway: GatewayClient, params: AskParams, passage: Passage) -> Written:
    async def ask(messages: list[dict[str, str]], max_tokens: int) -> ChatReply:
        return await gateway.chat(
            model=params.teacher, messages=messages, max_tokens=max_tokens, seed=params.seed, example_id=passage.id
        )

    reply = await ask(ask_messages(params, passage), params.max_tokens)
    cut_off = reply.finish_reason == "length"
    questions = read_questions(reply.text, cut_off)
    if questions is None:
        why = "cut_off" if cut_off else "unreadable" if loose_json.without_reasoning(reply.text) else "empty"
        return Written(id=passage.id, questions=[], unparsed=True, why=why)
    candidates = [question for question in dict.fromkeys(questions) if usable(question)][: params.per_passage]
    verdicts = [(await ask(check_messages(passage, question), CHECK_TOKENS)).text for question in candidates]
    answers = [YES_OR_NO.match(clean(verdict)) for verdict in verdicts]
    confirmed = [
        question
        for question, answer in zip(candidates, answers, strict=True)
        if answer and answer.group(1).lower() == "yes"
    ]
    return Written(
        id=passage.id,
        questions=confirmed,
        dropped=len(questions) - len(confirmed),
        unchecked=sum(answer is None for answer in answers),
    )
