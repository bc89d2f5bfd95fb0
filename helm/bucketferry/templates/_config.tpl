{{/* The gateway's configuration as TOML. */}}

{{/* `config` without what null leaves out; JSON. */}}
{{- define "bucketferry.settings" -}}
{{- $kept := dict -}}
{{- range $section, $settings := .Values.config -}}
{{- $some := dict -}}
{{- range $name, $value := $settings -}}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $some $name $value }}{{ end -}}
{{- end -}}
{{- $_ := set $kept $section $some -}}
{{- end -}}
{{- toJson $kept }}
{{- end }}

{{/* What the file says: `config`, and what only the chart can know. As JSON.
     "[::]" is every address, IPv6 and IPv4: the kubelet may ask either, whatever the Service's families are. */}}
{{- define "bucketferry.configuration" -}}
{{- $config := include "bucketferry.settings" . | fromJson -}}
{{- $own := dict
  "ftp" (dict "listen" (list "[::]:2121"))
  "passive" (dict "ports" (printf "%d-%d" (int .Values.passive.first) (int .Values.passive.last)))
  "admin" (dict "listen" "[::]:8080")
-}}
{{- if .Values.service.implicitTls.enabled }}
{{- $_ := set $own.ftp "implicit_tls_listen" (list "[::]:2990") }}
{{- end }}
{{- if and (include "bucketferry.discovery" .) (not (include "bucketferry.perPod" .)) }}
{{- $_ := set $own.passive "address" (printf "service:%s/%s" .Release.Namespace (include "bucketferry.fullname" .)) }}
{{- end }}
{{- if include "bucketferry.shared" . }}
{{- $service := printf "%s/%s" .Release.Namespace (include "bucketferry.fullname" .) }}
{{- if and (include "bucketferry.dataIsProven" .) (not (include "bucketferry.addressesAreKnown" .)) }}
{{- /* By whichever node: TLS tells whose it is. */}}
{{- $_ := set $own.passive "trusted_networks" (list "0.0.0.0/0" "::/0") }}
{{- end }}
{{- $_ := set $own "cluster" (dict "service" $service "withdrawal" (printf "%ds" (include "bucketferry.withdrawal" . | int))) }}
{{- end }}
{{- if include "bucketferry.usersSecret" . }}
{{- $_ := set $own "users" (dict "file" "/etc/bucketferry/users/users.toml") }}
{{- end }}
{{- if include "bucketferry.tlsSecret" . }}
{{- $_ := set $own "tls" (dict "certificate" "/etc/bucketferry/tls/tls.crt" "private_key" "/etc/bucketferry/tls/tls.key") }}
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
{{- $_ := set $own "tls" (merge (dict "client_ca" "/etc/bucketferry/client-ca/ca.crt") ($own.tls | default dict)) }}
{{- end }}
{{- if not (include "bucketferry.storeUrl" .) }}
{{- $_ := set $own "store" (dict "url" "file:///data") }}
{{- end }}
{{- if .Values.spill.enabled }}
{{- $_ := set $own "upload" (dict "spill_dir" "/spill") }}
{{- end }}
{{- mergeOverwrite $config $own | toJson }}
{{- end }}

