{{/* Addresses and ports that clients can't reach, or that exclude each other. */}}
{{- define "bucketferry.problemsOfPorts" -}}
{{- $service := .Values.service }}
{{- $first := int .Values.passive.first }}
{{- $last := int .Values.passive.last }}
{{- $outside := or (ne $service.type "ClusterIP") $service.externalIPs }}
{{- if and $outside (include "bucketferry.ipv4" .) (not (include "bucketferry.address" .)) (not (include "bucketferry.discovery" .)) }}
{{ get (dict "NodePort" "service.type is NodePort" "ClusterIP" "service.externalIPs is set" "LoadBalancer" "addressDiscovery.enabled is false") $service.type }}, so the gateway knows no address but its pod's, to which no client outside can connect, and PASV would tell them that. Set config.passive.address to the address that clients connect to; or to connection, if PROXY headers tell that address or all clients use EPSV
{{- end }}
{{- if gt $first $last }}
passive.first is {{ $first }}, after passive.last, which is {{ $last }}. Exchange them
{{- else if gt (sub $last $first) 999 }}
passive.first to passive.last are more than 1000 ports, and each is a port of the Service. Choose fewer: 20 to 40 serve hundreds of clients
{{- end }}
{{- range list 2121 2990 8080 }}
{{- if and (ge . $first) (le . $last) }}
port {{ . }} is needed for something else in the pod. Choose passive.first and passive.last without it
{{- end }}
{{- end }}
{{- range list $service.port (ternary $service.implicitTls.port 0 $service.implicitTls.enabled) }}
{{- if and (ge (int .) $first) (le (int .) $last) }}
port {{ . }} of the Service would be a passive port too. Choose another service.port or service.implicitTls.port, or other passive ports
{{- end }}
{{- end }}
{{- if and $service.implicitTls.enabled (eq (int $service.port) (int $service.implicitTls.port)) }}
service.port and service.implicitTls.port are the same. Choose two
{{- end }}
{{- include "bucketferry.problemsOfNodePorts" . }}
{{- include "bucketferry.problemsOfNlb" . }}
{{- end }}

{{/* Ports of nodes, which are those of the whole cluster. */}}
{{- define "bucketferry.problemsOfNodePorts" -}}
{{- $service := .Values.service }}
{{- $first := int .Values.passive.first }}
{{- $last := int .Values.passive.last }}
{{- if and (ne $service.type "ClusterIP") (include "bucketferry.passiveNodePorts" .) }}
{{- range $value, $port := dict "service.nodePort" $service.nodePort "service.implicitTls.nodePort" (ternary $service.implicitTls.nodePort 0 $service.implicitTls.enabled) }}
{{- if and (ge (int $port) $first) (le (int $port) $last) }}
{{ $value }} is {{ $port }}, which would be a passive port of the nodes too. Choose one that is not from {{ $first }} to {{ $last }}
{{- end }}
{{- end }}
{{- if and (or (lt $first 30000) (gt $last 32767)) (not .Values.skipApiChecks) }}
passive.first is {{ $first }} and passive.last is {{ $last }}, and they are node ports too, which Kubernetes has from 30000 to 32767. Choose both from there, best up to 30085; or set skipApiChecks=true if this cluster has another range
{{- end }}
{{- end }}
{{- if and $service.nodePort $service.implicitTls.enabled (eq (int $service.nodePort) (int $service.implicitTls.nodePort)) }}
service.nodePort and service.implicitTls.nodePort are the same. Choose two
{{- end }}
{{- end }}

{{/* What an AWS network load balancer can't do. */}}
{{- define "bucketferry.problemsOfNlb" -}}
{{- $annotation := "service.beta.kubernetes.io/aws-load-balancer" }}
{{- with .Values.service }}
{{- $annotations := .annotations | default dict }}
{{- $listeners := add 1 (ternary 1 0 .implicitTls.enabled) 1 (sub $.Values.passive.last $.Values.passive.first) }}
{{- if and (gt $listeners 50) (or (eq .loadBalancerClass "service.k8s.aws/nlb") (hasKey $annotations (printf "%s-type" $annotation))) }}
a network load balancer of AWS has 50 listeners at most, and {{ $listeners }} ports need one: service.port, service.implicitTls.port, and those from passive.first to passive.last. Choose fewer passive ports
{{- end }}
{{- $headers := or (hasKey $annotations (printf "%s-proxy-protocol" $annotation)) (contains "proxy_protocol_v2.enabled=true" (get $annotations (printf "%s-target-group-attributes" $annotation))) }}
{{- if and $headers (get $annotations (printf "%s-healthcheck-protocol" $annotation) | lower | hasPrefix "http") }}
a network load balancer of AWS that sends PROXY headers sends them with its health checks too, and /livez takes none. Set service.annotations."{{ $annotation }}-healthcheck-protocol" to tcp
{{- end }}
{{- end }}
{{- end }}
