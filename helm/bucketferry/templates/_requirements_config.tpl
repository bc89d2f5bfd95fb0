{{/* What `config` must leave to the chart, and what it needs of other values. */}}
{{- define "bucketferry.problemsOfConfig" -}}
{{- $config := include "bucketferry.settings" . | fromJson }}
{{- range $path, $advice := dict
  "ftp.listen" "the chart listens on port 2121 of the pod; the port for clients is service.port"
  "ftp.implicit_tls_listen" "use service.implicitTls"
  "passive.ports" "use passive.first and passive.last, which also make the ports of the Service"
  "passive.share" "use scaling.mode=shared and scaling.maxReplicas"
  "cluster.service" "use scaling.mode=shared"
  "cluster.pod" "use scaling.mode=shared"
  "cluster.withdrawal" "use preStopSeconds"
  "admin.listen" "probes and metrics are on port 8080 of the pod"
  "users.file" "use users.existingSecret or users.list"
  "tls.certificate" "use tls.existingSecret or tls.certManager"
  "tls.private_key" "use tls.existingSecret or tls.certManager"
  "tls.client_ca" "use tls.clientCA.existingSecret"
  "upload.spill_dir" "use spill.enabled"
}}
{{- $parts := splitList "." $path }}
{{- if dig (first $parts) (last $parts) "" $config }}
config.{{ $path }} is set by the chart: {{ $advice }}
{{- end }}
{{- end }}
{{- $stores := dict "config.store" (dig "store" (dict) $config) }}
{{- range $name, $store := dig "stores" (dict) $config }}{{ $_ := set $stores (printf "config.stores.%s" $name) $store }}{{ end }}
{{- range $path, $store := $stores }}
{{- if regexMatch "://[^/]*@" (dig "url" "" $store) }}
{{ $path }}.url has a user or a password in it, which everybody who may read ConfigMaps could read. Leave them out, and put credentials into a Secret: store.credentialsSecret
{{- end }}
{{- range $name, $value := dig "options" (dict) $store }}
{{- if and (kindIs "string" $value) (or (regexMatch "(?i)(key|key_base64|secret|password|token)$" $name) (regexMatch "://[^/]*@" $value)) }}
{{ $path }}.options.{{ $name }} would be readable by everybody who may read ConfigMaps. Put it into a Secret: as an environment variable, store.credentialsSecret; as a file, { file: PATH } here and the Secret in extraVolumes and extraVolumeMounts
{{- end }}
{{- end }}
{{- end }}
{{- if not (include "bucketferry.grace" .) }}
config.shutdown.grace is {{ dig "shutdown" "grace" "" $config | toString | quote }}, which is no duration from 1ms to 30days. Write it as 30s, 5m or 1h 30m
{{- end }}
{{- $source := dig "active" "enabled" false $config | ternary (dig "active" "source_port" 0 $config | int) 0 }}
{{- if and (gt $source 0) (lt $source 1024) (not (include "bucketferry.mayUseLowPorts" .)) }}
config.active.source_port is {{ $source }}, and only root with the capability NET_BIND_SERVICE may use ports below 1024. Leave it out; or set podSecurityContext.sysctls to [{name: net.ipv4.ip_unprivileged_port_start, value: "{{ $source }}"}], which the Restricted standard allows
{{- end }}
{{- include "bucketferry.problemsOfPaths" . }}
{{- include "bucketferry.problemsOfSecrets" . }}
{{- $limit := dig "limits" "memory" "" (.Values.resources | default dict) }}
{{- $memory := include "bucketferry.memory" . | fromJson }}
{{- $given := include "bucketferry.bytes" ($limit | default "none") }}
{{- if and $given (hasKey $memory "least") }}
{{- if lt (int64 $given) (mul ($memory.least | int64) 1048576) }}
resources.limits.memory is {{ $limit }}, but the program and all that sessions share may take {{ $memory.least }} MiB. Raise it to {{ $memory.least }}Mi, or better to {{ $memory.total }}Mi, which holds whatever clients do; or lower config.upload.memory, config.download.memory, config.limits.listing_memory, config.limits.hashing_memory or config.limits.socket_memory
{{- end }}
{{- end }}
{{- end }}

