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
    }
)
MODEL_CODES = frozenset(
    {"model_not_found", "model_decommissioned", "invalid_model", "deploymentnotfound", "model_not_available"}
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
    r"payment required|in arrears|account (?:is )?(?:overdue|suspended for)|add (?:more )?(?:credits|funds)|billing (?:is )?not"
)
TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|(?:prompt|input|request|message)s?(?: is| are)? too (?:long|large)|"
    r"maximum context|reduce the length|reduce your message size|(?:exceed|longer|larger|more|greater)\w* .{0,40}?"
    r"(?:maximum|max|allowed|limit)\w* .{0,30}?(?:input|prompt|context|tokens allowed)|"
    r"(?:input|prompt)(?: token)?s?(?: count| length)?.{0,30}exceed|does not fit.{0,20}context|too many (?:input |prompt )tokens"
)
CONTENT = re.compile(
    r"content (?:filter|polic|management|exists risk|violat|moderat)|(?:flagged|blocked|rejected|refused) .{0,60}?"
    r"(?:moderation|safety|policy|policies|filter|risk|violat|guardrail)|usage (?:policy|policies|guidelines)|inappropriate|"
    r"moderation|high[- ]risk|safety (?:system|filter|setting|reason|check)|prohibited content|sensitive (?:content|word|information)|"
    r"guardrail|harmful|unsafe content|violat\w+ .{0,40}(?:terms|policy|policies|guidelines)"
)
NO_MODEL = re.compile(
    r"\bmodel\b.{0,120}?(?:not found|does(?: not|n't) exist|not exist|unknown|not a valid|invalid|decommissioned|not available|"
    r"is deprecated|was removed|has been (?:removed|retired|shut ?down)|no longer (?:available|supported)|try pulling)|"
    r"(?:unknown|invalid|no such|not a valid|unrecognized) model|deployment .{0,60}does not exist|no (?:endpoints|allowed providers)"
)
KEY_REFUSED = re.compile(r"api[ _-]?key|credential|unauthori[sz]ed|authenticat|invalid token|no message|an html page")
QUOTED_KEY = re.compile(r"\b(?:sk|gsk|xai|pplx|fw|tgp|hf|nvapi|csk|AIza)[-_][\w*.-]{6,}|\bAIza[\w-]{8,}|\S+\*{3,}\S*")
