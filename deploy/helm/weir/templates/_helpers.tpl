{{- define "weir.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "weir.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "weir.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are selected by: never to change, or an upgrade is refused. */}}
{{- define "weir.selectorLabels" -}}
app.kubernetes.io/name: {{ include "weir.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
{{ include "weir.selectorLabels" . }}
app.kubernetes.io/component: service-proxy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "weir.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "weir.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The KubeProxyConfiguration, as a file. */}}
{{- define "weir.config" -}}
{{- $kind := dict "apiVersion" "kubeproxy.config.k8s.io/v1alpha1" "kind" "KubeProxyConfiguration" -}}
{{- merge $kind .Values.config | toYaml -}}
{{- end -}}

{{/* A probe of `path` at the health server, which answers the kubelet at the node's address unless it
     is bound to another. */}}
{{- define "weir.probe" -}}
{{- $address := regexReplaceAll ":[0-9]+$" .address "" | trimAll "[]" -}}
httpGet:
  path: {{ .path }}
  port: {{ regexFind "[0-9]+$" .address }}
  {{- if not (has $address (list "0.0.0.0" "::")) }}
  host: {{ $address | quote }}
  {{- end }}
{{- end -}}

{{/* Where pins live in the container, for `weir run` and for every verb that people exec in it. */}}
{{- define "weir.env" -}}
- name: WEIR_BPFFS
  value: /run/bpffs
{{- end -}}

{{/* Whose sockets are balanced: `off` without quotes is a boolean to YAML. */}}
{{- define "weir.socketBalancing" -}}
{{- .Values.socketBalancing | default "off" -}}
{{- end -}}

{{/* Whether programs come onto a control group of the node, which must then be there to see. */}}
{{- define "weir.needsCgroup" -}}
{{- if and (eq .Values.action "run") (ne (include "weir.socketBalancing" .) "off") }}true{{ end -}}
{{- end -}}

{{/* What every container that runs weir has: the image, what it may do, where it may write. */}}
{{- define "weir.container" -}}
image: {{ include "weir.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add: [BPF, NET_ADMIN, PERFMON{{ range .Values.extraCapabilities }}, {{ . }}{{ end }}]
  {{- with .Values.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
volumeMounts:
# Not below /sys, where the runtimes' AppArmor profile forbids writing.
- name: bpffs
  mountPath: /run/bpffs
- name: state
  mountPath: /run/weir
{{- end -}}
