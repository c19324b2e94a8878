"""The words and codes by which providers' failures are told apart, lower case. One line per provider's way to say it."""

import re

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_user_quota",
        "exceeded_current_quota_error",
        "account_deactivated",
        "arrearage",
        "budget_exceeded",
        "not_enough_balance",
        "credit_limit",
        "insufficient_funds",
        "payment_required",
        "1113",
        "1008",
    }
)
TOO_LONG_CODES = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "prompt_too_long",
        "request_too_large",
        "input_too_long",
        "exceed_context_size_error",
        "context_window_exceeded",
        "model_context_window_exceeded",
        "context_exceeded",
        "tokens_limit_reached",
        "1039",
        "1261",
    }
)
CONTENT_CODES = frozenset(
    {
        "content_filter",
        "content_filtered",
        "content_policy_violation",
        "invalid_prompt",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "moderation",
        "moderation_blocked",
        "safety",
        "prohibited_content",
        "blocklist",
        "recitation",
        "sensitive",
        "cyber_policy_violation",
        "inputtextsensitivecontentdetected",
        "contentpolicyviolationerror",
        "1026",
        "1027",
        "1301",
    }
)
MODEL_CODES = frozenset(
    {
        "model_not_found",
        "model_decommissioned",
        "invalid_model",
        "deploymentnotfound",
        "model_not_available",
        "model_not_supported",
        "unavailable_model",
        "unknown_model",
        "modelnotopen",
        "1211",
    }
)
RATE_CODES = frozenset(  # of refusals that come with another status than 429
    {
        "rate_limit_error",
        "rate_limit_exceeded",
        "ratelimitreached",
        "ratelimiterror",
        "throttlingexception",
        "throttling",
        "throttling.ratequota",
        "too_many_requests",
        "toomanyrequests",
        "request_limit_exceeded",
        "resource_exhausted",
        "1002",
        "1302",
        "1303",
        "1305",
    }
)
KEY_CODES = frozenset({"api_key_invalid", "invalid_api_key", "authentication_error", "unauthenticated", "1004"})
ACCESS_CODES = frozenset(
    {
        "organization_restricted",
        "model_terms_required",
        "account_deactivated",
        "unsupported_country_region_territory",
        "accessdenied",
    }
)
STATUS_OF = {  # an error's type or code -> the HTTP status that it should have come with
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "invalid_argument": 400,
    "authentication_error": 401,
    "unauthenticated": 401,
    "insufficient_quota": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "timeout_error": 504,
    "server_error": 500,
    "api_error": 500,
    "internal": 500,
    "unavailable": 503,
    "overloaded_error": 529,
}
DEMANDS = frozenset({400, 403, 404, 405, 410, 412, 422, 424})  # statuses whose words say what is wrong with the request
NO_MONEY = re.compile(
    r"credit balance|insufficient (?:account )?(?:balance|credits?|funds|quota)|out of credits?|no credits?\b|"
    r"payment required|in arrears|account (?:is )?(?:overdue|suspended for)|add (?:more )?(?:credits|funds)|billing (?:is )?not|"
    r"api usage limits|key limit exceeded|spending limit|monthly (?:usage |spend\w* )?limit|budget has been exceeded|"
    r"enter a payment method|not enough balance|balance (?:is|was) (?:not enough|insufficient|too low)|requires more credits|"
    r"余额不足|欠费|请充值|past invoices|please recharge|credit limit exceeded|suspended, possibly due to"
)
TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|(?:prompt|input|request|message)s?(?: is| are)? too (?:long|large)|"
    r"maximum context|reduce the length|reduce your message size|(?:exceed|longer|larger|more|greater)\w* .{0,40}?"
    r"(?:maximum|max|allowed|limit)\w* .{0,30}?(?:input|prompt|context|tokens allowed)|"
    r"(?:input|prompt)(?: token)?s?(?: count| length)?.{0,30}exceed|does not fit.{0,20}context|too many (?:input |prompt )tokens|"
    r"超长|超过.{0,8}长度|maximum model length|max_model_len|max_seq_len|model token limit|range of input length|request body too large|"
    r"inputs?`? (?:tokens \+ `?max_new_tokens`? must be <=|must have less than \d)"
)
CONTEXT_FULL = re.compile(  # the server's own fault by its status
    r"context[ _-]?(?:length|window|size).{0,40}exceed|exceed.{0,40}context[ _-]?(?:length|window|size)"
)
TOO_MUCH_AT_ONCE = re.compile(r"request too large")  # one request alone is above the limit of a minute
CONTENT = re.compile(
    r"content[ _]?(?:filter|polic|management|exists risk|violat|moderat)|(?:flagged|blocked|rejected|refused) .{0,60}?"
    r"(?:moderation|safety|policy|policies|filter|risk|violat|guardrail)|usage (?:policy|policies|guidelines)|inappropriate|"
    r"moderation|high[- ]risk|safety (?:system|filter|setting|reason|check)|prohibited content|sensitive (?:content|word|information)|"
    r"敏感|不安全|违规|guardrail|harmful|unsafe content|violat\w+ .{0,40}(?:terms|policy|policies|guidelines)"
)
BAD_TURN = re.compile(
    r"content blocks? must|content.{0,40}(?:must|cannot|can not|may not|should).{0,20}(?:empty|non-whitespace|blank)|"
    r"(?:empty|blank) (?:message )?content|message.{0,20}must not be empty|expected a string, got null"
)
PASSING = re.compile(  # said with the status of a wrong request, and over with the next one
    r"model (?:has )?(?:crashed|unloaded|is not loaded)|model unloaded|engine is not loaded|loading model|failed to load|"
    r"unexpected tokens remaining|model is (?:currently )?loading"
)
TOO_OFTEN = re.compile(
    r"请求过于频繁|并发数过高|rate[ _-]?limit|too many requests|throttl|requests? per (?:second|minute|hour|day)"
)
NO_ACCESS = re.compile(
    r"location is not supported|country, region|organization has been (?:restricted|disabled)|account .{0,30}(?:disabled|deactivated)|"
    r"terms acceptance|accept the terms|has not been used in project|must be verified|not (?:available|supported) in your (?:country|region)|"
    r"has not activated the model|model access denied"
)
NO_MODEL = re.compile(
    r"模型不存在|requested model.{0,80}(?:not|n't) supported|invocation of model|only supported in v1/|not a chat model|specify a model|"
    r"\bmodels?\b.{0,120}?(?:not found|does(?: not|n't) exist|not exist|unknown|not a valid|invalid|decommissioned|not available|"
    r"is deprecated|was removed|has been (?:removed|retired|shut ?down)|no longer (?:available|supported)|try pulling)|"
    r"(?:unknown|invalid|no such|not a valid|unrecognized) model|deployment .{0,60}does not exist|no (?:endpoints|allowed providers)"
)
BAD_KEY = re.compile(r"api[ _-]?key (?:is )?(?:not valid|invalid|expired|not found)|invalid api[ _-]?key|login fail")
KEY_REFUSED = re.compile(
    r"security token|token .{0,40}(?:expired|invalid)|api[ _-]?key|credential|unauthori[sz]ed|authenticat|invalid token|no message|an html page"
)
QUOTED_KEY = re.compile(r"\b(?:sk|gsk|xai|pplx|fw|tgp|hf|nvapi|csk|AIza)[-_][\w*.-]{6,}|\bAIza[\w-]{8,}|\S+\*{3,}\S*")
