{{- define "bulkhead.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "bulkhead.labels" -}}
app.kubernetes.io/name: bulkhead
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Of one part (controller or node): what selects its Pods never changes. */}}
{{- define "bulkhead.selector" -}}
app.kubernetes.io/name: bulkhead
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "bulkhead.name" -}}
{{ .root.Release.Name }}-{{ .part }}
{{- end }}

{{/* Of both programs, as long as metrics are served to the cluster. */}}
{{- define "bulkhead.metricsArgs" -}}
{{- if .Values.metrics.enabled }}
- --secure-metrics-address=:{{ .Values.metrics.port }}
{{- if .Values.metrics.tlsSecret }}
- --metrics-cert-file=/etc/bulkhead/metrics-tls/tls.crt
- --metrics-key-file=/etc/bulkhead/metrics-tls/tls.key
{{- end }}
{{- end }}
{{- end }}
