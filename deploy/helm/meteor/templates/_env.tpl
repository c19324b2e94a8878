{{/* Whether the one engine swaps models on request. Behind several, or a router, a request for a model would reach any of them. */}}
{{- define "meteor.engine.swaps" -}}
{{- $engine := .Values.engine -}}
{{- if $engine.external.url -}}
{{- if $engine.external.controlUrl }}yes{{ end -}}
{{- else if and (eq (int $engine.replicas) 1) (not $engine.autoscaling.enabled) (not .Values.router.enabled) -}}
yes
{{- end -}}
{{- end }}

{{- define "meteor.engine.url" -}}
{{- $ours := ternary "router:8103" "engine:8101" .Values.router.enabled -}}
{{- default (printf "http://%s-%s" (include "meteor.fullname" .) $ours) .Values.engine.external.url -}}
{{- end }}

{{- define "meteor.engine.control" -}}
{{- if include "meteor.engine.swaps" . -}}
{{- default (printf "http://%s-engine-control:8102" (include "meteor.fullname" .)) .Values.engine.external.controlUrl -}}
{{- end -}}
{{- end }}

{{- define "meteor.gateway.url" -}}
http://{{ include "meteor.fullname" . }}-gateway:8200
{{- end }}

{{/* Which students there are and how they are prompted. */}}
{{- define "meteor.env.student" -}}
{{- $student := .Values.student -}}
METEOR_STUDENT_MODEL: {{ $student.model | quote }}
METEOR_STUDENT_PATH: {{ printf "/models/%s" $student.model | quote }}
{{- if $student.others }}
{{- $others := list }}
{{- range $name, $folder := $student.others }}{{ $others = append $others (printf "%s=/models/%s" $name $folder) }}{{ end }}
METEOR_STUDENTS: {{ join "," $others | quote }}
{{- end }}
{{- with $student.template }}
METEOR_STUDENT_TEMPLATE: {{ printf "/models/%s" . | quote }}
{{- end }}
{{- with $student.templateArgs }}
METEOR_STUDENT_TEMPLATE_ARGS: {{ toJson . | quote }}
{{- end }}
{{- end }}

{{- define "meteor.env.api" -}}
{{ include "meteor.env.student" . }}
METEOR_API_HOST: 0.0.0.0
METEOR_API_PORT: "8000"
METEOR_API_ENGINE_URL: {{ include "meteor.engine.url" . }}
METEOR_API_ENGINE_CONTROL_URL: {{ include "meteor.engine.control" . | quote }}
METEOR_API_GATEWAY_URL: {{ include "meteor.gateway.url" . }}
METEOR_ENGINE_MAX_LORA_RANK: {{ .Values.engine.maxLoraRank | quote }}
METEOR_ENGINE_MAX_MODEL_LEN: {{ .Values.engine.maxModelLen | quote }}
{{- end }}

{{- define "meteor.env.orchestrator" -}}
{{ include "meteor.env.student" . }}
METEOR_ORCHESTRATOR_MAX_JOBS: {{ .Values.orchestrator.maxJobs | quote }}
METEOR_ENGINE_MAX_LORA_RANK: {{ .Values.engine.maxLoraRank | quote }}
{{- end }}

{{- define "meteor.env.gateway" -}}
METEOR_STRONG_HOST: 0.0.0.0
METEOR_STRONG_PORT: "8200"
METEOR_STRONG_CONCURRENCY: {{ .Values.gateway.concurrency | quote }}
{{- range $prefix, $model := dict "TEACHER" .Values.teacher "JUDGE" .Values.judgeModel }}
{{- range $name, $value := dict "BASE_URL" $model.baseUrl "MODEL" $model.model "PRICE_INPUT" $model.priceInput "PRICE_OUTPUT" $model.priceOutput }}
{{- if and $model.model $value }}
METEOR_{{ $prefix }}_{{ $name }}: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.providers.toml }}
METEOR_PROVIDERS_FILE: /etc/meteor/providers.toml
{{- end }}
{{- end }}

{{- define "meteor.env.weak-worker" -}}
METEOR_WEAK_SLOTS: {{ .Values.weakWorker.slots | quote }}
METEOR_WEAK_ENGINE_URL: {{ include "meteor.engine.url" . }}
METEOR_WEAK_ENGINE_CONTROL_URL: {{ include "meteor.engine.control" . | quote }}
{{- end }}

{{- define "meteor.env.strong-worker" -}}
METEOR_STRONG_SLOTS: {{ .Values.strongWorker.slots | quote }}
METEOR_STRONG_GATEWAY_URL: {{ include "meteor.gateway.url" . }}
{{- end }}

{{- define "meteor.env.judge" -}}
METEOR_JUDGE_SLOTS: {{ .Values.judge.slots | quote }}
METEOR_JUDGE_GATEWAY_URL: {{ include "meteor.gateway.url" . }}
{{- end }}

{{- define "meteor.env.trainer" -}}
{{ include "meteor.env.student" . }}
{{- with .Values.trainer.memoryGb }}
METEOR_TRAINER_MEMORY_GB: {{ toString . | quote }}
{{- end }}
{{- if eq .Values.trainer.device "gpu" }}
METEOR_TRAINER_GPUS: {{ untilStep 0 (int .Values.trainer.gpus.count) 1 | join "," | quote }}
{{- end }}
{{- if .Values.trainer.hub }}
HF_HUB_OFFLINE: "0"
{{- end }}
{{- end }}

{{/* The engine's sockets and prompt files are its own: several engines share the claim, and it reads that only. */}}
{{- define "meteor.env.engine" -}}
{{ include "meteor.env.student" . }}
METEOR_DATA: /tmp/meteor
METEOR_ENGINE_ADAPTERS: /data/serving
METEOR_ENGINE_HOST: 0.0.0.0
METEOR_ENGINE_PORT: "8101"
METEOR_ENGINE_CONTROL_PORT: "8102"
METEOR_ENGINE_MAX_MODEL_LEN: {{ .Values.engine.maxModelLen | quote }}
METEOR_ENGINE_MAX_NUM_SEQS: {{ .Values.engine.maxNumSeqs | quote }}
METEOR_ENGINE_MAX_LORA_RANK: {{ .Values.engine.maxLoraRank | quote }}
METEOR_ENGINE_GPU_MEMORY_UTILIZATION: {{ .Values.engine.gpuMemoryUtilization | quote }}
METEOR_ENGINE_START_TIMEOUT: {{ printf "PT%dM" (int .Values.engine.startMinutes) }}
{{- end }}

{{/* (dict "root" $ "secrets" {VARIABLE: key[?]}) */}}
{{- define "meteor.env.secrets" -}}
{{- $secret := include "meteor.secret" .root -}}
{{- range $name, $key := .secrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ trimSuffix "?" $key }}
      {{- if hasSuffix "?" $key }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "name" component "facts" its facts "own" its values): the whole list, each name once. */}}
{{- define "meteor.env" -}}
{{- $values := .root.Values -}}
{{- $all := dict "METEOR_DATA" "/data" "METEOR_LOG_JSON" (toString $values.logs.json) "METEOR_LOG_LEVEL" $values.logs.level -}}
{{- if $values.caBundle.configMap }}{{ $_ := set $all "METEOR_CA_BUNDLE" "/etc/meteor-ca/ca.crt" }}{{ end -}}
{{- $all = mergeOverwrite $all $values.settings .own.settings (include (printf "meteor.env.%s" .name) .root | fromYaml) -}}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- include "meteor.env.secrets" (dict "root" .root "secrets" .facts.secrets) }}
{{- end }}
