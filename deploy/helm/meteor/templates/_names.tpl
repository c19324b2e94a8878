{{- define "meteor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* At most 40 letters, so that every name with a component behind it stays within 63. */}}
{{- define "meteor.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "meteor.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What never changes over the life of a release: selectors are immutable. */}}
{{- define "meteor.selector" -}}
app.kubernetes.io/name: {{ include "meteor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "meteor.labels" -}}
{{ include "meteor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: meteor
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* (dict "root" $ "name" component): name, namespace and labels of an object that belongs to a component. */}}
{{- define "meteor.metadata" -}}
name: {{ include "meteor.fullname" .root }}-{{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "meteor.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "meteor.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "meteor.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* (dict "root" $ "image" short name) */}}
{{- define "meteor.image" -}}
{{- $name := printf "meteor-%s" .image -}}
{{- $at := printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) $name -}}
{{- with index .root.Values.image.digests $name -}}
{{- printf "%s@%s" $at . -}}
{{- else -}}
{{- printf "%s:%s" $at (default .root.Chart.AppVersion .root.Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "meteor.secret" -}}
{{- if .Values.secrets.external.enabled -}}
{{- include "meteor.fullname" . -}}
{{- else -}}
{{- .Values.secrets.existingSecret -}}
{{- end -}}
{{- end }}

{{/* (dict "root" $ "claim" data|models) */}}
{{- define "meteor.claim" -}}
{{- $claim := index .root.Values.storage .claim -}}
{{- default (printf "%s-%s" (include "meteor.fullname" .root) .claim) $claim.existingClaim -}}
{{- end }}
