{{/*
The processes, once. values: their place in values.yaml. args: behind `python -m`. ports. check: how a pod is asked, an HTTP path
of port http or `heartbeat`. secrets: variable -> key of the Secret (a trailing ? for one that may be missing). reaches: what a
NetworkPolicy lets it reach; reached: on which ports. drain: seconds that the process takes at most to end after SIGTERM.
queue: what KEDA counts. alive: another path for the startup and liveness probes. program: of another project, in place of `python -m` and
of our settings.
*/}}
{{- define "meteor.components" -}}
{{- $student := ternary "router" "engine" .Values.router.enabled -}}
{{- $state := dict "DATABASE_URL" "database-url" "REDIS_URL" "redis-url" "METEOR_INTERNAL_TOKEN" "internal-token" "OTEL_EXPORTER_OTLP_HEADERS" "otlp-headers?" "AWS_ACCESS_KEY_ID" "aws-access-key-id?" "AWS_SECRET_ACCESS_KEY" "aws-secret-access-key?" -}}
api:
  values: api
  image: api
  args: [services.api]
  ports: {http: 8000}
  check: /healthz
  volumes: {data: rw, models: ro}
  secrets: {{ merge (dict "METEOR_API_KEYS" "api-keys?" "METEOR_API_KEY_SECRET" "api-key-secret?" "METEOR_API_WEBHOOK_KEY" "webhook-key?" "METEOR_API_METRICS_TOKEN" "metrics-token?") $state | toJson }}
  reaches: [database, broker, {{ $student }}, gateway, web]
  linger: 5
  drain: 6
orchestrator:
  values: orchestrator
  image: orchestrator
  args: [services.orchestrator]
  check: heartbeat
  volumes: {data: rw, models: ro}
  secrets: {{ $state | toJson }}
  reaches: [database, broker]
  drain: 10
gateway:
  values: gateway
  image: strong-model
  args: [services.strong_model, gateway]
  ports: {http: 8200}
  check: /healthz
  volumes: {data: rw}
  secrets: {{ merge (dict "METEOR_TEACHER_API_KEY" "teacher-api-key?" "METEOR_TEACHER_HEADERS" "teacher-headers?" "METEOR_JUDGE_API_KEY" "judge-api-key?" "METEOR_JUDGE_HEADERS" "judge-headers?") $state | toJson }}
  reaches: [database, broker, web, providers]
  linger: 5
  drain: 7
weak-worker:
  values: weakWorker
  image: weak-model
  args: [services.weak_model, worker]
  queue: weak
  check: heartbeat
  volumes: {data: rw}
  secrets: {{ $state | toJson }}
  reaches: [database, broker, {{ $student }}]
  drain: 10
strong-worker:
  values: strongWorker
  image: strong-model
  args: [services.strong_model, worker]
  queue: strong
  check: heartbeat
  volumes: {data: rw}
  secrets: {{ $state | toJson }}
  reaches: [database, broker, gateway]
  drain: 10
judge:
  values: judge
  image: judge
  args: [services.judge]
  queue: judge
  check: heartbeat
  volumes: {data: rw}
  secrets: {{ $state | toJson }}
  reaches: [database, broker, gateway, web]
  drain: 10
trainer:
  values: trainer
  image: trainer-{{ .Values.trainer.device }}
  args: [services.trainer]
  queue: train
  check: heartbeat
  volumes: {data: rw, models: ro}
  secrets: {{ merge (dict "HF_TOKEN" "hf-token?" "METEOR_TRAINER_RAY_TOKEN" "ray-token?") $state | toJson }}
  reaches: [database, broker, ray{{ if .Values.trainer.hub }}, web{{ end }}]
  computes: true
  drain: 45
{{- if not .Values.engine.external.url }}
engine:
  values: engine
  image: engine-{{ .Values.engine.device }}
  args: [services.weak_model, engine]
  ports: {http: 8101, control: 8102}
  check: /health
  volumes: {data: ro, models: ro}
  secrets: {METEOR_INTERNAL_TOKEN: internal-token, AWS_ACCESS_KEY_ID: "aws-access-key-id?", AWS_SECRET_ACCESS_KEY: "aws-secret-access-key?"}
  reaches: []
  computes: true
  linger: 30
  drain: 12
{{- end }}
{{- if .Values.router.enabled }}
router:
  values: router
  image: weak-model
  program: {{ include "meteor.router.command" . | fromYamlArray | toJson }}
  ports: {http: 8103, metrics: 8104}
  check: /readiness
  alive: /liveness
  account: {{ include "meteor.router.account" . }}
  reaches: [engine, kubernetes]
  linger: 10
  drain: 60
{{- end }}
{{- end }}
