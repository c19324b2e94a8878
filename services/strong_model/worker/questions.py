"""Questions written from passages: what the strong model is asked, and which questions stay.

A change of the prompts raises the version of StepKind.ASK.
"""

import re

from services.strong_model.worker.question_lists import read_questions, unread, usable
from services.strong_model.worker.reply_text import clean
from shared.contracts.errors import RowRefused
from shared.contracts.imports import AskParams, Passage, Written
from shared.platform.gateway_client import ChatReply, GatewayClient
from shared.platform.run_rows import OnProgress, run_rows

CHECK_TOKENS = 8
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
        return Written(id=passage.id, questions=[], unparsed=True, why=unread(reply.text, cut_off))
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
