"""What is read from providers' refusals: the change to try, who is at fault, and the words that the user sees."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from services.strong_model.gateway import adapt, errors, refusals, said
from services.strong_model.gateway.adapt import Rule, adapted
from services.strong_model.gateway.providers import JudgeProviderSettings, Provider, TeacherSettings, providers

KEY = "sk-very-secret-1"


def provider(**options: Any) -> Provider:
    given = TeacherSettings(base_url="http://teacher/v1", model="big", api_key=SecretStr(KEY), **options)
    return providers(given, JudgeProviderSettings())["default"]


TEACHER = provider()
SYSTEM, USER = {"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
BODY = {
    "model": "big", "messages": [SYSTEM, USER], "max_tokens": 5000, "temperature": 0.0, "top_p": 0.9, "seed": 1, "n": 1,
    "stop": ["x"], "response_format": FORMAT, "stream": True, "stream_options": {"include_usage": True}, "tools": [{}],
    "reasoning_effort": "low", "logprobs": True, "presence_penalty": 0,
}  # fmt: skip


def openai(message: str, **more: Any) -> Any:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more}


LEFT_OUT = [  # (error body, field that is left out)
    (openai("Unsupported value", param="temperature"), "temperature"),
    (openai("Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported."), "temperature"),
    (openai("`temperature` is deprecated for this model."), "temperature"),
    (openai("invalid temperature: only 1 is allowed for this model"), "temperature"),
    (openai("temperature: range: 0..1"), "temperature"),
    (openai("`temperature` and `top_p` cannot both be specified for this model. Please use only one."), "top_p"),
    ([{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', "status": "INVALID_ARGUMENT"}}], "seed"),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "seed"),
    ({"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "object": "error"}, "seed"),
    ({"detail": "seed is not supported"}, "seed"),
    ({"error": {"message": "seed: Extra inputs are not permitted"}}, "seed"),
    ({"error": "Unrecognized request argument supplied: seed"}, "seed"),
    (openai("Extra inputs are not permitted, field: 'seed', value: 1"), "seed"),
    ({"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(openai("seed is not supported"))}}}, "seed"),
    (openai("property 'logprobs' is unsupported"), "logprobs"),
    (openai("'n' : number must be at most 1"), "n"),
    (openai("Unsupported parameter: 'stop' is not supported with this model."), "stop"),
    (openai("stop is not supported"), "stop"),
    (openai("stream_options is not allowed"), "stream_options"),
    ({"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}, "stream_options"),
    (openai("Argument not supported on this model: presence_penalty"), "presence_penalty"),
    (openai("This model does not support `reasoning_effort`."), "reasoning_effort"),
    ({"code": "invalid argument", "error": "Argument not supported on this model: presencePenalty"}, "presence_penalty"),
    ({"code": "invalid argument", "error": "Model big does not support parameter reasoningEffort."}, "reasoning_effort"),
    ({"code": "invalid argument", "error": "Model big does not support parameter stop."}, "stop"),
    ({"message": "body.seed: property 'body.seed' is unsupported", "param": "validation_error", "code": "wrong_api_format"}, "seed"),
    ({"title": "Unprocessable Entity", "detail": "body -> seed\n  Extra inputs are not permitted (type=extra_forbidden)"}, "seed"),
    ({"error": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted'}]"}, "seed"),
    (openai("Validation: Unsupported parameter(s): `seed`"), "seed"),
    ({"message": "Malformed input request: #: extraneous key [n] is not permitted, please reformat your input"}, "n"),
    ({"id": "x", "message": "invalid request: unknown field: parameter 'seed' is not a valid field"}, "seed"),
    ({"errors": [{"code": "invalid_request_entity", "message": "Validation Error: [body.seed Extra inputs are not permitted]"}]}, "seed"),
    ({"error": {"message": "litellm.UnsupportedParamsError: big does not support parameters: {'seed': 1}", "param": "None"}}, "seed"),
    (openai("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."), "temperature"),
    (openai("gpt-5 models don't support temperature=0.0. Only temperature=1 is supported. For gpt-5.1, temperature is supported when reasoning_effort='none'"), "temperature"),
    ({"error": {"code": "1214", "message": "the temperature parameter is illegal"}}, "temperature"),
    ({"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"}, "top_p"),
    (openai("top_p must be in (0, 1], got 1.0."), "top_p"),
    (openai("Requested sample logprobs of 30, which is greater than max allowed: 20", param="logprobs"), "logprobs"),
    ([{"error": {"code": 400, "message": "Thinking level is not supported for this model.", "status": "INVALID_ARGUMENT"}}], "reasoning_effort"),
    ([{"error": {"code": 400, "message": "Budget 0 is invalid. This model only works in thinking mode.", "status": "INVALID_ARGUMENT"}}], "reasoning_effort"),
    ([{"error": {"code": 400, "message": "Penalty is not enabled for this model", "status": "INVALID_ARGUMENT"}}], "presence_penalty"),
    (openai('"big" does not support thinking'), "reasoning_effort"),
    (openai("This model does not support the effort parameter."), "reasoning_effort"),
    ({"error": {"issues": [{"code": "unrecognized_keys", "keys": ["seed"], "path": [], "message": "Unrecognized key(s) in object"}]}}, "seed"),
    ({"message": "body must NOT have additional properties", "errors": [{"params": {"additionalProperty": "seed"}}]}, "seed"),
    ("Failed to deserialize the JSON body into the target type: unknown field `seed`, expected one of `model`, `messages`", "seed"),
    (openai("Only n=1 is supported"), "n"),
    (openai("Cannot set both temperature and top_p"), "top_p"),
    (openai("Reasoning is mandatory for this endpoint and cannot be disabled."), "reasoning_effort"),
    (openai("Function tools with reasoning_effort are not supported for big in this route.", param="reasoning_effort"), "reasoning_effort"),
    (openai("response_format: Extra inputs are not permitted"), "response_format"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field"), LEFT_OUT, ids=[f"{n}-{field}" for n, (_, field) in enumerate(LEFT_OUT)])
@pytest.mark.parametrize("status", [400, 422])
def test_the_refused_field_is_left_out(body: Any, field: str, status: int):
    rule = change(body, status)
    assert (rule.field, rule.action) == (field, "omit")
    assert field not in adapted(TEACHER, BODY, [rule]).sent


def change(body: Any, status: int = 400, sent: dict[str, Any] = BODY, **options: Any) -> Rule:
    rule = refusals.change_for(status, said.of(body), sent, provider(**options))
    assert rule is not None
    return rule


OTHERS = [  # (error body, status, what the change makes of the request)
    (openai("'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", param="max_tokens"), 400, {"max_completion_tokens": 5000}),
    (openai("max_tokens is too large: 5000. This model supports at most 4096 completion tokens, whereas you provided 5000."), 400, {"max_tokens": 4096}),
    (openai("Invalid max_tokens value, the valid range of max_tokens is [1, 4096]"), 400, {"max_tokens": 4096}),
    (openai("max_tokens: 5000 > 4096, which is the maximum allowed number of output tokens for the model"), 400, {"max_tokens": 4096}),
    (openai("'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 96 input tokens (5000 > 4096 - 96)."), 400, {"max_tokens": 4000}),
    (openai("This model's maximum context length is 4096 tokens. However, you requested 5100 tokens (100 in the messages, 5000 in the completion)."), 400, {"max_tokens": 3996}),
    (openai("'reasoning_effort' does not support 'low' with this model. Supported values are: 'none', 'medium', and 'high'.", param="reasoning_effort"), 400, {"reasoning_effort": "medium"}),
    ({"object": "error", "message": "{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'medium' or 'high'\", 'input': 'low'}"}, 400, {"reasoning_effort": "medium"}),
    (openai("reasoning_effort must be one of `none` or `default`"), 400, {"reasoning_effort": "none"}),
    (openai("Input validation error: `temperature` must be strictly positive"), 422, {"temperature": 0.01}),
    (openai("invalid params, temperature must be in (0.0, 1.0]"), 400, {"temperature": 0.01}),
    ({"statusCode": 400, "code": "FST_ERR_VALIDATION", "message": "body/temperature must be >= 0.01"}, 400, {"temperature": 0.01}),
    (openai("You are not allowed to request logprobs from this model", param="logprobs"), 403, {"logprobs": None}),
    (openai("only one system message is allowed"), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("top_p must be between 0 and 0.5 inclusive"), 400, {"top_p": 0.5}),
    (openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 96 `inputs` tokens and 5000 `max_new_tokens`"), 422, {"max_tokens": 4000}),
    (openai("input length and `max_tokens` exceed context limit: 197000 + 5000 > 200000, decrease input length or `max_tokens`"), 400, {"max_tokens": 3000}),
    (openai("Your request exceeded model token limit: 8192 (requested: 9100)"), 400, {"max_tokens": 4092}),
    (openai("The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096."), 400, {"max_tokens": 4095}),
    (openai("Invalid 'max_tokens': integer below minimum value. Expected a value >= 6000, but got 5000 instead."), 400, {"max_tokens": 6000}),
    (openai("InvalidParameter: Range of max_tokens should be [1, 4096]"), 400, {"max_tokens": 4096}),
    (openai("Failed to initialize samplers: failed to parse grammar"), 400, {"response_format": {"type": "json_object"}}),
    (openai("The provided JSON schema contains features not supported by xgrammar."), 400, {"response_format": {"type": "json_object"}}),
    (openai("Invalid JSON payload. Unknown name \"additionalProperties\" at 'generation_config.response_schema': Cannot find field."), 400, {"response_format": {"type": "json_object"}}),
    (openai("Json mode response is not supported when enable_thinking is true"), 400, {"response_format": {"type": "json_object"}}),
    (openai("After the (optional) system message(s), user or tool message(s) should alternate with assistant message(s)."), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    ({"error": {"code": 500, "message": "Only user, assistant and tool roles are supported, got system. at row 12", "type": "server_error"}}, 500, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("This response_format type is unavailable now"), 400, {"response_format": {"type": "json_object"}}),
    (openai("This model does not support response format `json_schema`.", param="response_format"), 400, {"response_format": {"type": "json_object"}}),
    (openai("System role not supported"), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("Only user and assistant roles are supported!"), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    ({"error": "Error rendering prompt with jinja template: System role not supported"}, 500, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("Developer instruction is not enabled for models/small"), 400, {"messages": [{"role": "user", "content": "be brief\n\nhi"}]}),
    (openai("Your organization must be verified to stream this model.", param="stream"), 400, {"stream": None, "stream_options": None}),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "made"), OTHERS, ids=str)
def test_what_is_not_left_out_is_replaced(body: Any, status: int, made: dict[str, Any]):
    sent = adapted(TEACHER, BODY, [change(body, status)]).sent
    assert {name: sent.get(name) for name in made} == made


def test_a_format_goes_down_step_by_step():
    first = change(openai("response_format json_schema is not supported"))
    sent = adapted(TEACHER, BODY, [first]).sent
    words = said.of(openai("the prompt must contain the word 'json' to use 'response_format' of type 'json_object'"))
    second = refusals.change_for(400, words, sent, TEACHER, [first])
    assert second is not None
    assert "response_format" not in adapted(TEACHER, BODY, [first, second]).sent


def test_turns_of_one_role_are_put_together():
    sent = {"messages": [USER, USER]}
    rule = change(openai("Conversation roles must alternate user/assistant/user/assistant/..."), sent=sent)
    assert adapted(TEACHER, sent, [rule]).sent["messages"] == [{"role": "user", "content": "hi\n\nhi"}]


TURNS = [  # (turn, refusal, the turn that is sent)
    ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, openai("Invalid 'content' type. Expected one of: ['str'], got list."), {"content": "a\nb"}),
    ({"content": "a", "name": "ann"}, {"message": "messages.0.user.name: property 'messages.0.user.name' is unsupported"}, {"content": "a"}),
    ({"content": "a", "reasoning_content": "r"}, {"detail": [{"loc": ["body", "messages", 0, "reasoning_content"], "msg": "Extra inputs are not permitted"}]}, {"content": "a"}),
]  # fmt: skip


@pytest.mark.parametrize(("turn", "body", "made"), TURNS, ids=["parts", "name", "reasoning"])
def test_what_is_refused_of_a_turn_is_changed(turn: dict[str, Any], body: Any, made: dict[str, Any]):
    sent = {"messages": [{"role": "user"} | turn]}
    assert adapted(TEACHER, sent, [change(body, sent=sent)]).sent["messages"] == [{"role": "user"} | made]


@pytest.mark.parametrize(
    "words",
    [
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "Requests with max_tokens > 4096 must have stream=true",
    ],
)
def test_what_only_streams_can_have_is_streamed(words: str):
    sent = {"messages": [USER], "max_tokens": 5000}
    assert adapted(TEACHER, sent, [change(openai(words), sent=sent)]).sent["stream"] is True


def test_a_slip_of_the_model_changes_no_later_request():
    rule = change(
        openai("Failed to generate JSON. Adjust your prompt.", code="json_validate_failed", failed_generation="{a")
    )
    assert (rule.field, rule.once) == ("response_format", True)


def test_the_operators_effort_is_named_as_the_setting_to_change():
    own = provider(reasoning_effort="minimal")
    words = openai(
        "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model.", param="reasoning_effort"
    )
    sent = adapted(own, {"messages": [USER]}).sent
    assert refusals.change_for(400, said.of(words), sent, own) is None
    assert (
        "METEOR_TEACHER_REASONING_EFFORT ('minimal')"
        in errors.refused(own, 400, {}, json.dumps(words).encode()).message
    )


def test_a_limit_below_the_budget_for_thinking_needs_room():
    assert refusals.no_room(said.of(openai("`max_tokens` must be greater than `thinking.budget_tokens`.")))


def test_a_developer_becomes_the_system():
    sent = {"messages": [{"role": "developer", "content": "be"}, USER]}
    rule = change(openai("'developer' is not one of ['system', 'user']"), sent=sent)
    assert adapted(TEACHER, sent, [rule]).sent["messages"][0]["role"] == "system"


def test_a_server_that_only_streams_gets_a_streamed_request():
    sent = {"messages": [USER]}
    rule = change(openai("This model only support stream mode, please enable the stream parameter."), sent=sent)
    assert adapted(TEACHER, sent, [rule]).sent["stream"] is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (openai("tools is not supported by this model", param="tools"), 400),
        (openai("'tools' is not supported"), 422),
        (openai("The model `big` does not exist", param="model"), 404),
        (openai("Content Exists Risk"), 400),
        (openai("Prompt flagged", param="prompt"), 400),
        (openai("maximum context length is 4096 tokens, however your messages resulted in 9000 tokens", param="messages"), 400),
        (openai("temperature is not supported"), 429),
        (openai("something about temperature broke: not supported"), 500),
        ("", 400),
        ("<html><title>Bad request</title></html>", 400),
    ],
)  # fmt: skip
def test_what_cannot_be_mended_is_left_alone(body: Any, status: int):
    words = said.read(body) if isinstance(body, str) else said.of(body)
    assert refusals.change_for(status, words, BODY, TEACHER) is None


def test_what_the_operator_set_is_never_left_out():
    words = said.of(openai("top_k is not supported", param="top_k"))
    set_by_hand = provider(extra={"top_k": 5})
    sent = adapted(set_by_hand, BODY).sent
    assert sent["top_k"] == 5
    assert refusals.change_for(400, words, sent, set_by_hand) is None


def test_neither_name_of_the_limit_is_taken():
    first = change(openai("max_tokens is not supported", param="max_tokens"))
    words = said.of(openai("max_completion_tokens is not supported", param="max_completion_tokens"))
    second = refusals.change_for(400, words, adapted(TEACHER, BODY, [first]).sent, TEACHER, [first])
    assert second is not None
    sent = adapted(TEACHER, BODY, [first, second]).sent
    assert not {"max_tokens", "max_completion_tokens"} & sent.keys()


def test_options_of_a_provider_are_in_each_request():
    options = {
        "extra": {"enable_thinking": False, "stream_options": {"x": 1}},
        "omit": ["seed"],
        "reasoning_effort": "high",
    }
    sent = adapted(provider(**options), BODY | {"reasoning_effort": "low"}, room=100).sent
    assert (sent["enable_thinking"], sent["max_tokens"], sent["reasoning_effort"]) == (False, 5100, "low")
    assert sent["stream_options"] == {"include_usage": True, "x": 1}
    assert "seed" not in sent
    assert adapted(provider(**options), {"messages": [USER]}).sent["reasoning_effort"] == "high"
    with pytest.raises(ValueError, match="messages cannot be set here"):
        provider(extra={"messages": []})


@pytest.mark.parametrize("content", ["", None, "  ", []])
def test_an_empty_assistant_turn_is_never_sent(content: Any):
    turns = [SYSTEM, USER, {"role": "assistant", "content": content}, {"role": "user", "content": "again"}]
    assert adapt.without_empty_turns(turns) == [SYSTEM, {"role": "user", "content": "hi\n\nagain"}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert adapt.without_empty_turns([USER, call]) == [USER, call]


FAULTS = [  # (status, error body, code, words that the user must see)
    (400, openai("This model's maximum context length is 8192 tokens", code="context_length_exceeded"), "teacher_prompt_too_long", "8192"),
    (400, openai("prompt is too long: 210000 tokens > 200000 maximum"), "teacher_prompt_too_long", "210000"),
    (400, {"detail": "the prompt exceeds the context window of 2048 tokens"}, "teacher_prompt_too_long", "2048"),
    (413, openai("Request too large"), "teacher_prompt_too_long", "Request too large"),
    (400, [{"error": {"code": 400, "message": "The input token count (9000) exceeds the maximum number of tokens allowed (8000).", "status": "INVALID_ARGUMENT"}}], "teacher_prompt_too_long", "9000"),
    (400, openai("the request exceeds the available context size", type="exceed_context_size_error"), "teacher_prompt_too_long", "context size"),
    (400, openai("Content Exists Risk"), "teacher_refused_row", "Content Exists Risk"),
    (400, openai("flagged", code="invalid_prompt"), "teacher_refused_row", "flagged"),
    (400, openai("The response was filtered due to the prompt triggering the content management policy", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), "teacher_refused_row", "content management policy"),
    (400, openai("Input data may contain inappropriate content.", code="data_inspection_failed"), "teacher_refused_row", "inappropriate"),
    (400, openai("The request was rejected because it was considered high risk"), "teacher_refused_row", "high risk"),
    (403, {"error": {"code": 403, "message": "the input was flagged by moderation", "metadata": {"reasons": ["violence"]}}}, "teacher_refused_row", "violence"),
    (403, openai("Country, region, or territory not supported", code="unsupported_country_region_territory"), "teacher_access_denied", "Country"),
    (403, openai("Project does not have access to model `big`", code="model_not_found"), "teacher_access_denied", "does not have access"),
    (403, openai("You are not a member of this organization"), "teacher_access_denied", "organization"),
    (403, openai("Invalid API key"), "teacher_auth_failed", "METEOR_TEACHER_API_KEY"),
    (401, openai(f"Incorrect API key provided: {KEY[:6]}***et-1. Find it in the console."), "teacher_auth_failed", "Incorrect API key"),
    (404, openai("The model `big` does not exist or you do not have access to it.", code="model_not_found"), "teacher_model_not_found", "METEOR_TEACHER_MODEL"),
    (404, {"error": 'model "big" not found, try pulling it first'}, "teacher_model_not_found", "try pulling"),
    (400, openai("big is not a valid model ID"), "teacher_model_not_found", "not a valid model"),
    (400, openai("Model Not Exist"), "teacher_model_not_found", "Not Exist"),
    (404, "<html><title>Not Found</title></html>", "teacher_rejected", "METEOR_TEACHER_BASE_URL"),
    (402, openai("Insufficient Balance"), "teacher_quota_exhausted", "Insufficient Balance"),
    (400, openai("Your credit balance is too low to access the API."), "teacher_quota_exhausted", "credit balance"),
    (429, openai("You exceeded your current quota", code="insufficient_quota"), "teacher_quota_exhausted", "quota"),
    (429, openai("Rate limit reached for model `big`"), "teacher_rate_limited", "Rate limit"),
    (503, {"error": {"message": "Loading model", "code": 503}}, "teacher_error", "Loading model"),
    (400, openai("tools are not supported"), "teacher_rejected", "METEOR_TEACHER_OMIT"),
    (400, {"message": "bad thing"}, "teacher_rejected", "bad thing"),
    (400, {"error": {"message": "Provider returned error", "metadata": {"raw": "the upstream says no"}}}, "teacher_rejected", "the upstream says no"),
    (400, "plain words", "teacher_rejected", "plain words"),
    (400, {"__type": "ThrottlingException", "message": "Too many requests, wait before trying again."}, "teacher_rate_limited", "wait before"),
    (400, {"message": "Invocation of model ID big with on-demand throughput isn't supported."}, "teacher_model_not_found", "on-demand"),
    (403, {"message": "The security token included in the request is expired"}, "teacher_auth_failed", "METEOR_TEACHER_API_KEY"),
    (500, openai("the request exceeds the available context size", type="exceed_context_size_error"), "teacher_prompt_too_long", "context size"),
    (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}, "teacher_prompt_too_long", "exceeded"),
    (422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", "error_type": "validation"}, "teacher_prompt_too_long", "1024"),
    (400, openai("The decoder prompt (length 9000) is longer than the maximum model length of 4096."), "teacher_prompt_too_long", "9000"),
    (400, openai("InvalidParameter: Range of input length should be [1, 30720]"), "teacher_prompt_too_long", "30720"),
    (429, openai("Request too large for big on tokens per min (TPM): Limit 30000, Requested 40000.", code="rate_limit_exceeded"), "teacher_prompt_too_long", "30000"),
    (400, {"error": "The model has crashed without additional information. (Exit code: null)"}, "teacher_error", "crashed"),
    (400, {"error": "Model unloaded."}, "teacher_error", "unloaded"),
    (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "details": [{"reason": "API_KEY_INVALID"}]}}], "teacher_auth_failed", "METEOR_TEACHER_API_KEY"),
    (400, [{"error": {"code": 400, "message": "User location is not supported for the API use.", "status": "FAILED_PRECONDITION"}}], "teacher_access_denied", "location"),
    (404, [{"error": {"code": 404, "message": "models/big is not found for API version v1", "status": "NOT_FOUND"}}], "teacher_model_not_found", "METEOR_TEACHER_MODEL"),
    (404, openai("This model is only supported in v1/responses and not in v1/chat/completions.", param="model"), "teacher_model_not_found", "responses"),
    (400, openai("Organization has been restricted.", code="organization_restricted"), "teacher_access_denied", "restricted"),
    (400, openai("The model `big` requires terms acceptance.", code="model_terms_required"), "teacher_access_denied", "terms"),
    (400, openai("The requested model 'big' is not supported by any provider you have enabled.", code="model_not_supported"), "teacher_model_not_found", "any provider"),
    (400, {"error": {"code": "unavailable_model", "message": "Unavailable model: big"}}, "teacher_model_not_found", "Unavailable"),
    (403, openai("Key limit exceeded (monthly limit)."), "teacher_quota_exhausted", "monthly"),
    (403, {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance"}, "teacher_quota_exhausted", "balance"),
    (412, openai("Account x is suspended, possibly due to reaching the monthly spending limit"), "teacher_quota_exhausted", "spending"),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}, "teacher_quota_exhausted", "recharge"),
    (400, openai("You have reached your specified API usage limits. You will regain access on 2027-01-01."), "teacher_quota_exhausted", "2027"),
    (400, openai("Budget has been exceeded! Current cost: 10.1, Max budget: 10.0", type="budget_exceeded"), "teacher_quota_exhausted", "10.1"),
    (400, openai("litellm.ContentPolicyViolationError: no"), "teacher_refused_row", "Violation"),
    (400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}, "teacher_model_not_found", "METEOR_TEACHER_MODEL"),
    (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, "teacher_refused_row", "敏感"),
    (403, {"code": 30001, "message": "账户余额不足"}, "teacher_quota_exhausted", "余额不足"),
    (403, {"Message": "User is not authorized to access this resource with an explicit deny"}, "teacher_access_denied", "explicit deny"),
    (403, "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", "teacher_access_denied", "Access Denied"),
    (429, {"fault": {"faultstring": "Rate limit quota violation", "detail": {"errorcode": "policies.ratelimit.QuotaViolation"}}}, "teacher_rate_limited", "quota violation"),
    (400, openai("messages: text content blocks must contain non-whitespace text"), "teacher_refused_row", "non-whitespace"),
    (400, openai("Invalid value for 'content': expected a string, got null.", param="messages.[1].content"), "teacher_refused_row", "null"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code", "words"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_who_is_at_fault_and_what_the_user_sees(status: int, body: Any, code: str, words: str):
    payload = (body if isinstance(body, str) else json.dumps(body)).encode()
    failure = errors.refused(TEACHER, status, {}, payload)
    assert failure.code == code
    assert words.lower() in failure.message.lower()
    assert KEY not in failure.message
    assert "et-1" not in failure.message
    row, provider_ = ("teacher_refused_row", "teacher_prompt_too_long"), ("teacher_rate_limited", "teacher_error")
    assert failure.scope == ("row" if code in row else "provider" if code in provider_ else "account")


@pytest.mark.parametrize("status", [504, 524])
def test_what_may_still_be_computed_is_sent_once_more_and_counts_as_paid(status: int):
    failure = errors.refused(TEACHER, status, {}, b"<html><head><title>timed out</title></head></html>")
    assert (failure.code, failure.most_attempts, failure.cost) == ("teacher_error", errors.ONCE_MORE, None)
    assert "may still be computed" in failure.message
    plain = errors.refused(TEACHER, 502, {}, b"bad gateway")
    assert (plain.most_attempts, plain.cost) == (errors.ALWAYS, errors.Cost())


def test_an_error_that_comes_as_an_answer_has_its_own_status():
    failure = errors.in_answer(TEACHER, {"error": {"code": 429, "message": "slow down"}})
    assert (failure.code, failure.outcome) == ("teacher_rate_limited", "http_429")
    failure = errors.in_answer(TEACHER, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    assert (failure.code, failure.outcome, failure.overloaded) == ("teacher_error", "http_529", True)
