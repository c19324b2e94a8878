"""litellm: one call for many providers; half the frameworks use it."""

import json

import litellm
from abilities import CITY_SCHEMA, KEY, MODEL, QUESTION, ROWS, SHORT, URL, ability, of_schema, run, told

litellm.suppress_debug_info = True
OURS = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY, "num_retries": 0}
ASK = [{"role": "user", "content": QUESTION}]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY_SCHEMA}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA, "strict": True}}
FILES = {"custom_llm_provider": "openai", "api_base": URL, "api_key": KEY}


@ability("chat")
def _():
    told(litellm.completion(**OURS, messages=ASK, max_tokens=SHORT).choices[0].message.content)


@ability("stream")
def _():
    stream = litellm.completion(
        **OURS, messages=ASK, max_tokens=SHORT, stream=True, stream_options={"include_usage": True}
    )
    told("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))


@ability("schema")
def _():
    answer = litellm.completion(**OURS, messages=ASK, response_format=SCHEMA)
    of_schema(json.loads(answer.choices[0].message.content))


@ability("tools: auto")
def _():
    message = litellm.completion(**OURS, messages=ASK, tools=TOOLS, max_tokens=SHORT).choices[0].message
    assert message.content or message.tool_calls


@ability("tools: required")
def _():
    message = litellm.completion(**OURS, messages=ASK, tools=TOOLS, tool_choice="required").choices[0].message
    of_schema(json.loads(message.tool_calls[0].function.arguments))


@ability("tools: named")
def _():
    choice = {"type": "function", "function": {"name": "weather"}}
    message = litellm.completion(**OURS, messages=ASK, tools=TOOLS, tool_choice=choice).choices[0].message
    of_schema(json.loads(message.tool_calls[0].function.arguments))


@ability("responses")
def _():
    answer = litellm.responses(**OURS, input=QUESTION, max_output_tokens=SHORT)
    told(answer.output[0].content[0].text)
    events = litellm.responses(**OURS, input=QUESTION, max_output_tokens=SHORT, stream=True)
    assert [event.type for event in events][-1] in ("response.completed", "response.incomplete")


@ability("files")
def _():
    with open(ROWS, "rb") as rows:
        made = litellm.create_file(file=rows, purpose="fine-tune", **FILES)
    assert litellm.file_retrieve(made.id, **FILES).id == made.id
    assert made.id in [file.id for file in litellm.file_list(**FILES)]
    assert litellm.file_delete(made.id, **FILES).deleted


@ability("fine-tuning")
def _():
    with open(ROWS, "rb") as rows:
        file = litellm.create_file(file=rows, purpose="fine-tune", **FILES)
    made = litellm.create_fine_tuning_job(model=MODEL, training_file=file.id, hyperparameters={"n_epochs": 1}, **FILES)
    try:
        assert made.id in [job.id for job in litellm.list_fine_tuning_jobs(limit=5, **FILES)]
        assert litellm.retrieve_fine_tuning_job(made.id, **FILES).id == made.id
    finally:
        litellm.cancel_fine_tuning_job(made.id, **FILES)


@ability("errors")
def _():
    try:
        litellm.completion(**OURS | {"model": "openai/nobody"}, messages=ASK)
    except litellm.NotFoundError as error:
        assert "nobody" in str(error)
    else:
        raise AssertionError("no NotFoundError")
    long = [{"role": "user", "content": "word " * 100_000}]
    try:
        litellm.completion(**OURS, messages=long)
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("no ContextWindowExceededError")


if __name__ == "__main__":
    run()
