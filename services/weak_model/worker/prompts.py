"""What the student is asked (paper sections 3.1 and 3.2). Pure functions, short texts: small models read them.

What all questions of a job share stands first, so that the engine computes it once and keeps it (prefix caching).

A change here raises the kind's version in shared/contracts/step_kinds.py.
"""

from shared.contracts.conversation import framed
from shared.contracts.json_types import Json
from shared.contracts.rows import StudentPrompt, student_messages

Messages = list[Json]


def guide_messages(domain: str, row: StudentPrompt) -> Messages:
    """Ask for a guideline instead of an answer. A conversation is material here: its transcript stands for the question."""
    return [
        {
            "role": "system",
            "content": (
                f"You are an expert in {domain}. You prepare questions for a stronger expert who answers them. "
                "Do not answer the question you are given. "
                "Write a guideline that helps the stronger expert to answer it precisely: "
                "what is really asked, which facts and steps matter, which mistakes to avoid, "
                "and what a good answer looks like."
            ),
        },
        {"role": "user", "content": f"Question: {row.question}\n\nGuideline:"},
    ]


def answer_messages(row: StudentPrompt) -> Messages:
    """The bare question or the conversation, as in training and chat; worked examples stand before it as earlier turns."""
    system, *asked = student_messages(row)
    turns: Messages = []
    for shot in row.shots:
        if isinstance(shot, list):
            turns += shot
        else:
            question, answer = shot
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [system, *turns, *asked]


def reason_messages(domain: str, row: StudentPrompt) -> Messages:
    """Ask for a rationale and a marked answer; a retry sees its last attempt and the critique of it.

    A conversation stays a conversation: what is asked for beside it stands in its system text, the attempt below the last message.
    Where tools are offered no rationale is asked for: a call is the whole of an answer.
    """
    parts = [] if row.conversation else [f"Question: {row.question}"]
    if row.previous is not None:
        parts.append(f"Your last attempt: {row.previous}")
    if row.critique is not None:
        parts.append(f"A reviewer's advice: {row.critique}\nUse the advice and do better this time.")
    rules = (
        f"You are an expert in {domain}. First think step by step in two or three sentences. "
        'Then start a new line with "Answer:" and write only the final answer after it.'
    )
    if row.conversation is not None:
        return framed(row.conversation, "" if row.conversation.tools else rules, "\n\n".join(parts))
    return [{"role": "system", "content": rules}, {"role": "user", "content": "\n\n".join(parts)}]
