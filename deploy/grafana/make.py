"""Makes the boards beside this file: `python deploy/grafana/make.py`. A panel is a title, a unit and its queries."""

import json
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8


class Query(NamedTuple):
    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """kind: timeseries, stat, bargauge. unit: as Grafana names it. width: of 24."""

    title: str
    unit: str
    queries: list[Query]
    width: int = 8
    kind: str = "timeseries"


Rows = dict[str, list[Panel]]


# Counts of the database with their labels: every api shows the same, so several are not added up.
OF_DATABASE = {
    "meteor_step_attempts_total": "kind, outcome",
    "meteor_jobs_ended_total": "kind, status",
    "meteor_integration_sends_total": "type, outcome",
}


def summed(growth: str, metric: str, by: str) -> str:
    """growth: of each series."""
    once = f"max by ({OF_DATABASE[metric]}) ({growth})" if metric in OF_DATABASE else growth
    return once if by == OF_DATABASE.get(metric) else f"sum{f' by ({by})' if by else ''} ({once})"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Per second, summed."""
    return summed(f"rate({metric}{{{where}}}[$__rate_interval])".replace("{}", ""), metric, by)


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le' if by else 'le', where)})"


def share(metric: str, by: str, where: str) -> str:
    """Of what grows, the part for which `where` holds."""
    return f"{rate(metric, by, where)} / {rate(metric, by)}"


def per_hour(metric: str, by: str, where: str = "") -> str:
    return summed(f"increase({metric}{{{where}}}[1h])".replace("{}", ""), metric, by)


OPERATIONS: Rows = {
    "Is all well": [
        Panel("Database", "bool_yes_no", [Query("min(meteor_database_up)")], 3, "stat"),
        Panel("Processes", "short", [Query("max by (service) (meteor_processes)", "{{service}}")], 9, "stat"),
        Panel("Lost processes", "short", [Query("sum(max by (service) (meteor_processes_lost))")], 3, "stat"),
        Panel("Engine", "short", [Query("max by (state) (meteor_engine_state) == 1", "{{state}}")], 3, "stat"),
        Panel("Free disk", "bytes", [Query("min(meteor_disk_free_bytes)")], 3, "stat"),
        Panel("Oldest waiting job", "s", [Query("max(meteor_oldest_queued_job_seconds)")], 3, "stat"),
    ],
    "Jobs": [
        Panel("Jobs that are not over", "short", [
            Query('max by (status) (meteor_jobs{status!~"succeeded|failed|cancelled"})', "{{status}}"),
        ]),
        Panel("Jobs that ended, per hour", "short", [
            Query(per_hour("meteor_jobs_ended_total", "kind, status"), "{{kind}} {{status}}"),
        ]),
        Panel("Duration of jobs that succeeded", "s", [
            Query("histogram_quantile(0.5, sum by (kind, le) (increase(meteor_job_seconds_bucket[1d])))", "{{kind}} median"),
            Query("histogram_quantile(0.9, sum by (kind, le) (increase(meteor_job_seconds_bucket[1d])))", "{{kind}} 90 %"),
        ]),
        Panel("Error of the time left that jobs told", "percentunit", [
            Query("histogram_quantile(0.5, sum by (le) (increase(meteor_job_eta_error_ratio_bucket[7d])))", "median"),
            Query("histogram_quantile(0.9, sum by (le) (increase(meteor_job_eta_error_ratio_bucket[7d])))", "90 %"),
        ]),
        Panel("Training", "short", [Query("max(meteor_training_tokens_per_second)", "tokens/s")]),
        Panel("Metrics sent to integrations, per hour", "short", [
            Query(per_hour("meteor_integration_sends_total", "type, outcome"), "{{type}} {{outcome}}"),
        ]),
    ],
    "Queues and steps": [
        Panel("Waiting steps", "short", [Query('max by (queue) (meteor_steps{state="queued"})', "{{queue}}")]),
        Panel("Age of the oldest step that could begin", "s", [
            Query("max by (queue) (meteor_oldest_ready_step_seconds)", "{{queue}}"),
        ]),
        Panel("Busy share of the workers", "percentunit", [
            Query('max by (queue) (meteor_steps{state="running"}) / (max by (queue) (meteor_worker_slots) > 0)', "{{queue}}"),
        ]),
        Panel("Attempts per second, by outcome", "ops", [Query(rate("meteor_step_attempts_total", "outcome"), "{{outcome}}")]),
        Panel("Lost, failed and retried, per hour", "short", [
            Query(per_hour("meteor_step_attempts_total", "kind, outcome", 'outcome=~"lost|failed|retried"'), "{{kind}} {{outcome}}"),
        ]),
        Panel("Duration of steps, 90 %", "s", [Query(quantile(0.9, "meteor_step_seconds", "kind"), "{{kind}}")]),
    ],
    "Serving": [
        Panel("Requests per second, by status", "reqps", [Query(rate("meteor_http_requests_total", "service, status"), "{{service}} {{status}}")]),
        Panel("Start of answers, 95 %", "s", [Query(quantile(0.95, "meteor_http_seconds", "service"), "{{service}}")]),
        Panel("Slowest routes of the API, 95 %", "s", [
            Query("topk(5, " + quantile(0.95, "meteor_http_seconds", "route", 'service="api"') + ")", "{{route}}"),
        ]),
        Panel("Chats per second", "reqps", [Query(rate("meteor_chat_requests_total", "alias, version, role"), "{{alias}}@{{version}} {{role}}")]),
        Panel("Share of chats that fail", "percentunit", [
            Query(
                share("meteor_chat_requests_total", "alias, version", 'outcome="error"'),
                "{{alias}}@{{version}}",
            ),
        ]),
        Panel("Whole answers and first tokens, 95 %", "s", [
            Query(quantile(0.95, "meteor_chat_seconds", "alias, version"), "{{alias}}@{{version}} whole"),
            Query(quantile(0.95, "meteor_chat_first_seconds", "alias, version"), "{{alias}}@{{version}} first"),
        ]),
        Panel("Starts and failures of vLLM, per hour", "short", [
            Query("increase(meteor_engine_starts_total[1h])", "starts"),
            Query("increase(meteor_engine_failures_total[1h])", "failures"),
            Query("increase(meteor_engine_sleeps_total[1h])", "sleeps"),
            Query("increase(meteor_engine_wakes_total[1h])", "wakes"),
        ]),
        Panel("Answers to the engine's fixed prompt, per hour", "short", [
            Query("increase(meteor_engine_probes_total[1h])", "{{outcome}}"),
        ]),
        Panel("Canaries", "short", [Query("max by (state) (meteor_canaries)", "{{state}}")], 4),
        Panel("Canaries decided, per day", "short", [
            Query("max by (outcome) (increase(meteor_canary_decisions_total[1d]))", "{{outcome}}"),
        ], 4),
        Panel("Chats stored and not stored, per hour", "short", [
            Query(per_hour("meteor_chats_stored_total", "project"), "{{project}} stored"),
            Query(per_hour("meteor_chats_not_stored_total", "project, reason"), "{{project}} {{reason}}"),
        ]),
    ],
    "Storage and webhooks": [
        Panel("Stored bytes", "bytes", [Query("max by (place) (meteor_stored_bytes)", "{{place}}")]),
        Panel("Webhook messages", "short", [Query("max by (state) (meteor_webhook_deliveries)", "{{state}}")]),
        Panel("Attempts to deliver, per second", "ops", [Query(rate("meteor_webhook_attempts_total", "outcome"), "{{outcome}}")]),
        Panel("Memory of api and gateway", "bytes", [Query("process_resident_memory_bytes", "{{job}}")]),
    ],
}  # fmt: skip

SPEND: Rows = {
    "Money": [
        Panel("Spent in this range", "currencyUSD", [
            Query("sum by (provider) (increase(meteor_teacher_usd_total[$__range]))", "{{provider}}"),
        ], 6, "stat"),
        Panel("Fullest budget of each kind", "percentunit", [
            Query("max by (budget) (meteor_budget_used_ratio)", "{{budget}}"),
        ], 10, "bargauge"),
        Panel("Budgets with a limit", "short", [Query("max by (budget) (meteor_budgets_limited)", "{{budget}}")], 8, "stat"),
        Panel("USD per hour", "currencyUSD", [Query(per_hour("meteor_teacher_usd_total", "provider"), "{{provider}}")]),
        Panel("Tokens per second", "short", [
            Query(rate("meteor_teacher_tokens_total", "provider, direction"), "{{provider}} {{direction}}"),
        ]),
        Panel("USD per million tokens", "currencyUSD", [
            Query(
                f"1e6 * {rate('meteor_teacher_usd_total', 'provider')} / {rate('meteor_teacher_tokens_total', 'provider')}", "{{provider}}"
            ),
        ]),
    ],
    "Teacher and judge": [
        Panel("Calls per second, by outcome", "reqps", [
            Query(rate("meteor_teacher_calls_total", "provider, outcome"), "{{provider}} {{outcome}}"),
        ]),
        Panel("Share of calls answered from the cache", "percentunit", [
            Query(
                share("meteor_teacher_calls_total", "provider", 'outcome="cached"'),
                "{{provider}}",
            ),
        ]),
        Panel("Share of calls without an answer", "percentunit", [
            Query(
                share("meteor_teacher_calls_total", "provider", 'outcome!~"ok|cached|cut_off|thought"'),
                "{{provider}}",
            ),
        ]),
        Panel("Latency", "s", [
            Query(quantile(0.5, "meteor_teacher_latency_seconds", "provider"), "{{provider}} median"),
            Query(quantile(0.95, "meteor_teacher_latency_seconds", "provider"), "{{provider}} 95 %"),
        ]),
        Panel("Calls at once: now, and at most", "short", [
            Query("max by (provider) (meteor_teacher_calls_open)", "{{provider}} open"),
            Query("max by (provider) (meteor_teacher_concurrency)", "{{provider}} limit"),
        ]),
        Panel("Circuit breaker open", "bool_yes_no", [Query("max by (provider) (meteor_teacher_breaker_open)", "{{provider}}")]),
        Panel("Answers that met their JSON schema", "percentunit", [
            Query(
                share("meteor_teacher_structured_total", "provider", 'met="true"'),
                "{{provider}}",
            ),
        ]),
        Panel("Failovers, joined and changed requests, per hour", "short", [
            Query(per_hour("meteor_teacher_failovers_total", "provider"), "{{provider}} failed over"),
            Query("sum(increase(meteor_teacher_joined_total[1h]))", "joined"),
            Query(per_hour("meteor_teacher_changed_total", "provider, field"), "{{provider}} {{field}} changed"),
        ]),
    ],
    "What jobs do": [
        Panel("Jobs at work", "short", [Query('max by (status) (meteor_jobs{status=~"running|pausing|paused|queued"})', "{{status}}")]),
        Panel("Steps of teacher and judge per minute", "short", [
            Query('60 * max by (kind) (rate(meteor_step_attempts_total{kind=~"strong.*|judge.*",outcome="succeeded"}[$__rate_interval]))', "{{kind}}"),
        ]),
        Panel("Steps taken over from earlier jobs, per hour", "short", [
            Query(per_hour("meteor_step_attempts_total", "kind", 'outcome="reused"'), "{{kind}}"),
        ]),
        Panel("Time per step of the student", "s", [Query(quantile(0.5, "meteor_step_seconds", "kind", 'kind=~"weak.*"'), "{{kind}}")]),
        Panel("Tokens trained, per hour", "short", [Query("max(increase(meteor_trained_tokens_total[1h]))", "tokens")]),
        Panel("Time per training", "s", [Query('histogram_quantile(0.5, sum by (kind, le) (increase(meteor_step_seconds_bucket{kind=~"train.*"}[6h])))', "{{kind}}")]),
    ],
}  # fmt: skip


def panel(one: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + at),
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "datasource": SOURCE,
        }
        for at, query in enumerate(one.queries)
    ]
    return {
        "id": number,
        "type": one.kind,
        "title": one.title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": one.width, "h": HEIGHT if one.kind == "timeseries" else 4},
        "fieldConfig": {"defaults": {"unit": one.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def board(uid: str, title: str, rows: Rows) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for name, members in rows.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": name, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}
        )
        x, y, tallest = 0, y + 1, 0
        for one in members:
            if x + one.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            made = panel(one, len(panels) + 1, x, y)
            panels.append(made)
            x, tallest = x + one.width, max(tallest, made["gridPos"]["h"])
        y += tallest
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["meteor"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


BOARDS = {
    "operations.json": board("meteor-operations", "METEOR: operations", OPERATIONS),
    "spend.json": board("meteor-spend", "METEOR: jobs and spend", SPEND),
}


def text_of(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    for name, made in BOARDS.items():
        (HERE / name).write_text(text_of(made))
