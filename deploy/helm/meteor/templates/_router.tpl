{{/*
vllm-router in front of the engines. It watches the pods of this namespace, so that an engine that starts later or ends is known at once. It
passes the callers' token on and holds none.
*/}}
{{- define "meteor.router.command" -}}
- vllm-router
- --host=0.0.0.0
- --port=8103
- --prometheus-host=0.0.0.0
- --prometheus-port=8104
- --policy={{ .Values.router.policy }}
- --balance-abs-threshold={{ .Values.router.balanceAt }}
- --request-timeout-secs={{ .Values.router.requestSeconds }}
- --service-discovery
- --service-discovery-namespace={{ .Release.Namespace }}
- --service-discovery-port=8101
- --worker-startup-check-interval=5
- --worker-startup-timeout-secs={{ mul 60 (int .Values.engine.startMinutes) }}
- --health-check-interval-secs=10
- --selector
{{- range $name, $value := include "meteor.selector" . | fromYaml }}
- {{ $name }}={{ $value }}
{{- end }}
- app.kubernetes.io/component=engine
{{- end }}

{{/* The account that may see the pods of the namespace. */}}
{{- define "meteor.router.account" -}}
{{- ternary (printf "%s-router" (include "meteor.fullname" .)) (include "meteor.serviceAccount" .) .Values.serviceAccount.create -}}
{{- end }}
