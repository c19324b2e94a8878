"""One row per simulated provider. Messages are worded after their documentation and bug reports, not copied."""

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
    has_role,
    is_set,
    raw,
    roles_repeat,
    says,
    text,
    when,
)

MANY = ("top_p", "presence_penalty", "frequency_penalty", "logprobs", "stop")


def _openai_renamed(asked: Asked) -> Any:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    return error(400, message, code="unsupported_parameter", param="max_tokens")


def _openai_value(name: str) -> Any:
    def response(asked: Asked) -> Any:
        value = asked.body[name]
        message = f"Unsupported value: '{name}' does not support {value} with this model. Only the default (1) value is supported."
        return error(400, message, code="unsupported_value", param=name)

    return response


def _openai_unsupported(*names: str) -> Any:
    def response(asked: Asked) -> Any:
        name = first_of(asked, *names)
        return error(
            400,
            f"Unsupported parameter: '{name}' is not supported with this model.",
            code="unsupported_parameter",
            param=name,
        )

    return response


OPENAI_LONG = when(
    says(LONG),
    lambda _: error(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
)
OPENAI_FLAGGED = when(
    says(FLAGGED),
    lambda _: error(
        400, "Invalid prompt: your prompt was flagged as violating our usage policy.", code="invalid_prompt"
    ),
)
OPENAI_REASONING = (
    when(given("max_tokens"), _openai_renamed),
    when(is_set("temperature", 1), _openai_value("temperature")),
    when(given(*MANY), _openai_unsupported(*MANY)),
    OPENAI_LONG,
    OPENAI_FLAGGED,
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


def _azure_filter(asked: Asked) -> Any:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
    return error(
        400,
        "The response was filtered due to the prompt triggering the content management policy of the service.",
        code="content_filter",
        param="prompt",
        innererror=inner,
    )


def _openrouter_moderation(asked: Asked) -> Any:
    metadata = {"reasons": ["violence"], "flagged_input": "...", "provider_name": "Upstream"}
    return raw(403, {"error": {"code": 403, "message": "The input was flagged by moderation", "metadata": metadata}})


def _openrouter_shape(completion: Body, asked: Asked) -> Body:
    if asked.says("UPSTREAM"):
        metadata = {"raw": '{"error": {"message": "the upstream is overloaded"}}', "provider_name": "Upstream"}
        return {"error": {"code": 502, "message": "Provider returned error", "metadata": metadata}}
    if asked.says("BROKEN"):
        completion["choices"][0]["finish_reason"] = "error"
    return completion


def _channels(completion: Body, asked: Asked) -> Body:
    """The raw text of a model that writes in channels."""
    message = completion["choices"][0]["message"]
    thoughts, answer = message.pop("reasoning_content", ""), message["content"]
    final = f"<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>" if answer else ""
    message["content"] = f"<|channel|>analysis<|message|>{thoughts}{final}"
    return completion


def _vllm(message: str) -> Any:
    return raw(400, {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400})


def _lm_studio_strings(completion: Body, asked: Asked) -> Body:
    usage = completion["usage"]
    completion["usage"] = {name: str(value) for name, value in usage.items() if isinstance(value, int)}
    return completion


def _effort(asked: Asked) -> Any:
    value = asked.body["reasoning_effort"]
    message = f"Unsupported value: 'reasoning_effort' does not support '{value}' with this model. Supported values are: 'none', 'low', 'medium', and 'high'."
    return error(400, message, code="unsupported_value", param="reasoning_effort")


def _camel(asked: Asked) -> Any:
    name = first_of(asked, "seed", "top_p", "reasoning_effort")
    written = {"seed": "seed", "top_p": "topP", "reasoning_effort": "reasoningEffort"}[name]
    return raw(
        400,
        {"code": "Client specified an invalid argument", "error": f"Model grok does not support parameter {written}."},
    )


def _cerebras(asked: Asked) -> Any:
    name = first_of(asked, "seed", "top_p")
    message = f"body.{name}: property 'body.{name}' is unsupported"
    return raw(
        400,
        {"message": message, "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format"},
    )


def _nim(asked: Asked) -> Any:
    name = first_of(asked, "seed", "response_format")
    detail = f"body -> {name}\n  Extra inputs are not permitted (type=extra_forbidden)"
    return raw(422, {"type": "urn:problem", "title": "Unprocessable Entity", "status": 422, "detail": detail})


def _tgi(asked: Asked) -> Any:
    message = f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 200. Given: 40 `inputs` tokens and {asked.room} `max_new_tokens`"
    return raw(422, {"error": message, "error_type": "validation"})


def _bedrock(asked: Asked) -> Any:
    message = f"Malformed input request: #: extraneous key [{first_of(asked, 'seed', 'response_format')}] is not permitted, please reformat your input and try again."
    return raw(400, {"message": message})


def _sglang_effort(asked: Asked) -> Any:
    message = "1 validation error: {'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", 'input': 'minimal'}"
    return raw(400, {"object": "error", "message": message, "type": "Bad Request", "param": None, "code": 400})


def _matched(completion: Body, asked: Asked) -> Body:
    completion["choices"][0]["finish_reason"] = {"type": completion["choices"][0]["finish_reason"], "matched": 2}
    return completion


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


PROVIDERS: dict[str, Manners] = {
    "gpt-5": Manners(OPENAI_REASONING, Thinking(tokens=1200, into=None)),
    "o1-mini": Manners(
        (
            when(
                has_role("system"),
                lambda _: error(
                    400,
                    "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                    code="unsupported_value",
                    param="messages[0].role",
                ),
            ),
            when(
                given("response_format"),
                lambda asked: error(
                    400,
                    f"Invalid parameter: 'response_format' of type '{asked.format}' is not supported with this model.",
                    param="response_format",
                ),
            ),
            *OPENAI_REASONING,
        ),
        Thinking(tokens=300, into=None),
    ),
    "o3-unverified": Manners(
        (
            when(
                lambda asked: bool(asked.body.get("stream")),
                lambda _: error(
                    400,
                    "Your organization must be verified to stream this model.",
                    code="unsupported_value",
                    param="stream",
                ),
            ),
            *OPENAI_REASONING,
        ),
        Thinking(tokens=100, into=None),
    ),
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
    "groq": Manners(
        (
            when(
                lambda asked: asked.format == "json_schema",
                lambda _: error(
                    400,
                    "This model does not support response format `json_schema`. See supported models.",
                    param="response_format",
                ),
            ),
            when(
                given("logprobs", "seed"),
                lambda asked: error(400, f"property '{first_of(asked, 'logprobs', 'seed')}' is unsupported"),
            ),
            when(is_set("n", 1), lambda _: error(400, "'n' : number must be at most 1")),
            when(
                says(LONG),
                lambda _: error(
                    413,
                    "Request too large for the model: limit 6000, requested 9000, please reduce your message size and try again.",
                    code="rate_limit_exceeded",
                ),
            ),
        ),
        Thinking(tokens=30, into="reasoning"),
    ),
    "azure": Manners(
        (
            when(
                lambda asked: "api-version" not in asked.query, lambda _: error(404, "Resource not found", code="404")
            ),
            when(says(FLAGGED), _azure_filter),
            OPENAI_LONG,
        ),
        path="/openai/deployments/teacher/chat/completions",
        key_header="api-key",
    ),
    "openrouter": Manners(
        (when(says(FLAGGED), _openrouter_moderation),),
        Thinking(tokens=60, into="reasoning"),
        _openrouter_shape,
        pulse=": OPENROUTER PROCESSING",
        quiet_s=0.2,
    ),
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
    "together": Manners(
        (
            when(
                given("logit_bias", "seed"),
                lambda asked: error(
                    422,
                    f"Input validation error: unrecognized request argument supplied: {first_of(asked, 'logit_bias', 'seed')}",
                ),
            ),
        ),
        Thinking(tokens=64, into="content", counted=False),
        finish={"stop": "eos"},
    ),
    "fireworks": Manners(
        (
            when(
                given("seed"),
                lambda asked: raw(
                    400,
                    {
                        "error": {
                            "object": "error",
                            "type": "invalid_request_error",
                            "message": f"Extra inputs are not permitted, field: 'seed', value: {asked.body['seed']}",
                        }
                    },
                ),
            ),
        ),
        Thinking(tokens=70),
        _channels,
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
    "no-country": Manners(
        (
            lambda _: error(
                403,
                "Country, region, or territory not supported",
                code="unsupported_country_region_territory",
                type="request_forbidden",
            ),
        )
    ),
    "no-model": Manners(
        (
            lambda _: error(
                404,
                "The model `no-model-model` does not exist or you do not have access to it.",
                code="model_not_found",
            ),
        )
    ),
    "no-tools": Manners((when(given("tools"), _openai_unsupported("tools")),)),
    "slow": Manners(quiet_s=7.0),
    "slow-alive": Manners(pulse=": still here", quiet_s=7.0),
    "gpt-5.1": Manners(
        (
            when(lambda asked: asked.body.get("reasoning_effort") == "minimal", _effort),
            *OPENAI_REASONING,
        ),
        Thinking(tokens=20, into=None),
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
    "grok": Manners((when(given("seed", "top_p", "reasoning_effort"), _camel),), Thinking(tokens=90), _apart),
    "cerebras": Manners((when(given("seed", "top_p"), _cerebras),), Thinking(tokens=20, into="reasoning")),
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
    "nim": Manners((when(given("seed", "response_format"), _nim),)),
    "bedrock": Manners(
        (
            when(given("seed", "response_format"), _bedrock),
            when(says(LONG), lambda _: raw(400, {"message": "Input is too long for requested model."})),
        )
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
    "azure-v1": Manners(
        (when(given("top_p"), _openai_unsupported("top_p")), OPENAI_FLAGGED),
        path="/openai/v1/chat/completions",
        key_header="api-key",
    ),
    "plain": Manners(),
}
