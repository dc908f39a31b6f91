{{/* What the chart's pods have in common. */}}

{{/* One of this version's images, called with (list . "sidecar"). */}}
{{- define "llmservice.image" -}}
{{- $root := index . 0 }}
{{- printf "%s/%s:%s" $root.Values.images.repository (index . 1) ($root.Values.images.tag | default $root.Chart.AppVersion) }}
{{- end }}

{{- define "llmservice.operatorImage" -}}
{{- .Values.images.operator | default (include "llmservice.image" (list . "operator")) }}
{{- end }}

{{- define "llmservice.sidecarImage" -}}
{{- .Values.defaults.images.sidecar | default (include "llmservice.image" (list . "sidecar")) }}
{{- end }}

{{/* Pod Security "restricted". */}}
{{- define "llmservice.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "llmservice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "llmservice.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods run, called with the values that hold nodeSelector, affinity and tolerations. */}}
{{- define "llmservice.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the operator is told as a file; empty when nothing was set. */}}
{{- define "llmservice.defaults" -}}
{{- $file := dict }}
{{- with .Values.defaults.engineResources }}{{ $_ := set $file "engineResources" . }}{{ end }}
{{- with .Values.defaults.sidecarResources }}{{ $_ := set $file "sidecarResources" . }}{{ end }}
{{- $tracing := dict }}
{{- range $key, $value := .Values.defaults.tracing }}
{{- if $value }}{{ $_ := set $tracing $key $value }}{{ end }}
{{- end }}
{{- with $tracing }}{{ $_ := set $file "tracing" . }}{{ end }}
{{- with $file }}{{ toPrettyJson . }}{{ end }}
{{- end }}

{{- define "llmservice.monitoringLabels" -}}
{{- include "llmservice.labels" . }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}
