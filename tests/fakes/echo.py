"""A strong model that replies what it is shown: `python -m tests.fakes.echo`, options as tests.fakes.teacher.

As the model of a grader it gives the answer under grading back, so that a case says what the model replies.
"""

from typing import Any

from tests.fakes.openai_server import run

FORM = "\n\nReply with one JSON object"  # what shared/grading/models.py adds behind the grader's last message


def answer(messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    asked = next(str(message["content"]) for message in messages if message["role"] == "user")
    return asked.partition(FORM)[0]


if __name__ == "__main__":
    run(answer, __doc__)
