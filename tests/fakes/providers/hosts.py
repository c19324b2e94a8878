"""Platforms that serve models of others."""

from typing import Any

from tests.fakes.providers.manners import (
    FLAGGED,
    LONG,
    Asked,
    Body,
    Manners,
    Thinking,
    error,
    first_of,
    given,
    is_set,
    raw,
    says,
    when,
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


def _bedrock(asked: Asked) -> Any:
    message = f"Malformed input request: #: extraneous key [{first_of(asked, 'seed', 'response_format')}] is not permitted, please reformat your input and try again."
    return raw(400, {"message": message})


HOSTS: dict[str, Manners] = {
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
    "openrouter": Manners(
        (when(says(FLAGGED), _openrouter_moderation),),
        Thinking(tokens=60, into="reasoning"),
        _openrouter_shape,
        pulse=": OPENROUTER PROCESSING",
        quiet_s=0.2,
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
    "cerebras": Manners((when(given("seed", "top_p"), _cerebras),), Thinking(tokens=20, into="reasoning")),
    "nim": Manners((when(given("seed", "response_format"), _nim),)),
    "bedrock": Manners(
        (
            when(given("seed", "response_format"), _bedrock),
            when(says(LONG), lambda _: raw(400, {"message": "Input is too long for requested model."})),
        )
    ),
}
