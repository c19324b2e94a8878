"""Servers that people run themselves."""

from typing import Any

from tests.fakes.providers.manners import (
    FLAGGED,
    LONG,
    Asked,
    Body,
    Manners,
    Thinking,
    error,
    given,
    has_role,
    is_set,
    raw,
    roles_repeat,
    says,
    text,
    when,
)


def _vllm(message: str) -> Any:
    return raw(400, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})


def _lm_studio_strings(completion: Body, asked: Asked) -> Body:
    usage = completion["usage"]
    completion["usage"] = {name: str(value) for name, value in usage.items() if isinstance(value, int)}
    return completion


def _tgi(asked: Asked) -> Any:
    message = f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 200. Given: 40 `inputs` tokens and {asked.room} `max_new_tokens`"
    return raw(422, {"error": message, "error_type": "validation"})


def _sglang_effort(asked: Asked) -> Any:
    message = "1 validation error: {'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", 'input': 'minimal'}"
    return raw(400, {"object": "error", "message": message, "type": "Bad Request", "param": None, "code": 400})


def _matched(completion: Body, asked: Asked) -> Body:
    completion["choices"][0]["finish_reason"] = {"type": completion["choices"][0]["finish_reason"], "matched": 2}
    return completion


SERVERS: dict[str, Manners] = {
    "ollama": Manners(
        (when(given("logprobs"), lambda _: error(400, "logprobs are not supported")),),
        Thinking(tokens=700, into="reasoning", counted=False),
    ),
    "lm-studio": Manners(
        (
            when(
                lambda asked: asked.format == "json_object",
                lambda _: raw(400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}),
            ),
        ),
        Thinking(tokens=45, into="content", counted=False),
        _lm_studio_strings,
    ),
    "gemma": Manners(
        (
            when(has_role("system"), lambda _: _vllm("System role not supported")),
            when(roles_repeat, lambda _: _vllm("Conversation roles must alternate user/assistant/user/assistant/...")),
        )
    ),
    "vllm-reasoning": Manners(
        (
            when(
                lambda asked: asked.room > 4096 and asked.room != 100_000,
                lambda asked: _vllm(
                    f"'max_tokens' or 'max_completion_tokens' is too large: {asked.room}. This model's maximum context length "
                    f"is 4096 tokens and your request has 96 input tokens ({asked.room} > 4096 - 96)."
                ),
            ),
        ),
        Thinking(tokens=900, into="content", opener="", counted=False),
    ),
    "fastapi": Manners(
        (
            when(
                given("stream_options"),
                lambda _: raw(
                    422,
                    {
                        "detail": [
                            {
                                "loc": ["body", "stream_options"],
                                "msg": "extra fields not permitted",
                                "type": "value_error.extra",
                            }
                        ]
                    },
                ),
            ),
            when(given("top_p"), lambda _: raw(400, {"detail": "top_p is not supported by this server"})),
            when(
                says(LONG), lambda _: text(400, "the prompt does not fit: it exceeds the context window of 2048 tokens")
            ),
        ),
    ),
    "tgi": Manners(
        (
            when(
                is_set("temperature", 0.01),
                lambda _: raw(
                    422,
                    {
                        "error": "Input validation error: `temperature` must be strictly positive",
                        "error_type": "validation",
                    },
                ),
            ),
            when(lambda asked: asked.room + 40 > 200, _tgi),
            when(
                lambda asked: asked.format is not None,
                lambda _: raw(422, {"error": "Tool error: Grammar is not supported", "error_type": "validation"}),
            ),
        ),
        finish={"stop": "eos_token"},
    ),
    "llama-cpp": Manners(
        (
            when(
                has_role("system"),
                lambda _: error(500, "Only user and assistant roles are supported, got system. at row 12, column 30"),
            ),
            when(
                lambda asked: asked.format == "json_schema",
                lambda _: error(400, "Failed to initialize samplers: failed to parse grammar"),
            ),
            when(says(LONG), lambda _: error(500, "Context size has been exceeded.", type="server_error")),
            when(says(FLAGGED), lambda _: raw(400, {"error": "Model unloaded."})),
        ),
        Thinking(tokens=20),
    ),
    "sglang": Manners(
        (when(lambda asked: asked.body.get("reasoning_effort") == "minimal", _sglang_effort),),
        Thinking(tokens=30, into="content", opener="", counted=False),
        _matched,
    ),
}