{{/* As root, with the capability; or because the kernel asks for none. */}}
{{- define "bucketferry.mayUseLowPorts" -}}
{{- $pod := .Values.podSecurityContext | default dict }}
{{- $container := .Values.securityContext | default dict }}
{{- $dropped := has "ALL" (dig "capabilities" "drop" list $container) }}
{{- $added := has "NET_BIND_SERVICE" (dig "capabilities" "add" list $container) }}
{{- $root := eq "0" (dig "runAsUser" (dig "runAsUser" "" $pod) $container | toString) }}
{{- if or (contains "net.ipv4.ip_unprivileged_port_start" (toJson $pod)) (and $root (or $added (not $dropped))) }}true{{ end }}
{{- end }}

{{/* Files that would be written where no volume is: the root of the container is read-only, or ends with the pod. */}}
{{- define "bucketferry.problemsOfPaths" -}}
{{- $url := include "bucketferry.storeUrl" . }}
{{- $settings := include "bucketferry.settings" . | fromJson }}
{{- $paths := dict "store.url" $url "log.xferlog" (dig "log" "xferlog" "none" $settings | toString) }}
{{- range $name, $store := dig "stores" (dict) $settings }}{{ $_ := set $paths (printf "stores.%s.url" $name) (dig "url" "" $store) }}{{ end }}
{{- range $setting, $written := $paths }}
{{- $path := $written }}
{{- if hasSuffix ".url" $setting }}
{{- $path = regexMatch "^(file:|[./])" $written | ternary (trimPrefix "file://" $written | trimPrefix "." | clean) "" }}
{{- end }}
{{- $covered := list }}
{{- if or (eq $path "none") (regexMatch "^/(dev|proc)/" $path) }}{{ $covered = list $path }}{{ end }}
{{- range include "bucketferry.mounts" $ | fromYamlArray }}
{{- if hasPrefix (printf "%s/" (clean .mountPath)) (printf "%s/" (clean $path)) }}{{ $covered = append $covered .mountPath }}{{ end }}
{{- end }}
{{- if and $path (not $covered) }}
config.{{ $setting }} is {{ $path }}, and no volume is mounted there. {{ get (dict "store.url" "Set persistence.enabled=true and leave config.store.url out" "log.xferlog" "Choose a file below /tmp") $setting | default "Take a bucket" }}; or mount a volume by extraVolumes and extraVolumeMounts
{{- end }}
{{- end }}
{{- end }}

{{/* Users and certificates, which have one source each. */}}
{{- define "bucketferry.problemsOfSecrets" -}}
{{- $config := include "bucketferry.settings" . | fromJson }}
{{- $hasCertificate := include "bucketferry.tlsSecret" . }}
{{- if and .Values.users.existingSecret .Values.users.list }}
users.existingSecret and users.list are both set. Choose one
{{- end }}
{{- with .Values.tls }}
{{- if and .existingSecret .certManager.enabled }}
tls.existingSecret and tls.certManager.enabled are both set. Choose one
{{- end }}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) }}
tls.certManager needs an issuer. Set tls.certManager.issuerRef.name
{{- end }}
{{- if and .certManager.enabled (not .certManager.dnsNames) (not .certManager.ipAddresses) }}
tls.certManager needs the names that clients connect to. Set tls.certManager.dnsNames
{{- end }}
{{- if and .certManager.enabled (eq .certManager.privateKey.algorithm "RSA") (not (kindIs "invalid" .certManager.privateKey.size)) (lt (int .certManager.privateKey.size) 2048) }}
tls.certManager.privateKey.size is {{ .certManager.privateKey.size }}, which is for ECDSA, and the algorithm is RSA. Set it to 2048 or more
{{- end }}
{{- if and (ne (dig "tls" "client_auth" "off" $config) "off") (not .clientCA.existingSecret) }}
config.tls.client_auth needs the authority that signs certificates of clients. Set tls.clientCA.existingSecret
{{- end }}
{{- end }}
{{- if and .Values.service.implicitTls.enabled (not $hasCertificate) }}
service.implicitTls needs a certificate. Set tls.existingSecret or tls.certManager
{{- end }}
{{- if and (has (dig "tls" "require" "none" $config) (list "control" "all")) (not $hasCertificate) }}
config.tls.require needs a certificate. Set tls.existingSecret or tls.certManager
{{- end }}
{{- end }}
