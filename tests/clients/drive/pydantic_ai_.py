"""Pydantic AI: agents with tools and typed results, by the chat and the responses API."""

from typing import Literal

from abilities import KEY, MODEL, QUESTION, SHORT, URL, ability, run, told
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, UsageLimits
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    """A city of the question."""

    city: Literal["Rome", "Oslo"]
    large: bool


provider = OpenAIProvider(base_url=URL, api_key=KEY)
chat, responses = OpenAIChatModel(MODEL, provider=provider), OpenAIResponsesModel(MODEL, provider=provider)
LIMIT = {"max_tokens": SHORT}
FEW = UsageLimits(request_limit=4)


@ability("chat")
def _():
    told(Agent(chat, model_settings=LIMIT).run_sync(QUESTION).output)


@ability("stream")
def _():
    stream = Agent(chat, model_settings=LIMIT).run_stream_sync(QUESTION)
    told(list(stream.stream_text())[-1])


@ability("schema")
def _():
    assert isinstance(Agent(chat, output_type=NativeOutput(City)).run_sync(QUESTION).output, City)


@ability("tools: auto")
def _():
    agent = Agent(chat, model_settings=LIMIT)

    @agent.tool_plain
    def weather(city: Literal["Rome", "Oslo"]) -> str:
        """The weather of a city."""
        return f"It is sunny in {city}."

    told(agent.run_sync(QUESTION, usage_limits=FEW).output)


@ability("tools: required")
def _():
    assert isinstance(Agent(chat, output_type=City).run_sync(QUESTION, usage_limits=FEW).output, City)


@ability("responses")
def _():
    told(Agent(responses, model_settings=LIMIT).run_sync(QUESTION).output)
    assert isinstance(Agent(responses, output_type=City).run_sync(QUESTION, usage_limits=FEW).output, City)
    told(list(Agent(responses, model_settings=LIMIT).run_stream_sync(QUESTION).stream_text())[-1])


@ability("errors")
def _():
    try:
        Agent(OpenAIChatModel("nobody", provider=provider)).run_sync(QUESTION)
    except ModelHTTPError as error:
        assert error.status_code == 404, error
        return
    raise AssertionError("no ModelHTTPError")


if __name__ == "__main__":
    run()