{{/* Settings before tables, as TOML wants it. Not `toToml`: it makes floats of whole numbers. */}}
{{- define "bucketferry.toml" -}}
{{- range $section, $settings := include "bucketferry.configuration" . | fromJson }}
{{- if $settings }}
[{{ $section }}]
{{- range $name, $value := $settings }}
{{- if not (kindIs "map" $value) }}
{{ $name }} = {{ include "bucketferry.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $name, $table := $settings }}
{{- if kindIs "map" $table }}

[{{ $section }}.{{ $name }}]
{{- range $key, $value := $table }}
{{- if not (kindIs "invalid" $value) }}
{{ include "bucketferry.tomlKey" $key }} = {{ include "bucketferry.tomlValue" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{- define "bucketferry.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- define "bucketferry.tomlValue" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $pairs = append $pairs (printf "%s = %s" (include "bucketferry.tomlKey" $key) (include "bucketferry.tomlValue" $value)) }}{{ end -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $values := list -}}
{{- range . }}{{ $values = append $values (include "bucketferry.tomlValue" .) }}{{ end -}}
[{{ join ", " $values }}]
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end }}
{{- else -}}
{{- toJson . }}
{{- end }}
{{- end }}

{{/* The users file. */}}
{{- define "bucketferry.usersToml" -}}
{{- range .Values.users.list }}
[[user]]
{{- range $name, $value := . }}
{{ $name }} = {{ include "bucketferry.tomlValue" $value }}
{{- end }}
{{ end }}
{{- end }}

{{/* Whole seconds of a duration such as "1h 30m", in the gateway's units; nothing if it is none, or longer than 30 days. */}}
{{- define "bucketferry.seconds" -}}
{{- $units := dict "^(nanos|nsec|ns)$" 0.000000001 "^(usec|us)$" 0.000001 "^(millis|msec|ms)$" 0.001 "^(s|secs?|seconds?)$" 1 "^(m|mins?|minutes?)$" 60 "^(h|hrs?|hours?)$" 3600 "^(d|days?)$" 86400 "^(w|wks?|weeks?)$" 604800 -}}
{{- $sum := 0.0 -}}
{{- $known := regexMatch "^( *[0-9]+([.][0-9]+)? *[a-z]+ *)+$" . -}}
{{- range $part := regexFindAll "[0-9.]+ *[a-z]+" . -1 -}}
{{- $seconds := 0.0 -}}
{{- range $unit, $value := $units }}{{ if regexMatch $unit (regexFind "[a-z]+" $part) }}{{ $seconds = float64 $value }}{{ end }}{{ end -}}
{{- $known = and $known (gt $seconds 0.0) -}}
{{- $sum = addf $sum (mulf (regexFind "[0-9.]+" $part | float64) $seconds) -}}
{{- end -}}
{{- if and $known (gt $sum 0.0) (le $sum 2592000.0) }}{{ ceil $sum | int64 }}{{ end }}
{{- end }}

{{/* Bytes of a size as the gateway writes it, in any case, or as Kubernetes does; nothing if it is none. */}}
{{- define "bucketferry.bytes" -}}
{{- $units := dict "" 1 "b" 1 "kib" 1024 "Ki" 1024 "mib" 1048576 "Mi" 1048576 "gib" 1073741824 "Gi" 1073741824 "tib" 1099511627776 "Ti" 1099511627776 "kb" 1000 "k" 1000 "mb" 1000000 "M" 1000000 "gb" 1000000000 "G" 1000000000 "tb" 1000000000000 "T" 1000000000000 -}}
{{- $text := kindIs "string" . | ternary . (printf "%.0f" (float64 .)) | trim -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $unit = hasKey $units $unit | ternary $unit (lower $unit) -}}
{{- if and (regexMatch "^[0-9.]+ *[A-Za-z]*$" $text) (hasKey $units $unit) -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $units $unit) | floor | int64 }}
{{- end }}
{{- end }}

{{/* The memory of the container, as `bucketferry check` tells it, in MiB; as JSON. `total` holds whatever clients do, `least` is
     for what sessions share and for the program. Nothing if a size is none. The prices are those of src/memory.rs. */}}
{{- define "bucketferry.memory" -}}
{{- $config := include "bucketferry.settings" . | fromJson -}}
{{- $sizes := dict
  "uploads" (dig "upload" "memory" "256 MiB" $config)
  "downloads" (dig "download" "memory" "64 MiB" $config)
  "listings" (dig "limits" "listing_memory" "64 MiB" $config)
  "hashing" (dig "limits" "hashing_memory" "64 MiB" $config)
  "sockets" (dig "limits" "socket_memory" "128 MiB" $config)
-}}
{{- $program := 64 -}}
{{- $perSession := add 128 512 192 -}}
{{- $admin := add (mul 64 160) (mul 12 (add 256 (mul 5 (dig "admin" "max_user_series" 500 $config | int64)))) -}}
{{- $known := true -}}
{{- $sum := add (mul $program 1048576) (mul $admin 1024) -}}
{{- range $use, $size := $sizes -}}
{{- $bytes := include "bucketferry.bytes" $size -}}
{{- if $bytes }}{{ $sum = add $sum (int64 $bytes) }}{{ else }}{{ $known = false }}{{ end -}}
{{- end -}}
{{- $total := add $sum (mul $perSession 1024 (dig "limits" "max_sessions" 2000 $config | int64)) -}}
{{- if $known -}}
{{- dict "least" (div (add $sum 1048575) 1048576) "total" (div (add $total 1048575) 1048576) | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{/* Resources of the gateway: those of the values, and memory where they have limits or requests and name none. */}}
{{- define "bucketferry.resources" -}}
{{- $resources := deepCopy (.Values.resources | default dict) -}}
{{- $memory := include "bucketferry.memory" . | fromJson -}}
{{- range $kind, $name := dict "limits" "total" "requests" "least" -}}
{{- $given := get $resources $kind -}}
{{- if and (kindIs "map" $given) (not (get $given "memory")) (hasKey $memory $name) -}}
{{- $_ := set $given "memory" (printf "%dMi" (get $memory $name | int64)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "bucketferry.grace" -}}
{{- include "bucketferry.seconds" (dig "shutdown" "grace" "30s" (include "bucketferry.settings" . | fromJson) | toString) }}
{{- end }}

{{/* Seconds of the native sleep before SIGTERM; 0 where it is not to be had, or does no good. */}}
{{- define "bucketferry.preStop" -}}
{{- if and (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) (not (include "bucketferry.stateful" .)) }}{{ .Values.preStopSeconds }}{{ else }}0{{ end }}
{{- end }}

{{/* Seconds after SIGTERM in which a gateway of several still takes clients. */}}
{{- define "bucketferry.withdrawal" -}}
{{- max 1 .Values.preStopSeconds }}
{{- end }}

{{/* Seconds from the end of the pod's sleep to its drain. Before `cluster.withdrawal`, the API server may need 5 to take note. */}}
{{- define "bucketferry.withdrawing" -}}
{{- if include "bucketferry.shared" . }}{{ add 5 (include "bucketferry.withdrawal" .) }}{{ else }}0{{ end }}
{{- end }}

{{- define "bucketferry.terminationSeconds" -}}
{{- add (include "bucketferry.preStop" .) (include "bucketferry.withdrawing" .) (include "bucketferry.grace" .) .Values.terminationMarginSeconds }}
{{- end }}
