"""What the student is asked (paper sections 3.1 and 3.2). Pure functions, short texts: small models read them.

What all questions of a job share stands first, so that the engine computes it once and keeps it (prefix caching).

A change here raises the kind's version in shared/contracts/step_kinds.py.
"""

from shared.contracts.answer_format import student_messages
from shared.contracts.rows import StudentPrompt

Messages = list[dict[str, str]]


def guide_messages(domain: str, row: StudentPrompt) -> Messages:
    """Ask for a guideline instead of an answer."""
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
    """The bare question, as in training and chat; worked examples stand before it as earlier turns."""
    system, question = student_messages(row.question)
    turns: Messages = []
    for shot_question, shot_answer in row.shots:
        turns.append({"role": "user", "content": shot_question})
        turns.append({"role": "assistant", "content": shot_answer})
    return [system, *turns, question]


def reason_messages(domain: str, row: StudentPrompt) -> Messages:
    """Ask for a rationale and a marked answer; a retry sees its last attempt and the critique of it."""
    parts = [f"Question: {row.question}"]
    if row.previous is not None:
        parts.append(f"Your last attempt: {row.previous}")
    if row.critique is not None:
        parts.append(f"A reviewer's advice: {row.critique}\nUse the advice and do better this time.")
    return [
        {
            "role": "system",
            "content": (
                f"You are an expert in {domain}. First think step by step in two or three sentences. "
                'Then start a new line with "Answer:" and write only the final answer after it.'
            ),
        },
        {"role": "user", "content": "\n\n".join(parts)},
    ]
