{{/* Whether passive ports are node ports of the same numbers. */}}
{{- define "bucketferry.passiveNodePorts" -}}
{{- if or (eq .Values.service.type "NodePort") .Values.service.passiveNodePorts }}true{{ end }}
{{- end }}

{{/* The ports that clients connect to. */}}
{{- define "bucketferry.ports" -}}
{{- $service := .Values.service -}}
{{- $same := include "bucketferry.passiveNodePorts" . -}}
- name: ftp
  port: {{ $service.port }}
  targetPort: ftp
  protocol: TCP
  {{- if and $service.nodePort (ne $service.type "ClusterIP") }}
  nodePort: {{ $service.nodePort }}
  {{- end }}
{{- if $service.implicitTls.enabled }}
- name: ftps
  port: {{ $service.implicitTls.port }}
  targetPort: ftps
  protocol: TCP
  {{- if and $service.implicitTls.nodePort (ne $service.type "ClusterIP") }}
  nodePort: {{ $service.implicitTls.nodePort }}
  {{- end }}
{{- end }}
{{- /* A Service has no ranges, so each port is written out. */}}
{{- range $port := untilStep (int .Values.passive.first) (int (add1 .Values.passive.last)) 1 }}
- name: passive-{{ $port }}
  port: {{ $port }}
  targetPort: {{ $port }}
  protocol: TCP
  {{- if and $same (ne $service.type "ClusterIP") }}
  nodePort: {{ $port }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A Service that clients connect to: (dict "root" $ "name" NAME "pod" {} "selector" {}). */}}
{{- define "bucketferry.publicService" -}}
{{- $service := .root.Values.service -}}
{{- $balanced := eq $service.type "LoadBalancer" -}}
apiVersion: v1
kind: Service
metadata:
  {{- $annotations := merge (dict) (.pod.annotations | default dict) ($service.annotations | default dict) }}
  {{- include "bucketferry.metadata" (dict "root" .root "name" .name "labels" (merge (dict "app.kubernetes.io/component" "ftp") ($service.labels | default dict)) "annotations" $annotations) | nindent 2 }}
spec:
  type: {{ $service.type }}
  {{- if ne $service.type "ClusterIP" }}
  externalTrafficPolicy: {{ $service.externalTrafficPolicy }}
  {{- end }}
  {{- if $balanced }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . | quote }}
  {{- end }}
  {{- with .pod.loadBalancerIP | default $service.loadBalancerIP }}
  loadBalancerIP: {{ . | quote }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  allocateLoadBalancerNodePorts: {{ $service.allocateLoadBalancerNodePorts }}
  {{- end }}
  {{- with $service.externalIPs }}
  externalIPs:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $service.ipFamilies }}
  ipFamilies:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if include "bucketferry.perPod" .root }}
  # A pod that drains must still get the data connections of its sessions.
  publishNotReadyAddresses: true
  {{- end }}
  {{- if include "bucketferry.shared" .root }}
  # No selector: each pod writes EndpointSlices with the ports that are its own.
  {{- else }}
  selector:
    {{- include "bucketferry.selector" .root | nindent 4 }}
    {{- with .selector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  ports:
    {{- include "bucketferry.ports" .root | nindent 4 }}
{{- end }}
