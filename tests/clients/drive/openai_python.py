"""openai-python: OpenAI's own client."""

import json
from typing import Literal

import openai
from abilities import CITY_SCHEMA, MODEL, QUESTION, ROWS, SHORT, ability, of_schema, run, told
from pydantic import BaseModel

client = openai.OpenAI(max_retries=0)
ASK = [{"role": "user", "content": QUESTION}]
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY_SCHEMA}},
    {"type": "function", "function": {"name": "clock", "description": "The time."}},
]


class City(BaseModel):
    city: Literal["Rome", "Oslo"]
    large: bool


def called(message, name=None):
    """The function that a message calls, whose arguments are of its schema."""
    (call,) = message.tool_calls
    assert call.function.name in (("weather", "clock") if name is None else (name,)), call
    arguments = json.loads(call.function.arguments)
    if call.function.name == "weather":
        of_schema(arguments)
    return call


@ability("models")
def _():
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


@ability("chat")
def _():
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_completion_tokens=SHORT)
    told(answer.choices[0].message.content)
    assert answer.usage.completion_tokens > 0
    told(client.completions.create(model=MODEL, prompt="Rome is", max_tokens=SHORT).choices[0].text)


@ability("stream")
def _():
    with client.chat.completions.stream(model=MODEL, messages=ASK, max_completion_tokens=SHORT) as stream:
        parts = [event.delta for event in stream if event.type == "content.delta"]
    told("".join(parts))
    usage = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=SHORT, stream=True, stream_options={"include_usage": True}
    )
    assert [chunk.usage for chunk in usage][-1].total_tokens > 0


@ability("schema")
def _():
    parsed = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=City)
    assert parsed.choices[0].message.parsed.city in ("Rome", "Oslo")
    with client.chat.completions.stream(model=MODEL, messages=ASK, response_format=City) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed.city in ("Rome", "Oslo")
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, response_format={"type": "json_object"}, max_tokens=SHORT
    )
    told(answer.choices[0].message.content)


@ability("tools: auto")
def _():
    asked = {"model": MODEL, "messages": ASK, "tools": TOOLS, "max_tokens": SHORT}
    message = client.chat.completions.create(**asked).choices[0].message
    assert message.content or message.tool_calls
    assert list(client.chat.completions.create(**asked, stream=True, parallel_tool_calls=False))


@ability("tools: required")
def _():
    asked = {"model": MODEL, "messages": ASK, "tools": TOOLS, "tool_choice": "required"}
    call = called(client.chat.completions.create(**asked).choices[0].message)
    with client.chat.completions.stream(**asked) as stream:
        called(stream.get_final_completion().choices[0].message)
    turn = [{"role": "assistant", "tool_calls": [call.model_dump()]}]
    result = [{"role": "tool", "tool_call_id": call.id, "content": "sun"}]
    answer = client.chat.completions.create(
        model=MODEL, messages=[*ASK, *turn, *result], tools=TOOLS, max_tokens=SHORT, tool_choice="none"
    )
    told(answer.choices[0].message.content)


@ability("tools: named")
def _():
    choice = {"type": "function", "function": {"name": "weather"}}
    asked = {"model": MODEL, "messages": ASK, "tools": TOOLS, "tool_choice": choice}
    called(client.chat.completions.create(**asked).choices[0].message, "weather")


@ability("responses")
def _():
    told(client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=SHORT).output_text)
    with client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=SHORT) as stream:
        *_, last = stream
    assert last.type in ("response.completed", "response.incomplete"), last  # get_final_response refuses a cut answer
    told(last.response.output_text)
    assert client.responses.parse(model=MODEL, input=QUESTION, text_format=City).output_parsed.city in ("Rome", "Oslo")
    tools = [{"type": "function", "name": "weather", "parameters": CITY_SCHEMA, "strict": True}]
    response = client.responses.create(model=MODEL, input=QUESTION, tools=tools, tool_choice="required")
    (call,) = response.output
    of_schema(json.loads(call.arguments))
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    told(
        client.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": QUESTION}, call.model_dump(), output],
            max_output_tokens=SHORT,
        ).output_text
    )


def upload():
    with open(ROWS, "rb") as rows:
        return client.files.create(file=rows, purpose="fine-tune")


@ability("files")
def _():
    made = upload()
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert made.id in [file.id for file in client.files.list(purpose="fine-tune", order="desc", limit=10)]
    assert client.files.content(made.id).read().startswith(b"{")
    assert client.files.delete(made.id).deleted
    kept = client.files.create(
        file=("a.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert kept.expires_at == kept.created_at + 3600


@ability("fine-tuning")
def _():
    jobs = client.fine_tuning.jobs
    file = upload()
    made = jobs.create(
        model=MODEL,
        training_file=file.id,
        suffix="clients",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        metadata={"of": "clients"},
    )
    try:
        assert made.status in ("validating_files", "queued", "running")
        assert made.id in [job.id for job in jobs.list(metadata={"of": "clients"})]
        assert list(jobs.list_events(made.id))[-1].object == "fine_tuning.job.event"
        assert list(jobs.checkpoints.list(made.id)) == []
        paused = jobs.pause(made.id).status
        assert paused in ("running", "paused"), paused  # one that runs is paused a moment later
        if paused == "paused":
            assert jobs.resume(made.id).status in ("queued", "running")
    finally:
        assert jobs.cancel(made.id).status in ("cancelling", "cancelled")


@ability("errors")
def _():
    cases = [
        (openai.NotFoundError, lambda: client.models.retrieve("nobody")),
        (openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=ASK)),
        (openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=[])),
        (openai.NotFoundError, lambda: client.embeddings.create(model=MODEL, input="x")),
        (openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list()),
    ]
    for kind, fails in cases:
        try:
            fails()
        except openai.APIStatusError as error:
            assert type(error) is kind, error
            assert error.code, error
        else:
            raise AssertionError(f"no {kind.__name__}")


if __name__ == "__main__":
    run()
