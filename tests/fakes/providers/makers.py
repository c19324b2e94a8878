"""Makers of models whose API is compatible with OpenAI's beside one of their own."""

from typing import Any

from tests.fakes.providers.manners import (
    FLAGGED,
    LONG,
    Asked,
    Body,
    Manners,
    Thinking,
    empty_assistant,
    error,
    first_of,
    given,
    is_set,
    raw,
    roles_repeat,
    says,
    when,
)


def _google(status: int, message: str, state: str, **more: Any) -> Any:
    return raw(status, [{"error": {"code": status, "message": message, "status": state} | more}])


def _google_unknown(asked: Asked) -> Any:
    name = first_of(asked, "seed", "logprobs")
    message = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    violation = {"description": message}
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
    return _google(400, message, "INVALID_ARGUMENT", details=details)


def _google_shape(completion: Body, asked: Asked) -> Body:
    if asked.says(FLAGGED):
        return completion | {"choices": None, "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    return completion


def _mistral_extra(asked: Asked) -> Any:
    detail = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}
    return raw(422, {"object": "error", "message": {"detail": [detail]}, "type": "invalid_request_error", "code": None})


def _parts(completion: Body, asked: Asked) -> Body:
    """Magistral's form: content as a list of parts, reasoning among them."""
    choice = completion["choices"][0]
    thoughts = [{"type": "text", "text": choice["message"].pop("reasoning_content", "")}]
    answer = {"type": "text", "text": choice["message"]["content"]}
    choice["message"]["content"] = [{"type": "thinking", "thinking": thoughts}, answer]
    return completion


def _deepseek_format(asked: Asked) -> bool:
    return asked.format == "json_object" and not asked.says("JSON")


def _camel(asked: Asked) -> Any:
    name = first_of(asked, "seed", "top_p", "reasoning_effort")
    written = {"seed": "seed", "top_p": "topP", "reasoning_effort": "reasoningEffort"}[name]
    return raw(
        400,
        {"code": "Client specified an invalid argument", "error": f"Model grok does not support parameter {written}."},
    )


def _boxed(completion: Body, asked: Asked) -> Body:
    """The answer itself is marked after the reasoning."""
    message = completion["choices"][0]["message"]
    thoughts, _, answer = message["content"].rpartition("</think>")
    message["content"] = f"{thoughts}</think><answer>{answer}</answer>" if thoughts else message["content"]
    return completion


def _apart(completion: Body, asked: Asked) -> Body:
    """Reasoning is counted beside the completion's tokens, not in them."""
    usage = completion["usage"]
    usage["completion_tokens"] -= usage["completion_tokens_details"]["reasoning_tokens"]
    return completion


