"""Questions written from passages: what the strong model is asked, how its reply is read, and which questions stay.

A change of the prompts raises the version of StepKind.ASK.
"""

import json
import re

from services.strong_model.worker.reply_text import clean
from shared.contracts.errors import RowRefused
from shared.contracts.imports import AskParams, Passage, Written
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress, run_rows

POINTS_AT_TEXT = re.compile(
    r"\b(?:this|the|above|following|given|provided)\s+(?:passage|text|document|section|excerpt|article|paragraph)\b"
    r"|\baccording to the (?:author|passage|text|document)\b",
    re.IGNORECASE,
)
LONGEST, SHORTEST = 400, 12  # letters of a question
CHECK_TOKENS = 8
YES = re.compile(r"\W*yes\b", re.IGNORECASE)


def ask_messages(params: AskParams, passage: Passage) -> list[dict[str, str]]:
    rules = (
        f"You write examination questions in this field: {params.domain}. Whoever answers them will not see your source. "
        "So a question names what it is about, and never speaks of a passage, a text or an author. Its answer stands in the "
        "source, complete. Reply with a JSON list of strings and nothing else."
    )
    task = f"Source:\n{passage.text}\n\nWrite {params.per_passage} different questions."
    return [{"role": "system", "content": rules}, {"role": "user", "content": task}]


def check_messages(passage: Passage, question: str) -> list[dict[str, str]]:
    rules = "You check questions. Reply with yes or no alone."
    task = (
        f"Source:\n{passage.text}\n\nQuestion: {question}\n\nDoes the source answer the question completely, and can the "
        "question be understood by somebody who does not know the source?"
    )
    return [{"role": "system", "content": rules}, {"role": "user", "content": task}]


def read_questions(reply: str) -> list[str] | None:
    """The strings of the JSON list in a reply, or its lines that end in a question mark; None when there are neither."""
    text = clean(reply)
    start, end = text.find("["), text.rfind("]")
    if 0 <= start < end:
        try:
            items = json.loads(text[start : end + 1])
        except (ValueError, RecursionError):
            items = None
        if isinstance(items, list):
            return [item.strip() for item in items if isinstance(item, str)]
    lines = [re.sub(r"^\s*(?:[-*]|\d+[.)])\s*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line.endswith("?")] or None


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
        except RowRefused as refusal:
            return Written(id=passage.id, questions=[], outcome=refusal.outcome, why=refusal.message)

    written = await run_rows(write, rows, progress)
    return written, {
        "questions": sum(len(item.questions) for item in written),
        "dropped": sum(item.dropped for item in written),
        "unparsed": sum(item.unparsed for item in written),
    }


async def _of_passage(gateway: GatewayClient, params: AskParams, passage: Passage) -> Written:
    async def ask(messages: list[dict[str, str]], max_tokens: int) -> str:
        reply = await gateway.chat(
            model=params.teacher, messages=messages, max_tokens=max_tokens, seed=params.seed, example_id=passage.id
        )
        return reply.text

    questions = read_questions(await ask(ask_messages(params, passage), params.max_tokens))
    if questions is None:
        return Written(id=passage.id, questions=[], unparsed=True)
    candidates = [question for question in dict.fromkeys(questions) if usable(question)][: params.per_passage]
    verdicts = [await ask(check_messages(passage, question), CHECK_TOKENS) for question in candidates]
    confirmed = [question for question, verdict in zip(candidates, verdicts, strict=True) if YES.match(clean(verdict))]
    return Written(id=passage.id, questions=confirmed, dropped=len(questions) - len(confirmed))
