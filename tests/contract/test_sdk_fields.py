"""Every field that the stock client's own types have: it has its effect, or a header names it, or it is refused in our words.

The types are the installed SDK's, so a field that a new version adds fails here first.
"""

from typing import Any, get_type_hints

import httpx
import pytest
from fastapi.routing import APIRoute
from openai.types import (
    completion_create_params,
    eval_create_params,
    eval_list_params,
    eval_update_params,
    file_create_params,
    file_list_params,
)
from openai.types.chat import ChatCompletionStreamOptionsParam
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.evals import CreateEvalCompletionsRunDataSourceParam, run_create_params, run_list_params
from openai.types.evals import create_eval_completions_run_data_source_param as completions_source
from openai.types.fine_tuning import job_create_params, job_list_params
from openai.types.responses import ResponseTextConfigParam, response_create_params
from openai.types.shared_params import Reasoning

from services.api.app import create_app
from services.api.features.files import upload
from services.api.known_query import query_names
from services.api.settings import ApiSettings
from shared.contracts.evals import CompletionsRun, EvalChange, EvalRequest, RunRequest, RunSampling
from shared.contracts.fine_tuning import FineTuningRequest
from shared.platform.settings import PlatformSettings
from tests.contract.conftest import BASE
from tests.contract.test_bad_input import check
from tests.contract.test_chat_door import ASK, WEATHER
from tests.fakes.vllm import FakeVllm

Table = dict[str, tuple[str, Any]]
"""Field -> (what becomes of it, a value that asks for it)."""

FUNCTION = {"type": "function", "name": "weather", "parameters": {}}
SAMPLING: Table = {
    "temperature": ("sent", 0.5), "top_p": ("sent", 0.5), "presence_penalty": ("sent", 0.5), "frequency_penalty": ("sent", 0.5),
    "logit_bias": ("sent", {"5": 1.0}), "seed": ("sent", 5), "stop": ("sent", "x"), "n": ("sent", 2), "max_tokens": ("sent", 5),
    "stream": ("sent", True), "stream_options": ("sent", {"include_usage": True}), "user": ("ours", "me"), "model": ("ours", BASE),
}  # fmt: skip
CHAT: Table = SAMPLING | {
    "messages": ("sent", ASK), "max_completion_tokens": ("sent", 5), "logprobs": ("sent", True), "top_logprobs": ("sent", 2),
    "response_format": ("sent", {"type": "json_object"}), "tools": ("sent", [WEATHER]), "tool_choice": ("sent", "auto"),
    "parallel_tool_calls": ("sent", False), "functions": ("ours", [WEATHER["function"]]), "function_call": ("ours", "auto"),
    "safety_identifier": ("ours", "me"),
    "metadata": ("named", {"a": "b"}), "moderation": ("named", {"model": "m"}), "modalities": ("named", ["text"]),
    "prediction": ("named", {"type": "content", "content": "x"}), "prompt_cache_key": ("named", "k"),
    "prompt_cache_options": ("named", {"mode": "explicit"}), "prompt_cache_retention": ("named", "24h"),
    "reasoning_effort": ("named", "low"), "service_tier": ("named", "auto"), "store": ("ours", True), "verbosity": ("named", "low"),
    "audio": ("refused", {"voice": "x", "format": "wav"}), "web_search_options": ("refused", {"search_context_size": "low"}),
}  # fmt: skip
COMPLETIONS: Table = SAMPLING | {
    "prompt": ("sent", "Rome is"), "echo": ("sent", True), "logprobs": ("sent", 2), "best_of": ("refused", 3), "suffix": ("refused", "x"),
}  # fmt: skip
RESPONSES: Table = {
    "model": ("ours", BASE), "input": ("ours", "hello"), "instructions": ("ours", "Be brief."), "include": ("ours", []),
    "max_output_tokens": ("ours", 5), "metadata": ("ours", {"a": "b"}), "user": ("ours", "me"), "safety_identifier": ("ours", "me"),
    "text": ("ours", {"format": {"type": "json_object"}}), "tools": ("sent", [FUNCTION]), "tool_choice": ("ours", "auto"),
    "parallel_tool_calls": ("ours", False), "top_logprobs": ("ours", 2), "temperature": ("sent", 0.5), "top_p": ("sent", 0.5),
    "truncation": ("ours", "auto"), "stream": ("sent", True), "stream_options": ("named.include_obfuscation", {"include_obfuscation": True}),
    "reasoning": ("named.effort", {"effort": "low"}),
    "access_programs": ("named", ["x"]), "background_options": ("named", {"completion_window": "2h"}),
    "context_management": ("named", [{"type": "compaction"}]), "image": ("named", {"detail": "low"}), "max_tool_calls": ("named", 3),
    "moderation": ("named", {"model": "m"}), "prompt_cache_key": ("named", "k"), "prompt_cache_options": ("named", {"mode": "explicit"}),
    "prompt_cache_retention": ("named", "24h"), "service_tier": ("named", "auto"), "store": ("named", True),
    "background": ("refused", True), "conversation": ("refused", "conv_1"), "previous_response_id": ("refused", "resp_1"),
    "prompt": ("refused", {"id": "p"}),
}  # fmt: skip
# one level below: part of an object -> what becomes of it, on the route that has the object
PARTS: dict[str, Table] = {
    "reasoning": {
        "effort": ("named", "low"), "summary": ("named", "auto"), "generate_summary": ("named", "auto"), "mode": ("named", "pro"),
        "context": ("named", "auto"),
    },
    "text": {"format": ("ours", {"type": "text"}), "verbosity": ("named", "low")},
}  # fmt: skip
NEEDS: dict[str, dict[str, Any]] = {  # what a field says nothing without
    "n": {"temperature": 1}, "stream_options": {"stream": True}, "top_logprobs": {"logprobs": True}, "tool_choice": {"tools": [WEATHER]},
    "parallel_tool_calls": {"tools": [WEATHER]}, "function_call": {"functions": [WEATHER["function"]]},
}  # fmt: skip
ROUTES: dict[str, tuple[type, Table, dict[str, Any]]] = {
    "/v1/chat/completions": (chat_create_params.CompletionCreateParamsStreaming, CHAT, {"messages": ASK}),
    "/v1/completions": (completion_create_params.CompletionCreateParamsStreaming, COMPLETIONS, {"prompt": "Rome is"}),
    "/v1/responses": (response_create_params.ResponseCreateParamsStreaming, RESPONSES, {"input": "hello"}),
}


