{{/* What can't work together, each as a sentence that says what to choose; JSON of a list. */}}
{{- define "bucketferry.problems" -}}
{{- $values := .Values -}}
{{- $config := .Values.config -}}
{{- $perPod := include "bucketferry.perPod" . -}}
{{- $problems := list -}}

{{- if and (gt (int $values.replicaCount) 1) (not $perPod) -}}
{{- $problems = append $problems (printf "replicaCount is %d, but one Service sends the data connections of a client to any pod, not to the one that has its session. Choose replicaCount=1, which serves thousands of clients; or scaling.mode=perPod: one address for each pod, all of them under one DNS name" (int $values.replicaCount)) -}}
{{- end -}}
{{- if and $perPod (ne $values.service.type "LoadBalancer") -}}
{{- $problems = append $problems (printf "scaling.mode=perPod needs an address for each pod, and service.type=%s gives none. Choose service.type=LoadBalancer; or scaling.mode=single" $values.service.type) -}}
{{- end -}}
{{- if and $perPod (include "bucketferry.trial" .) -}}
{{- $problems = append $problems "scaling.mode=perPod needs a store that all pods share. Set config.store.url to a bucket" -}}
{{- end -}}
{{- if and $perPod $values.persistence.enabled (not $values.persistence.existingClaim) (not (has "ReadWriteMany" $values.persistence.accessModes)) -}}
{{- $problems = append $problems "scaling.mode=perPod can't share a volume that only one node may mount. Choose persistence.accessModes={ReadWriteMany}, or a bucket in config.store.url" -}}
{{- end -}}
{{- if and $perPod (dig "passive" "address" "" $config) (ne (dig "passive" "address" "" $config) "connection") -}}
{{- $problems = append $problems "config.passive.address would be the same for all pods, and with scaling.mode=perPod each has its own. Leave it out, so that each pod reads it from its Service" -}}
{{- end -}}
{{- if and $values.scaling.perPod (not $perPod) -}}
{{- $problems = append $problems "scaling.perPod has entries, but scaling.mode is single. Choose scaling.mode=perPod, or use service.annotations" -}}
{{- end -}}
{{- if gt (len $values.scaling.perPod) (int $values.replicaCount) -}}
{{- $problems = append $problems (printf "scaling.perPod has %d entries for %d pods. Remove some, or raise replicaCount" (len $values.scaling.perPod) (int $values.replicaCount)) -}}
{{- end -}}

{{- if and (ne $values.service.type "ClusterIP") (include "bucketferry.ipv4" .) (not (include "bucketferry.address" .)) (not (include "bucketferry.discovery" .)) -}}
{{- $problems = append $problems (printf "%s, so the gateway knows no address but its pod's, to which no client outside can connect, and PASV would tell them that. Set config.passive.address to the address that clients connect to; or to connection, if PROXY headers tell that address or all clients use EPSV" (ternary "service.type is NodePort" "addressDiscovery.enabled is false" (eq $values.service.type "NodePort"))) -}}
{{- end -}}

{{- range $path, $advice := dict
  "ftp.listen" "the chart listens on port 2121 of the pod; the port for clients is service.port"
  "ftp.implicit_tls_listen" "use service.implicitTls"
  "passive.ports" "use passive.first and passive.last, which also make the ports of the Service"
  "admin.listen" "probes and metrics are on port 8080 of the pod; the port for Prometheus is metrics.service.port"
  "users.file" "use users.existingSecret or users.list"
  "tls.certificate" "use tls.existingSecret or tls.certManager"
  "tls.private_key" "use tls.existingSecret or tls.certManager"
  "tls.client_ca" "use tls.clientCA.existingSecret"
  "upload.spill_dir" "use spill.enabled"
-}}
{{- $parts := splitList "." $path -}}
{{- if dig (first $parts) (last $parts) "" $config -}}
{{- $problems = append $problems (printf "config.%s is set by the chart: %s" $path $advice) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := dig "store" "options" (dict) $config -}}
{{- if and (kindIs "string" $value) (regexMatch "(secret|password|token|sas_key|account_key|access_key|service_account_key)$" $name) -}}
{{- $problems = append $problems (printf "config.store.options.%s would be readable by everybody who may read ConfigMaps. Put it into a Secret: as an environment variable, store.credentialsSecret; as a file, { file: PATH } here and the Secret in extraVolumes and extraVolumeMounts" $name) -}}
{{- end -}}
{{- end -}}

{{- if and $values.users.existingSecret $values.users.list -}}
{{- $problems = append $problems "users.existingSecret and users.list are both set. Choose one" -}}
{{- end -}}
{{- if and $values.tls.existingSecret $values.tls.certManager.enabled -}}
{{- $problems = append $problems "tls.existingSecret and tls.certManager.enabled are both set. Choose one" -}}
{{- end -}}
{{- with $values.tls.certManager -}}
{{- if and .enabled (not .issuerRef.name) -}}
{{- $problems = append $problems "tls.certManager needs an issuer. Set tls.certManager.issuerRef.name" -}}
{{- end -}}
{{- if and .enabled (not .dnsNames) (not .ipAddresses) -}}
{{- $problems = append $problems "tls.certManager needs the names that clients connect to. Set tls.certManager.dnsNames" -}}
{{- end -}}
{{- end -}}
{{- if not (include "bucketferry.tlsSecret" .) -}}
{{- if $values.service.implicitTls.enabled -}}
{{- $problems = append $problems "service.implicitTls needs a certificate. Set tls.existingSecret or tls.certManager" -}}
{{- end -}}
{{- if has (dig "tls" "require" "none" $config) (list "control" "all") -}}
{{- $problems = append $problems "config.tls.require needs a certificate. Set tls.existingSecret or tls.certManager" -}}
{{- end -}}
{{- end -}}
{{- if and (ne (dig "tls" "client_auth" "off" $config) "off") (not $values.tls.clientCA.existingSecret) -}}
{{- $problems = append $problems "config.tls.client_auth needs the authority that signs certificates of clients. Set tls.clientCA.existingSecret" -}}
{{- end -}}

