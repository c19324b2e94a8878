"""The OpenAI Agents SDK, by the responses API (its default) and by chat completions."""

from typing import Literal

import openai
from abilities import MODEL, QUESTION, SHORT, ability, run, told
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

set_tracing_disabled(True)
asked: list[str] = []


def chat(name=MODEL):
    """Each run has an event loop of its own, and so a client."""
    return OpenAIChatCompletionsModel(name, openai.AsyncOpenAI(max_retries=0))


def responses():
    return OpenAIResponsesModel(MODEL, openai.AsyncOpenAI(max_retries=0))


class City(BaseModel):
    city: Literal["Rome", "Oslo"]
    large: bool


@function_tool
def weather(city: Literal["Rome", "Oslo"]) -> str:
    """The weather of a city."""
    asked.append(city)
    return f"It is sunny in {city}."


def agent(model, **settings):
    fields = {name: settings.pop(name) for name in ("tools", "output_type") if name in settings}
    return Agent(
        name="guide", instructions="Be brief.", model=model, model_settings=ModelSettings(**settings), **fields
    )


@ability("chat")
def _():
    told(Runner.run_sync(agent(chat(), max_tokens=SHORT), QUESTION).final_output)


@ability("stream")
def _():
    import asyncio

    async def streamed(model):
        run = Runner.run_streamed(agent(model, max_tokens=SHORT), QUESTION)
        kinds = [event.type async for event in run.stream_events()]
        assert "raw_response_event" in kinds
        told(run.final_output)

    asyncio.run(streamed(chat()))


@ability("schema")
def _():
    assert isinstance(Runner.run_sync(agent(chat(), output_type=City), QUESTION).final_output, City)


@ability("tools: auto")
def _():
    told(Runner.run_sync(agent(chat(), tools=[weather], max_tokens=SHORT), QUESTION, max_turns=4).final_output)


@ability("tools: required")
def _():
    asked.clear()
    told(Runner.run_sync(agent(chat(), tools=[weather], tool_choice="required"), QUESTION, max_turns=4).final_output)
    assert asked


@ability("tools: named")
def _():
    asked.clear()
    told(Runner.run_sync(agent(chat(), tools=[weather], tool_choice="weather"), QUESTION, max_turns=4).final_output)
    assert asked


@ability("responses")
def _():
    # answers that are held to a schema: by this API the SDK takes one that was cut for an error, and a small model may not end
    assert isinstance(Runner.run_sync(agent(responses(), output_type=City), QUESTION).final_output, City)
    asked.clear()
    caller = agent(responses(), tools=[weather], tool_choice="required", output_type=City)
    assert isinstance(Runner.run_sync(caller, QUESTION, max_turns=4).final_output, City)
    assert asked


@ability("errors")
def _():
    try:
        Runner.run_sync(agent(chat("nobody")), QUESTION)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
        return
    raise AssertionError("no NotFoundError")


if __name__ == "__main__":
    run()