def hold(
    http: httpx.Client, engine: FakeVllm, path: str, name: str, case: tuple[str, Any], body: dict[str, Any]
) -> None:
    """A field, or with a dot a part of one, has what the table says."""
    outcome, dot, part = case[0].partition(".")
    answer = http.post(path, json={"model": BASE} | body)
    if outcome == "refused":
        check(answer, 400, "unsupported_parameter", name)
        return
    assert answer.status_code == 200, (name, answer.text)
    named = answer.headers.get("x-meteor-ignored", "").split(", ")
    assert (name + dot + part in named) == (outcome == "named"), (name, named)
    if outcome == "sent":
        assert name in engine.last, name


@pytest.mark.parametrize("path", ROUTES)
def test_each_field_of_the_clients_types_has_an_effect_or_is_named_or_refused(
    http: httpx.Client, engine: FakeVllm, path: str
):
    params, table, least = ROUTES[path]
    assert set(get_type_hints(params)) <= set(table), "the SDK has a field that this table lacks"
    for name, case in table.items():
        needs = {} if path == "/v1/responses" and name != "stream_options" else NEEDS.get(name, {})
        if path == "/v1/responses" and name in ("tool_choice", "parallel_tool_calls"):
            needs = {"tools": [FUNCTION]}
        hold(http, engine, path, name, case, least | needs | {name: case[1]})


def test_each_part_of_the_responses_objects_too(http: httpx.Client, engine: FakeVllm):
    assert set(get_type_hints(Reasoning)) <= set(PARTS["reasoning"])
    assert set(get_type_hints(ResponseTextConfigParam)) <= set(PARTS["text"])
    for field, parts in PARTS.items():
        for part, case in parts.items():
            body = {"input": "hello", field: {part: case[1]}}
            hold(http, engine, "/v1/responses", f"{field}.{part}", case, body)
    body = {"input": "hello", "include": ["reasoning.encrypted_content"]}
    hold(http, engine, "/v1/responses", "include.reasoning.encrypted_content", ("named", None), body)
    assert set(get_type_hints(ChatCompletionStreamOptionsParam)) == {"include_usage", "include_obfuscation"}
    chat = {"messages": ASK, "stream": True, "stream_options": {"include_obfuscation": True}}
    hold(http, engine, "/v1/chat/completions", "stream_options.include_obfuscation", ("named", None), chat)


def test_each_field_of_the_types_of_files_and_jobs_is_ours():
    assert set(get_type_hints(file_create_params.FileCreateParams)) <= set(upload.FIELDS)
    assert set(get_type_hints(file_create_params.ExpiresAfter)) == {"anchor", "seconds"}
    assert set(get_type_hints(job_create_params.JobCreateParams)) <= set(FineTuningRequest.model_fields)
    for params, ours in (
        (eval_create_params.EvalCreateParams, EvalRequest),
        (eval_update_params.EvalUpdateParams, EvalChange),
        (run_create_params.RunCreateParams, RunRequest),
        (CreateEvalCompletionsRunDataSourceParam, CompletionsRun),
        (completions_source.SamplingParams, RunSampling),
    ):
        assert set(get_type_hints(params)) <= set(ours.model_fields), params
    for params, path in (
        (eval_list_params.EvalListParams, "/v1/evals"),
        (run_list_params.RunListParams, "/v1/evals/{eval_id}/runs"),
        (file_list_params.FileListParams, "/v1/files"),
        (job_list_params.JobListParams, "/v1/fine_tuning/jobs"),
    ):
        assert set(get_type_hints(params)) <= set(queries(path))


def queries(path: str) -> list[str]:
    app = create_app(ApiSettings(), PlatformSettings())
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path == path]
    return query_names(next(route for route in routes if "GET" in route.methods))
