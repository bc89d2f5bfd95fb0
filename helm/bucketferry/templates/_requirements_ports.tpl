{{/* Addresses and ports that clients can't reach, or that exclude each other. */}}
{{- define "bucketferry.problemsOfPorts" -}}
{{- $service := .Values.service }}
{{- $first := int .Values.passive.first }}
{{- $last := int .Values.passive.last }}
{{- if and (ne $service.type "ClusterIP") (include "bucketferry.ipv4" .) (not (include "bucketferry.address" .)) (not (include "bucketferry.discovery" .)) }}
{{ ternary "service.type is NodePort" "addressDiscovery.enabled is false" (eq $service.type "NodePort") }}, so the gateway knows no address but its pod's, to which no client outside can connect, and PASV would tell them that. Set config.passive.address to the address that clients connect to; or to connection, if PROXY headers tell that address or all clients use EPSV
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
{{- end }}
