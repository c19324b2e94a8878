"""Haystack: its generators for OpenAI's chat and responses API."""

from typing import Literal

import openai
from abilities import MODEL, QUESTION, SHORT, URL, ability, of_schema, run, told
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from pydantic import BaseModel


class City(BaseModel):
    """A city of the question."""

    city: Literal["Rome", "Oslo"]
    large: bool


def weather(city: Literal["Rome", "Oslo"], large: bool) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


OURS = {"model": MODEL, "api_base_url": URL, "max_retries": 0}
ASK = [ChatMessage.from_user(QUESTION)]
TOOL = create_tool_from_function(weather)


def asked(kind=OpenAIChatGenerator, ask=ASK, tools=None, callback=None, **settings):
    generator = kind(**OURS, generation_kwargs=settings, tools=tools, streaming_callback=callback)
    return generator.run(ask)["replies"][0]


@ability("chat")
def _():
    told(asked(max_completion_tokens=SHORT).text)


@ability("stream")
def _():
    parts = []
    asked(max_completion_tokens=SHORT, callback=lambda chunk: parts.append(chunk.content))
    told("".join(parts))


@ability("schema")
def _():
    of_schema(City.model_validate_json(asked(response_format=City).text).model_dump())


@ability("tools: auto")
def _():
    reply = asked(tools=[TOOL], max_completion_tokens=SHORT)
    assert reply.text or reply.tool_calls


@ability("tools: required")
def _():
    reply = asked(tools=[TOOL], tool_choice="required")
    of_schema(reply.tool_calls[0].arguments)
    result = ChatMessage.from_tool(tool_result="sun", origin=reply.tool_calls[0])
    told(asked(ask=[*ASK, reply, result], max_completion_tokens=SHORT).text)
    parts = []
    of_schema(asked(tools=[TOOL], tool_choice="required", callback=parts.append).tool_calls[0].arguments)


@ability("tools: named")
def _():
    choice = {"type": "function", "function": {"name": "weather"}}
    of_schema(asked(tools=[TOOL], tool_choice=choice).tool_calls[0].arguments)


@ability("responses")
def _():
    told(asked(OpenAIResponsesChatGenerator, max_output_tokens=SHORT).text)
    reply = asked(OpenAIResponsesChatGenerator, tools=[TOOL], tool_choice="required")
    of_schema(reply.tool_calls[0].arguments)


@ability("errors")
def _():
    try:
        OpenAIChatGenerator(**OURS | {"model": "nobody"}).run(ASK)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
        return
    raise AssertionError("no NotFoundError")


if __name__ == "__main__":
    run()
