{{/* Names, labels, and small questions that several templates ask. */}}

{{- define "bucketferry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* At most 50 characters, so that "-metrics" and the pods' numbers fit into a label. */}}
{{- define "bucketferry.fullname" -}}
{{- $name := include "bucketferry.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "bucketferry.selector" -}}
app.kubernetes.io/name: {{ include "bucketferry.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "bucketferry.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "bucketferry.name" .) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "bucketferry.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bucketferry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The metadata of an object: (dict "root" $ "name" NAME "labels" {} "annotations" {} "namespace" ""). */}}
{{- define "bucketferry.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- /* Who comes first wins: by these labels objects are found. */}}
  {{- merge (include "bucketferry.labels" .root | fromYaml) (.labels | default dict) (.root.Values.commonLabels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "bucketferry.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "bucketferry.fullname" .) }}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "bucketferry.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "bucketferry.usersSecret" -}}
{{- if .Values.users.existingSecret -}}
{{- .Values.users.existingSecret }}
{{- else if .Values.users.list -}}
{{- include "bucketferry.fullname" . }}-users
{{- end }}
{{- end }}

{{- define "bucketferry.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{- .Values.tls.existingSecret }}
{{- else if .Values.tls.certManager.enabled -}}
{{- include "bucketferry.fullname" . }}-tls
{{- end }}
{{- end }}

{{- define "bucketferry.claim" -}}
{{- .Values.persistence.existingClaim | default (printf "%s-data" (include "bucketferry.fullname" .)) }}
{{- end }}

{{/* What `config` says of the store; nothing is a folder. */}}
{{- define "bucketferry.storeUrl" -}}
{{- dig "store" "url" "" (include "bucketferry.settings" . | fromJson) }}
{{- end }}

{{/* Whether files live and die with the pod: "true" or nothing. */}}
{{- define "bucketferry.trial" -}}
{{- if and (not (include "bucketferry.storeUrl" .)) (not .Values.persistence.enabled) }}true{{ end }}
{{- end }}

{{/* Whether pods share one Service. */}}
{{- define "bucketferry.shared" -}}
{{- if eq .Values.scaling.mode "shared" }}true{{ end }}
{{- end }}

{{/* Whether pods have names that stay: they are those of a StatefulSet. */}}
{{- define "bucketferry.stateful" -}}
{{- if or (include "bucketferry.perPod" .) (include "bucketferry.shared" .) }}true{{ end }}
{{- end }}

{{- define "bucketferry.perPod" -}}
{{- if eq .Values.scaling.mode "perPod" }}true{{ end }}
{{- end }}

{{/* Whether clients can come by IPv4, as far as the values say. Only then there is an address for PASV. */}}
{{- define "bucketferry.ipv4" -}}
{{- with .Values.service -}}
{{- if or (not .ipFamilies) (has "IPv4" .ipFamilies) (hasSuffix "DualStack" .ipFamilyPolicy) }}true{{ end }}
{{- end }}
{{- end }}

{{/* What `config` says of the address for PASV. */}}
{{- define "bucketferry.address" -}}
{{- dig "passive" "address" "" (include "bucketferry.settings" . | fromJson) }}
{{- end }}

{{/* Whether the gateway reads its address from its own Service. */}}
{{- define "bucketferry.discovery" -}}
{{- if and .Values.addressDiscovery.enabled (eq .Values.service.type "LoadBalancer") (include "bucketferry.ipv4" .) (not (include "bucketferry.address" .)) }}true{{ end }}
{{- end }}

{{/* The Services that the gateway reads an address from: JSON of their namespace and names, or nothing. */}}
{{- define "bucketferry.watched" -}}
{{- $address := include "bucketferry.address" . -}}
{{- if include "bucketferry.discovery" . -}}
{{- dict "namespace" .Release.Namespace "names" (include "bucketferry.publicServices" . | trim | splitList "\n") | toJson }}
{{- else if hasPrefix "service:" $address -}}
{{- $parts := trimPrefix "service:" $address | splitList "/" -}}
{{- dict "namespace" (first $parts) "names" (last $parts | list) | toJson }}
{{- end }}
{{- end }}

{{/* The names of the Services that clients connect to, one a line; the first one's even where there is no pod. */}}
{{- define "bucketferry.publicServices" -}}
{{- if include "bucketferry.perPod" . -}}
{{- range $number := until (int (max 1 .Values.replicaCount)) }}
{{ include "bucketferry.fullname" $ }}-{{ $number }}
{{- end }}
{{- else }}
{{ include "bucketferry.fullname" . }}
{{- end }}
{{- end }}

{{/* The API is there, or the values say not to look: (dict "root" $ "api" "group/version/Kind"). */}}
{{- define "bucketferry.hasApi" -}}
{{- if or .root.Values.skipApiChecks (.root.Capabilities.APIVersions.Has .api) }}true{{ end }}
{{- end }}