MAKERS: dict[str, Manners] = {
    "claude-opus": Manners(
        (
            when(
                given("temperature"),
                lambda _: error(400, "`temperature` is deprecated for this model.", code="invalid_request_error"),
            ),
            when(
                given("top_p"),
                lambda _: error(400, "`top_p` is deprecated for this model.", code="invalid_request_error"),
            ),
            when(
                given("response_format"),
                lambda asked: error(
                    400, "response_format: Extra inputs are not permitted", code="invalid_request_error"
                ),
            ),
            when(
                empty_assistant,
                lambda _: error(400, "messages: text content blocks must be non-empty", code="invalid_request_error"),
            ),
            when(says(LONG), lambda _: error(400, "prompt is too long: 210000 tokens > 200000 maximum")),
            when(says(FLAGGED), lambda _: error(400, "Output blocked by content filtering policy")),
        ),
        finish={"stop": "end_turn", "length": "max_tokens"},
    ),
    "claude-either": Manners(
        (
            when(
                lambda asked: asked.given("temperature") and asked.given("top_p"),
                lambda _: error(
                    400, "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
                ),
            ),
        )
    ),
    "claude-thinking": Manners(
        (
            when(
                lambda asked: asked.room <= 1024,
                lambda _: error(
                    400, "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult the documentation."
                ),
            ),
            when(
                is_set("temperature", 1),
                lambda _: error(
                    400, "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."
                ),
            ),
        ),
        Thinking(tokens=300),
        finish={"stop": "end_turn", "length": "max_tokens"},
    ),
    "gemini": Manners(
        (
            when(given("seed", "logprobs"), _google_unknown),
            when(
                says(LONG),
                lambda _: _google(
                    400, "The input token count exceeds the maximum number of tokens allowed.", "INVALID_ARGUMENT"
                ),
            ),
        ),
        Thinking(tokens=600, into=None, counted=False),
        _google_shape,
        finish={"length": "MAX_TOKENS", "stop": "STOP"},
    ),
    "gemini-3": Manners(
        (
            when(
                given("reasoning_effort"),
                lambda _: _google(400, "Thinking level is not supported for this model.", "INVALID_ARGUMENT"),
            ),
            when(given("seed", "logprobs"), _google_unknown),
        ),
        Thinking(tokens=30, into="content", opener="<thought>", closer="</thought>", counted=False),
        finish={"length": "MAX_TOKENS", "stop": "STOP"},
    ),
    "mistral": Manners(
        (
            when(given("seed"), _mistral_extra),
            when(
                empty_assistant,
                lambda _: raw(
                    400,
                    {
                        "object": "error",
                        "message": "Assistant message must have either content or tool_calls, but not none.",
                        "type": "invalid_request_error",
                        "code": "3240",
                    },
                ),
            ),
            when(
                roles_repeat,
                lambda _: raw(400, {"object": "error", "message": "Expected last role User or Tool", "code": "3230"}),
            ),
        ),
        Thinking(tokens=50),
        _parts,
        finish={"length": "model_length"},
    ),
    "deepseek": Manners(
        (
            when(
                lambda asked: asked.format == "json_schema",
                lambda _: error(400, "This response_format type is unavailable now"),
            ),
            when(
                _deepseek_format,
                lambda _: error(
                    400,
                    "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.",
                ),
            ),
            when(says(FLAGGED), lambda _: error(400, "Content Exists Risk")),
        ),
        Thinking(tokens=80),
        pulse=": keep-alive",
        quiet_s=0.4,
    ),
    "kimi": Manners(
        (
            when(
                is_set("temperature", 1), lambda _: error(400, "invalid temperature: only 1 is allowed for this model")
            ),
            when(is_set("top_p", 0.95), lambda _: error(400, "invalid top_p: only 0.95 is allowed for this model")),
            when(
                says(FLAGGED),
                lambda _: error(
                    400, "The request was rejected because it was considered high risk", type="content_filter"
                ),
            ),
        ),
        Thinking(tokens=120),
    ),
    "qwen": Manners(
        (
            when(
                lambda asked: not asked.body.get("stream"),
                lambda _: error(
                    400, "This model only support stream mode, please enable the stream parameter to access the model."
                ),
            ),
            when(
                says(FLAGGED),
                lambda _: error(400, "Input data may contain inappropriate content.", code="data_inspection_failed"),
            ),
        ),
        Thinking(tokens=90),
        usage_streamed=True,
    ),
    "grok": Manners((when(given("seed", "top_p", "reasoning_effort"), _camel),), Thinking(tokens=90), _apart),
    "sonar": Manners(
        (
            when(
                roles_repeat,
                lambda _: error(
                    400,
                    "After the (optional) system message(s), user or tool message(s) should alternate with assistant message(s).",
                ),
            ),
        ),
        Thinking(tokens=20, into="content", counted=False),
    ),
    "glm": Manners(
        (
            when(
                says("BROKE"),
                lambda _: raw(
                    429,
                    {
                        "error": {
                            "code": "1113",
                            "message": "Insufficient balance or no resource package. Please recharge.",
                        }
                    },
                ),
            ),
        ),
        Thinking(tokens=30, into="content", counted=False),
        _boxed,
    ),
    "cohere": Manners(
        (
            when(
                given("seed"),
                lambda _: raw(
                    422, {"id": "x", "message": "invalid request: unknown field: parameter 'seed' is not a valid field"}
                ),
            ),
        ),
        finish={"stop": "COMPLETE", "length": "MAX_TOKENS"},
    ),
    "minimax": Manners(
        (
            when(
                lambda asked: asked.body.get("temperature") == 0,
                lambda _: error(400, "invalid params, temperature must be in (0.0, 1.0] (2013)"),
            ),
            when(
                says(FLAGGED),
                lambda _: raw(
                    200, {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}
                ),
            ),
        ),
        Thinking(tokens=30, into="content", counted=False),
    ),
}
