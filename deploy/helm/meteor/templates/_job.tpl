{{/*
(dict "root" $ "name" "image" "args" "env" list "volumes" {claim: mode} "resources"): the template of a pod that ends.
*/}}
{{- define "meteor.job.template" -}}
metadata:
  labels:
    {{- include "meteor.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- include "meteor.pod.common" (dict "root" .root) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: {{ .name }}
      image: {{ include "meteor.image" (dict "root" .root "image" .image) }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: {{ concat (list "python" "-m") .args | toJson }}
      securityContext:
        {{- include "meteor.confined" . | nindent 8 }}
      env:
        {{- .env | trim | nindent 8 }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- range $claim, $mode := .volumes }}
        - {name: {{ $claim }}, mountPath: /{{ $claim }}}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: {{ default "1Gi" .scratch }}}
    {{- range $claim, $mode := .volumes }}
    - name: {{ $claim }}
      persistentVolumeClaim:
        claimName: {{ include "meteor.claim" (dict "root" $.root "claim" $claim) }}
    {{- end }}
{{- end }}
