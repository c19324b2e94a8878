"""OpenAI's own models, and services that answer in its words."""

from typing import Any

from tests.fakes.providers.manners import (
    FLAGGED,
    LONG,
    Asked,
    Manners,
    Thinking,
    error,
    first_of,
    given,
    has_role,
    is_set,
    says,
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


def _azure_filter(asked: Asked) -> Any:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
    return error(
        400,
        "The response was filtered due to the prompt triggering the content management policy of the service.",
        code="content_filter",
        param="prompt",
        innererror=inner,
    )


def _effort(asked: Asked) -> Any:
    value = asked.body["reasoning_effort"]
    message = f"Unsupported value: 'reasoning_effort' does not support '{value}' with this model. Supported values are: 'none', 'low', 'medium', and 'high'."
    return error(400, message, code="unsupported_value", param="reasoning_effort")


OPENAI: dict[str, Manners] = {
    "gpt-5": Manners(OPENAI_REASONING, Thinking(tokens=1200, into=None)),
    "gpt-5.1": Manners(
        (
            when(lambda asked: asked.body.get("reasoning_effort") == "minimal", _effort),
            *OPENAI_REASONING,
        ),
        Thinking(tokens=20, into=None),
    ),
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
    "azure-v1": Manners(
        (when(given("top_p"), _openai_unsupported("top_p")), OPENAI_FLAGGED),
        path="/openai/v1/chat/completions",
        key_header="api-key",
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
}
