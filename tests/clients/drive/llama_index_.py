"""LlamaIndex: its OpenAILike model."""

from typing import Literal

from abilities import KEY, MODEL, QUESTION, SHORT, URL, ability, of_schema, run, told
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    """A city of the question."""

    city: Literal["Rome", "Oslo"]
    large: bool


def weather(city: Literal["Rome", "Oslo"], large: bool) -> str:
    """The weather of a city."""
    return f"It is sunny in {city}."


OURS = {
    "model": MODEL,
    "api_base": URL,
    "api_key": KEY,
    "max_retries": 0,
    "is_chat_model": True,
    "context_window": 2048,
}
model = OpenAILike(**OURS, max_tokens=SHORT, is_function_calling_model=True)
unlimited = OpenAILike(**OURS, is_function_calling_model=True)
TOOL = FunctionTool.from_defaults(weather)
ASK = [ChatMessage(role="user", content=QUESTION)]


@ability("chat")
def _():
    told(model.chat(ASK).message.content)
    told(model.complete("Rome is").text)


@ability("stream")
def _():
    told("".join(part.delta or "" for part in model.stream_chat(ASK)))


@ability("schema")
def _():
    assert isinstance(unlimited.structured_predict(City, PromptTemplate(QUESTION)), City)
    guided = OpenAILike(**OURS, is_function_calling_model=False, should_use_structured_outputs=True)
    assert isinstance(guided.structured_predict(City, PromptTemplate(QUESTION)), City)


@ability("tools: auto")
def _():
    assert model.chat_with_tools([TOOL], chat_history=ASK).message is not None


@ability("tools: required")
def _():
    answer = unlimited.chat_with_tools([TOOL], chat_history=ASK, tool_required=True)
    (call,) = unlimited.get_tool_calls_from_response(answer)
    of_schema(call.tool_kwargs)


@ability("tools: named")
def _():
    answer = unlimited.chat_with_tools([TOOL], chat_history=ASK, tool_choice="weather")
    (call,) = unlimited.get_tool_calls_from_response(answer)
    of_schema(call.tool_kwargs)


@ability("errors")
def _():
    import openai

    try:
        OpenAILike(**OURS | {"model": "nobody"}).chat(ASK)
    except openai.NotFoundError as error:
        assert "nobody" in str(error)
        return
    raise AssertionError("no NotFoundError")


if __name__ == "__main__":
    run()