{{- if gt (int $values.passive.first) (int $values.passive.last) -}}
{{- $problems = append $problems (printf "passive.first is %d, after passive.last, which is %d. Exchange them" (int $values.passive.first) (int $values.passive.last)) -}}
{{- else if gt (sub (int $values.passive.last) (int $values.passive.first)) 999 -}}
{{- $problems = append $problems "passive.first to passive.last are more than 1000 ports, and each is a port of the Service. Choose fewer: 20 to 40 serve hundreds of clients" -}}
{{- end -}}
{{- range list 2121 2990 8080 -}}
{{- if and (ge . (int $values.passive.first)) (le . (int $values.passive.last)) -}}
{{- $problems = append $problems (printf "port %d is needed for something else in the pod. Choose passive.first and passive.last without it" .) -}}
{{- end -}}
{{- end -}}
{{- range list $values.service.port (ternary $values.service.implicitTls.port 0 $values.service.implicitTls.enabled) -}}
{{- if and (ge (int .) (int $values.passive.first)) (le (int .) (int $values.passive.last)) -}}
{{- $problems = append $problems (printf "port %d of the Service would be a passive port too. Choose another service.port or service.implicitTls.port, or other passive ports" (int .)) -}}
{{- end -}}
{{- end -}}
{{- if and $values.service.implicitTls.enabled (eq (int $values.service.port) (int $values.service.implicitTls.port)) -}}
{{- $problems = append $problems "service.port and service.implicitTls.port are the same. Choose two" -}}
{{- end -}}
{{- if and $perPod (or $values.service.passiveNodePorts $values.service.nodePort $values.service.implicitTls.nodePort) -}}
{{- $problems = append $problems "with scaling.mode=perPod, the Services of two pods would ask for the same node ports. Leave service.passiveNodePorts, service.nodePort and service.implicitTls.nodePort out" -}}
{{- end -}}

{{- if not (include "bucketferry.grace" .) -}}
{{- $problems = append $problems (printf "config.shutdown.grace is %q, which is no duration. Write it as 30s, 5m or 1h 30m" (dig "shutdown" "grace" "" $config | toString)) -}}
{{- end -}}
{{- with $values.podDisruptionBudget -}}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "string" .minAvailable)) -}}
{{- if ge (int .minAvailable) (int $values.replicaCount) -}}
{{- $problems = append $problems (printf "podDisruptionBudget.minAvailable=%d of %d pods means that no node with a pod can ever be drained. Choose less, or maxUnavailable" (int .minAvailable) (int $values.replicaCount)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $limit := dig "limits" "memory" "" $values.resources -}}
{{- if $limit -}}
{{- $upload := include "bucketferry.mebibytes" (dig "upload" "memory" "256 MiB" $config) -}}
{{- $download := include "bucketferry.mebibytes" (dig "download" "memory" "64 MiB" $config) -}}
{{- $given := include "bucketferry.mebibytes" $limit -}}
{{- if and $upload $download $given -}}
{{- $needed := add $upload $download 150 -}}
{{- if lt (int64 $given) (int64 $needed) -}}
{{- $problems = append $problems (printf "resources.limits.memory is %s, but uploads may take %s MiB, downloads %s MiB, and everything else 150 MiB. Raise it to %dMi, or lower config.upload.memory" (toString $limit) $upload $download $needed) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with $values.metrics -}}
{{- if and .serviceMonitor.enabled .podMonitor.enabled -}}
{{- $problems = append $problems "metrics.serviceMonitor and metrics.podMonitor would count everything twice. Choose one" -}}
{{- end -}}
{{- end -}}
{{- range $value, $api := dict
  "metrics.serviceMonitor" (ternary "monitoring.coreos.com/v1/ServiceMonitor" "" $values.metrics.serviceMonitor.enabled)
  "metrics.podMonitor" (ternary "monitoring.coreos.com/v1/PodMonitor" "" $values.metrics.podMonitor.enabled)
  "metrics.prometheusRule" (ternary "monitoring.coreos.com/v1/PrometheusRule" "" $values.metrics.prometheusRule.enabled)
  "tls.certManager" (ternary "cert-manager.io/v1/Certificate" "" $values.tls.certManager.enabled)
-}}
{{- if and $api (not (include "bucketferry.hasApi" (dict "root" $ "api" $api))) -}}
{{- $problems = append $problems (printf "%s.enabled needs %s, which this cluster does not have. Install it first, or set skipApiChecks=true if Helm just can't see it" $value $api) -}}
{{- end -}}
{{- end -}}
{{- toJson $problems }}
{{- end }}
