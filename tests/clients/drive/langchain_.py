"""LangChain: langchain-openai's chat model, and an agent."""

from typing import Literal

from abilities import MODEL, QUESTION, SHORT, ability, of_schema, run, told
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class City(BaseModel):
    """A city of the question."""

    city: Literal["Rome", "Oslo"]
    large: bool


@tool
def weather(city: Literal["Rome", "Oslo"], large: bool) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


model = ChatOpenAI(model=MODEL, max_retries=0, max_completion_tokens=SHORT)
unlimited = ChatOpenAI(model=MODEL, max_retries=0)


@ability("chat")
def _():
    told(model.invoke(QUESTION).content)
    assert len(model.batch([QUESTION, "And in Oslo?"])) == 2


@ability("stream")
def _():
    told("".join(chunk.content for chunk in model.stream(QUESTION, stream_usage=True)))


@ability("schema")
def _():
    for method in ("json_schema", "function_calling"):
        assert isinstance(unlimited.with_structured_output(City, method=method).invoke(QUESTION), City)
    assert isinstance(list(unlimited.with_structured_output(City).stream(QUESTION))[-1], City)


@ability("tools: auto")
def _():
    message = model.bind_tools([weather]).invoke(QUESTION)
    assert message.content or message.tool_calls
    state = create_agent(model, [weather]).invoke({"messages": [("user", QUESTION)]}, {"recursion_limit": 8})
    assert len(state["messages"]) >= 2


@ability("tools: required")
def _():
    (call,) = unlimited.bind_tools([weather], tool_choice="required").invoke(QUESTION).tool_calls
    of_schema(call["args"])
    whole = None
    for chunk in unlimited.bind_tools([weather], tool_choice="any").stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    of_schema(whole.tool_calls[0]["args"])


@ability("tools: named")
def _():
    (call,) = unlimited.bind_tools([weather], tool_choice="weather").invoke(QUESTION).tool_calls
    of_schema(call["args"])
    structured = create_agent(unlimited, [], response_format=City).invoke({"messages": [("user", QUESTION)]})
    assert isinstance(structured["structured_response"], City)


@ability("responses")
def _():
    responses = ChatOpenAI(model=MODEL, max_retries=0, use_responses_api=True, max_completion_tokens=SHORT)
    told(responses.invoke(QUESTION).text)
    told("".join(chunk.text for chunk in responses.stream(QUESTION)))
    whole = ChatOpenAI(model=MODEL, max_retries=0, use_responses_api=True)
    assert isinstance(whole.with_structured_output(City).invoke(QUESTION), City)
    (call,) = whole.bind_tools([weather], tool_choice="required").invoke(QUESTION).tool_calls
    of_schema(call["args"])


@ability("errors")
def _():
    import openai

    try:
        ChatOpenAI(model="nobody", max_retries=0).invoke(QUESTION)
    except openai.NotFoundError as error:
        assert "nobody" in str(error)
        return
    raise AssertionError("no NotFoundError")


if __name__ == "__main__":
    run()
