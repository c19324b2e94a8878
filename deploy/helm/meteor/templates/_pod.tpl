{{/* Of every container of ours. */}}
{{- define "meteor.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* (dict "root" $ "account" one with rights of its own, or none): what every pod has: account, security, image secrets. */}}
{{- define "meteor.pod.common" -}}
serviceAccountName: {{ default (include "meteor.serviceAccount" .root) .account }}
automountServiceAccountToken: {{ not (empty .account) }}
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.pod.securityContext | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "name" component "facts" "own"): how the pod is asked. A worker is alive while database or broker are away. */}}
{{- define "meteor.probes" -}}
{{- if eq .facts.check "heartbeat" -}}
startupProbe:
  exec: {command: [python, deploy/healthcheck.py, heartbeat]}
  periodSeconds: 10
  timeoutSeconds: 15
  failureThreshold: 30
readinessProbe:
  exec: {command: [python, deploy/healthcheck.py, heartbeat]}
  periodSeconds: 60
  timeoutSeconds: 15
  failureThreshold: 2
livenessProbe:
  exec: {command: [python, deploy/healthcheck.py, alive]}
  periodSeconds: 60
  timeoutSeconds: 15
  failureThreshold: 3
{{- else -}}
{{- $control := hasKey .facts.ports "control" -}}
{{- $alive := ternary "/status" (default .facts.check .facts.alive) $control }}
startupProbe:
  httpGet: {path: {{ $alive }}, port: {{ ternary "control" "http" $control }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  httpGet: {path: {{ .facts.check }}, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: {{ $alive }}, port: {{ ternary "control" "http" $control }}}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}
{{- end }}

{{/* (dict "root" $ "name" "facts" "own") */}}
{{- define "meteor.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- range $claim, $mode := .facts.volumes }}
- name: {{ $claim }}
  mountPath: /{{ $claim }}
  {{- if eq $mode "ro" }}
  readOnly: true
  {{- end }}
{{- end }}
{{- if .facts.computes }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- if .root.Values.caBundle.configMap }}
- {name: ca, mountPath: /etc/meteor-ca, readOnly: true}
{{- end }}
{{- if and (eq .name "gateway") .root.Values.providers.toml }}
- {name: providers, mountPath: /etc/meteor, readOnly: true}
{{- end }}
{{- end }}

{{- define "meteor.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ default "1Gi" .own.scratch }}}
{{- range $claim, $mode := .facts.volumes }}
- name: {{ $claim }}
  persistentVolumeClaim:
    claimName: {{ include "meteor.claim" (dict "root" $.root "claim" $claim) }}
{{- end }}
{{- if .facts.computes }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .own.sharedMemory }}}
{{- end }}
{{- with .root.Values.caBundle.configMap }}
- name: ca
  configMap:
    name: {{ . }}
    items: [{key: {{ $.root.Values.caBundle.key }}, path: ca.crt}]
{{- end }}
{{- if and (eq .name "gateway") .root.Values.providers.toml }}
- name: providers
  configMap: {name: {{ include "meteor.fullname" .root }}-providers}
{{- end }}
{{- end }}

{{/* Waits for the student that is being fetched, and makes the folder of adapters, which the engine cannot. */}}
{{- define "meteor.prepare" -}}
- name: prepare
  image: {{ include "meteor.image" (dict "root" .root "image" .facts.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import pathlib, sys, time
      serving, model = pathlib.Path("/data/serving"), pathlib.Path(sys.argv[1])
      serving.mkdir(parents=True, exist_ok=True)
      while not (model / "config.json").is_file():
          print(f"waiting for {model}", flush=True)
          time.sleep(10)
    - /models/{{ .root.Values.student.model }}
  securityContext:
    {{- include "meteor.confined" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: data, mountPath: /data}
    - {name: models, mountPath: /models, readOnly: true}
{{- end }}

{{/* The node's devices: the images without CUDA see none. */}}
{{- define "meteor.resources" -}}
{{- $resources := deepCopy .own.resources -}}
{{- if and .facts.computes (eq .own.device "gpu") -}}
{{- $gpus := dict .own.gpus.resource (toString .own.gpus.count) -}}
{{- $_ := set $resources "limits" (merge (dict) $gpus (default dict $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "meteor.spread" -}}
{{- $root := .root -}}{{- $name := .name -}}
{{- range $key, $when := dict "kubernetes.io/hostname" $root.Values.pod.topologySpread.hosts "topology.kubernetes.io/zone" $root.Values.pod.topologySpread.zones }}
{{- if $when }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ $when }}
  labelSelector:
    matchLabels:
      {{- include "meteor.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $name }}
{{- end }}
{{- end }}
{{- end }}
