{{/* What can't work together, each as a line that says what to choose. */}}
{{- define "bucketferry.problems" -}}
{{- include "bucketferry.problemsOfScaling" . }}
{{- include "bucketferry.problemsOfSharing" . }}
{{- include "bucketferry.problemsOfPorts" . }}
{{- include "bucketferry.problemsOfConfig" . }}
{{- include "bucketferry.problemsOfApis" . }}
{{- end }}

{{- define "bucketferry.problemsOfScaling" -}}
{{- $perPod := include "bucketferry.perPod" . }}
{{- $name := include "bucketferry.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
objects would be named {{ $name | quote }}, and the name of a Service begins with a letter and has no dots. Set fullnameOverride to one of lower-case letters, digits and dashes
{{- end }}
{{- with .Values }}
{{- if and (gt (int .replicaCount) 1) (eq .scaling.mode "single") }}
replicaCount is {{ .replicaCount }}, but one Service sends the data connections of a client to any pod, not to the one that has its session. Choose replicaCount=1, which serves thousands of clients; or scaling.mode=shared: one address, and passive ports of its own for each pod; or scaling.mode=perPod: one address for each pod, all of them under one DNS name
{{- end }}
{{- if and $perPod (ne .service.type "LoadBalancer") }}
scaling.mode=perPod needs an address for each pod, and service.type={{ .service.type }} gives none. Choose service.type=LoadBalancer; or scaling.mode=single
{{- end }}
{{- if and $perPod (include "bucketferry.trial" $) }}
scaling.mode=perPod needs a store that all pods share. Set config.store.url to a bucket
{{- end }}
{{- if and $perPod .persistence.enabled (not (has "ReadWriteMany" .persistence.accessModes)) }}
scaling.mode=perPod can't share a volume that only one node may mount. Choose persistence.accessModes={ReadWriteMany}, or a bucket in config.store.url
{{- end }}
{{- if and $perPod (not (has (include "bucketferry.address" $) (list "" "connection"))) }}
config.passive.address would be the same for all pods, and with scaling.mode=perPod each has its own. Leave it out, so that each pod reads it from its Service
{{- end }}
{{- if and .scaling.perPod (not $perPod) }}
scaling.perPod has entries, but scaling.mode is {{ .scaling.mode }}. Choose scaling.mode=perPod, or use service.annotations
{{- end }}
{{- if gt (len (.scaling.perPod | default list)) (int .replicaCount) }}
scaling.perPod has {{ len (.scaling.perPod | default list) }} entries for {{ .replicaCount }} pods. Remove some, or raise replicaCount
{{- end }}
{{- if and $perPod (or .service.passiveNodePorts .service.nodePort .service.implicitTls.nodePort) }}
with scaling.mode=perPod, the Services of two pods would ask for the same node ports. Leave service.passiveNodePorts, service.nodePort and service.implicitTls.nodePort out
{{- end }}
{{- if and .minReadySeconds (eq .scaling.mode "single") }}
minReadySeconds is {{ .minReadySeconds }}, and for so long the new pod and the old one would both get connections, control and data of one client different ones. Choose 0; or scaling.mode=shared or perPod
{{- end }}
{{- if and $perPod .service.loadBalancerIP }}
service.loadBalancerIP is {{ .service.loadBalancerIP }}, and with scaling.mode=perPod the Service of each pod would ask for it. Use loadBalancerIP in scaling.perPod, one for each pod
{{- end }}
{{- include "bucketferry.problemsOfBudget" $ }}
{{- end }}
{{- end }}

{{/* What one Service for several pods needs. */}}
{{- define "bucketferry.problemsOfSharing" -}}
{{- if include "bucketferry.shared" . }}
{{- $most := int .Values.scaling.maxReplicas }}
{{- $ports := int (add1 (sub .Values.passive.last .Values.passive.first)) }}
{{- if gt (int .Values.replicaCount) $most }}
replicaCount is {{ .Values.replicaCount }}, more than scaling.maxReplicas, which is {{ $most }} and into which the passive ports are shared out. Choose fewer pods; or raise scaling.maxReplicas, which gives all pods other ports
{{- end }}
{{- if lt $ports $most }}
passive.first to passive.last are {{ $ports }} ports, and scaling.maxReplicas is {{ $most }}: each pod needs ports of its own. Choose more ports, 10 and more for each pod; or a lower scaling.maxReplicas
{{- else if gt (ceil (divf $ports $most)) 99.0 }}
passive.first to passive.last are {{ $ports }} ports for {{ $most }} pods, and an EndpointSlice has room for 99 of each pod. Choose fewer ports; or a higher scaling.maxReplicas
{{- end }}
{{- if include "bucketferry.trial" . }}
scaling.mode=shared needs a store that all pods share. Set config.store.url to a bucket
{{- end }}
{{- if and .Values.persistence.enabled (not (has "ReadWriteMany" .Values.persistence.accessModes)) }}
scaling.mode=shared can't use a volume that only one node may mount. Choose persistence.accessModes={ReadWriteMany}, or a bucket in config.store.url
{{- end }}
{{- include "bucketferry.problemsOfSharedTraffic" . }}
{{- end }}
{{- end }}

{{/* Whether connections reach the pod by the balancer alone, past the nodes. */}}
{{- define "bucketferry.balancerReachesPods" -}}
{{- $annotations := .Values.service.annotations | default dict }}
{{- $prefix := "service.beta.kubernetes.io/aws-load-balancer" }}
{{- $isIp := or (eq (get $annotations (printf "%s-nlb-target-type" $prefix)) "ip") (eq (get $annotations (printf "%s-type" $prefix)) "nlb-ip") }}
{{- if and $isIp (eq .Values.service.type "LoadBalancer") }}true{{ end }}
{{- end }}

{{/* Whether TLS alone tells whose a data connection is: all are encrypted, and each resumes the session of its control connection. */}}
{{- define "bucketferry.dataIsProven" -}}
{{- $config := include "bucketferry.settings" . | fromJson }}
{{- if and (dig "tls" "require_session_reuse" false $config) (eq (dig "tls" "require" "none" $config) "all") }}true{{ end }}
{{- end }}

{{/* Whether a data connection is known to be of its client, whatever nodes do to addresses. */}}
{{- define "bucketferry.dataIsKnown" -}}
{{- if or (include "bucketferry.addressesAreKnown" .) (include "bucketferry.dataIsProven" .) }}true{{ end }}
{{- end }}

{{/* The same, by its address: nobody changes it, or those who do are trusted, or tell it. */}}
{{- define "bucketferry.addressesAreKnown" -}}
{{- $outside := or (ne .Values.service.type "ClusterIP") .Values.service.externalIPs }}
{{- $config := include "bucketferry.settings" . | fromJson }}
{{- $attributes := get (.Values.service.annotations | default dict) "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes" }}
{{- if or (not $outside) (dig "passive" "trusted_networks" "" $config) (dig "ftp" "trusted_proxies" "" $config) }}true
{{- else if .Values.scaling.balancerKeepsAddresses }}true
{{- else if and (include "bucketferry.balancerReachesPods" .) (contains "preserve_client_ip.enabled=true" $attributes) }}true
{{- end }}
{{- end }}

{{- define "bucketferry.problemsOfSharedTraffic" -}}
{{- with .Values.service }}
{{- if or (ne .type "ClusterIP") .externalIPs }}
{{- if and (ne .type "ClusterIP") (eq .externalTrafficPolicy "Local") (not (include "bucketferry.balancerReachesPods" $)) }}
service.externalTrafficPolicy is Local, and with scaling.mode=shared a node would drop the data connections of pods that are on other nodes. Choose Cluster
{{- end }}
{{- if not (include "bucketferry.dataIsKnown" $) }}
with scaling.mode=shared, control and data connections of a client may come by different nodes, and nodes put their own address in place of the client's: the gateway would refuse the data connection as a stranger's. Set config.passive.trusted_networks to the networks of the nodes; or config.tls.require=all and config.tls.require_session_reuse=true, by which clients prove who they are; or scaling.balancerKeepsAddresses=true if nobody changes the addresses of clients
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A budget that lets no pod go. Percentages are rounded up, as Kubernetes does it. */}}
{{- define "bucketferry.problemsOfBudget" -}}
{{- $replicas := int .Values.replicaCount }}
{{- with .Values.podDisruptionBudget }}
{{- $chosen := kindIs "invalid" .minAvailable | ternary "maxUnavailable" "minAvailable" }}
{{- $text := get . $chosen | toString }}
{{- $pods := int $text }}
{{- if hasSuffix "%" $text }}
{{- $pods = mulf (trimSuffix "%" $text | float64) (divf $replicas 100.0) | ceil | int }}
{{- end }}
{{- if and .enabled (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable) }}
podDisruptionBudget has neither maxUnavailable nor minAvailable. Set one of them
{{- else if and .enabled (gt $replicas 0) (ternary (ge $pods $replicas) (le $pods 0) (eq $chosen "minAvailable")) }}
podDisruptionBudget.{{ $chosen }}={{ $text }} of {{ $replicas }} pods means that no node with a pod can ever be drained. Choose {{ ternary "less, or maxUnavailable" "more" (eq $chosen "minAvailable") }}
{{- end }}
{{- end }}
{{- end }}

{{/* Objects of others' APIs. */}}
{{- define "bucketferry.problemsOfApis" -}}
{{- $metrics := .Values.metrics }}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled }}
metrics.serviceMonitor and metrics.podMonitor would count everything twice. Choose one
{{- end }}
{{- range $value, $api := dict
  "metrics.serviceMonitor" (ternary "monitoring.coreos.com/v1/ServiceMonitor" "" $metrics.serviceMonitor.enabled)
  "metrics.podMonitor" (ternary "monitoring.coreos.com/v1/PodMonitor" "" $metrics.podMonitor.enabled)
  "metrics.prometheusRule" (ternary "monitoring.coreos.com/v1/PrometheusRule" "" $metrics.prometheusRule.enabled)
  "tls.certManager" (ternary "cert-manager.io/v1/Certificate" "" .Values.tls.certManager.enabled)
}}
{{- if and $api (not (include "bucketferry.hasApi" (dict "root" $ "api" $api))) }}
{{ $value }}.enabled needs {{ $api }}, which this cluster does not have. Install it first, or set skipApiChecks=true if Helm just can't see it
{{- end }}
{{- end }}
{{- end }}
