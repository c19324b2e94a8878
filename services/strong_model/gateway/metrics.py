"""The gateway's metrics that several stages write."""

from prometheus_client import Counter, Gauge, Histogram

from shared.ledger.store import Cost

CALLS = Counter("meteor_teacher_calls_total", "Attempts at strong models, cached answers too", ["provider", "outcome"])
TOKENS = Counter("meteor_teacher_tokens_total", "Tokens as providers counted them", ["provider", "direction"])
USD = Counter("meteor_teacher_usd_total", "Spent, by the configured prices", ["provider"])
LATENCY = Histogram(
    "meteor_teacher_latency_seconds", "One attempt", ["provider"], buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)
)
SENT = Gauge("meteor_teacher_calls_open", "Attempts sent and not answered", ["provider"])
FAILED_OVER = Counter("meteor_teacher_failovers_total", "Requests passed on to a fallback", ["provider"])
CHANGED = Counter(
    "meteor_teacher_changed_total", "Requests changed for what their provider refuses", ["provider", "field"]
)
BATCH_FILES = Counter(
    "meteor_teacher_batch_files_total",
    "Files of batches at providers: found again and reused, duplicate, deleted, or left there because they could not be deleted",
    ["provider", "fate"],
)
STRUCTURED = Counter(
    "meteor_teacher_structured_total",
    "Answers to requests with a JSON schema, by whether they met it",
    ["provider", "met"],
)


def count_cost(provider: str, cost: Cost | None) -> None:
    if cost is not None:
        TOKENS.labels(provider, "input").inc(cost.input_tokens)
        TOKENS.labels(provider, "output").inc(cost.output_tokens)
        USD.labels(provider).inc(cost.usd)
