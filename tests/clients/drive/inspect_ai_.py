"""Inspect: an evaluation of a few samples, with a solver that uses tools, by its provider for APIs like OpenAI's."""

import asyncio
import json
import os
import tempfile
from typing import Literal

from abilities import KEY, MODEL, QUESTION, SHORT, URL, ability, of_schema, run, told
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
from inspect_ai.scorer import includes
from inspect_ai.tool import tool
from inspect_ai.util import json_schema
from pydantic import BaseModel

os.environ |= {"METEOR_API_KEY": KEY, "METEOR_BASE_URL": URL, "INSPECT_DISPLAY": "none"}
NAME = f"openai-api/meteor/{MODEL}"


class City(BaseModel):
    city: Literal["Rome", "Oslo"]
    large: bool


@tool
def weather():
    async def execute(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        return "sun"

    return execute


def generated(name=NAME, tools=(), tool_choice=None, **config):
    async def asked():
        model = get_model(name, config=GenerateConfig(max_retries=0, **config), memoize=False)
        return await model.generate(QUESTION, tools=list(tools), tool_choice=tool_choice)

    return asyncio.run(asked())


@ability("chat")
def _():
    told(generated(max_tokens=SHORT).completion)
    samples = [Sample(input=QUESTION, target="Rome"), Sample(input="What is 2 plus 2?", target="4")]
    (log,) = eval(
        Task(dataset=samples, scorer=includes()),
        model=NAME,
        max_tokens=SHORT,
        seed=1,
        log_dir=tempfile.mkdtemp(),
        display="none",
    )
    assert log.status == "success", log.error
    assert len(log.samples) == 2


@ability("schema")
def _():
    schema = ResponseSchema(name="city", json_schema=json_schema(City))
    of_schema(json.loads(generated(response_schema=schema, max_tokens=200).completion))


@ability("tools: auto")
def _():
    message = generated(tools=[weather()], max_tokens=SHORT).choices[0].message
    assert message.text or message.tool_calls


@ability("tools: required")
def _():
    message = generated(tools=[weather()], tool_choice="any", max_tokens=200).choices[0].message
    assert message.tool_calls[0].function == "weather"


@ability("errors")
def _():
    try:
        generated("openai-api/meteor/nobody")
    except Exception as error:
        assert "nobody" in str(error), error
        return
    raise AssertionError("no error")


if __name__ == "__main__":
    run()
