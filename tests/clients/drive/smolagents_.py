"""smolagents: agents that write code or call tools."""

import json

import openai
from abilities import CITY_SCHEMA, KEY, MODEL, QUESTION, SHORT, URL, ability, of_schema, run, told
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

OURS = {"model_id": MODEL, "api_base": URL, "api_key": KEY, "client_kwargs": {"max_retries": 0}}
ASK = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
asked: list[str] = []


@tool
def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    asked.append(city)
    return "sun"


@ability("chat")
def _():
    told(OpenAIServerModel(**OURS, max_tokens=SHORT).generate(ASK).content)
    OpenAIServerModel(**OURS, max_tokens=SHORT).generate(ASK, stop_sequences=["Observation:", "<end_code>"])


@ability("stream")
def _():
    parts = OpenAIServerModel(**OURS, max_tokens=SHORT).generate_stream(ASK)
    told("".join(part.content or "" for part in parts))


@ability("schema")
def _():
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA, "strict": True}}
    of_schema(json.loads(OpenAIServerModel(**OURS).generate(ASK, response_format=form).content))


@ability("tools: required")
def _():
    message = OpenAIServerModel(**OURS).generate(ASK, tools_to_call_from=[weather])
    assert message.tool_calls[0].function.name == "weather"
    agent = ToolCallingAgent(tools=[weather], model=OpenAIServerModel(**OURS), max_steps=2, verbosity_level=0)
    told(str(agent.run(QUESTION)))  # it chooses among the tool and its own final_answer


@ability("errors")
def _():
    try:
        OpenAIServerModel(**OURS | {"model_id": "nobody"}).generate(ASK)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
        return
    raise AssertionError("no NotFoundError")


if __name__ == "__main__":
    run()
