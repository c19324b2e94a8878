"""instructor: answers as Pydantic models, in each of the ways that it has for OpenAI's API."""

from typing import Literal

import instructor
import openai
from abilities import MODEL, QUESTION, ability, run
from pydantic import BaseModel

ASK = [{"role": "user", "content": QUESTION}]


class City(BaseModel):
    """A city of the question."""

    city: Literal["Rome", "Oslo"]
    large: bool


def client(mode):
    return instructor.from_openai(openai.OpenAI(max_retries=0), mode=mode)


def made(mode):
    city = client(mode).chat.completions.create(model=MODEL, messages=ASK, response_model=City, max_retries=1)
    assert isinstance(city, City)


@ability("schema")
def _():
    made(instructor.Mode.JSON_SCHEMA)


@ability("stream")
def _():
    parts = client(instructor.Mode.TOOLS).chat.completions.create_partial(
        model=MODEL, messages=ASK, response_model=City, max_retries=1
    )
    assert list(parts)[-1].city in ("Rome", "Oslo")


@ability("tools: named")
def _():
    made(instructor.Mode.TOOLS)


@ability("tools: required")
def _():
    made(instructor.Mode.TOOLS_STRICT)


@ability("responses")
def _():
    responses = client(instructor.Mode.RESPONSES_TOOLS).responses
    city = responses.create(model=MODEL, input=QUESTION, response_model=City, max_retries=1)
    assert isinstance(city, City)


if __name__ == "__main__":
    run()
