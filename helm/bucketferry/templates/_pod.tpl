{{/* The pod, the same in a Deployment and in a StatefulSet. */}}
{{- define "bucketferry.pod" -}}
metadata:
  labels:
    {{- merge (include "bucketferry.selector" . | fromYaml) (.Values.podLabels | default dict) (.Values.commonLabels | default dict) | toYaml | nindent 4 }}
  annotations:
    # A changed configuration needs new pods. Users and certificates don't: the gateway reloads them.
    checksum/config: {{ include "bucketferry.toml" . | sha256sum }}
    kubectl.kubernetes.io/default-container: bucketferry
    {{- with merge (dict) (.Values.podAnnotations | default dict) (.Values.commonAnnotations | default dict) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "bucketferry.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ or (include "bucketferry.watched" . | ne "") (include "bucketferry.shared" . | ne "") }}
  # Else Kubernetes would set BUCKETFERRY_PORT and the like, for a Service of that name.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "bucketferry.terminationSeconds" . }}
  securityContext:
    {{- toYaml (.Values.podSecurityContext | default dict) | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" "initContainers" }}
  {{- with get $.Values $field }}
  {{ $field }}: {{ if kindIs "string" . }}{{ quote . }}{{ else }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- end }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" (dict "matchLabels" (include "bucketferry.selector" $ | fromYaml))) .) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "bucketferry.container" . | nindent 6 | trim }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "bucketferry.volumes" . | nindent 4 }}
{{- end }}

{{- define "bucketferry.container" -}}
name: bucketferry
image: {{ include "bucketferry.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --config, /etc/bucketferry/config/bucketferry.toml]
{{- $ownAddress := and (include "bucketferry.perPod" .) (include "bucketferry.discovery" .) }}
{{- $shared := include "bucketferry.shared" . }}
{{- if or $ownAddress $shared .Values.extraEnv }}
env:
  {{- if $ownAddress }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  # The Service of a pod has the pod's name.
  - name: BUCKETFERRY_PASSIVE__ADDRESS
    value: service:{{ .Release.Namespace }}/$(POD_NAME)
  {{- end }}
  {{- if $shared }}
  - name: BUCKETFERRY_CLUSTER__POD
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_INDEX
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
  # Of all that there may ever be, so that no pod's ports move when another comes.
  - name: BUCKETFERRY_PASSIVE__SHARE
    value: $(POD_INDEX)/{{ .Values.scaling.maxReplicas }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if or .Values.store.credentialsSecret .Values.extraEnvFrom }}
envFrom:
  {{- with .Values.store.credentialsSecret }}
  - secretRef:
      name: {{ . | quote }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
ports:
  - {name: ftp, containerPort: 2121, protocol: TCP}
  {{- if .Values.service.implicitTls.enabled }}
  - {name: ftps, containerPort: 2990, protocol: TCP}
  {{- end }}
  - {name: admin, containerPort: 8080, protocol: TCP}
{{- if gt (int (include "bucketferry.preStop" .)) 0 }}
lifecycle:
  preStop:
    # Until balancers have taken note that this pod ends, it goes on to serve whom they send.
    sleep:
      seconds: {{ include "bucketferry.preStop" . }}
{{- end }}
{{- range $probe, $path := dict "startupProbe" "/livez" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
{{- with get $.Values $probe }}
{{ $probe }}:
  httpGet:
    path: {{ $path }}
    port: admin
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
resources:
  {{- include "bucketferry.resources" . | nindent 2 }}
securityContext:
  {{- toYaml (.Values.securityContext | default dict) | nindent 2 }}
volumeMounts:
  {{- include "bucketferry.mounts" . | nindent 2 }}
{{- end }}

{{- define "bucketferry.mounts" -}}
- {name: config, mountPath: /etc/bucketferry/config, readOnly: true}
{{- if include "bucketferry.usersSecret" . }}
- {name: users, mountPath: /etc/bucketferry/users, readOnly: true}
{{- end }}
{{- if include "bucketferry.tlsSecret" . }}
- {name: tls, mountPath: /etc/bucketferry/tls, readOnly: true}
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
- {name: client-ca, mountPath: /etc/bucketferry/client-ca, readOnly: true}
{{- end }}
{{- if or .Values.persistence.enabled (include "bucketferry.trial" .) }}
- {name: data, mountPath: /data}
{{- end }}
{{- if .Values.spill.enabled }}
- {name: spill, mountPath: /spill}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Secrets are mounted as folders, never as single files: those would not follow a change. */}}
{{- define "bucketferry.volumes" -}}
- name: config
  configMap:
    name: {{ include "bucketferry.fullname" . | quote }}
{{- with include "bucketferry.usersSecret" . }}
- name: users
  secret:
    secretName: {{ . | quote }}
    items:
      - {key: {{ $.Values.users.key | quote }}, path: users.toml}
{{- end }}
{{- with include "bucketferry.tlsSecret" . }}
- name: tls
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- with .Values.tls.clientCA }}
{{- if .existingSecret }}
- name: client-ca
  secret:
    secretName: {{ .existingSecret | quote }}
    items:
      - {key: {{ .key | quote }}, path: ca.crt}
{{- end }}
{{- end }}
{{- if .Values.persistence.enabled }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "bucketferry.claim" . | quote }}
{{- else if include "bucketferry.trial" . }}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.persistence.trialSize | quote }}
{{- end }}
{{- if .Values.spill.enabled }}
- name: spill
  emptyDir:
    sizeLimit: {{ .Values.spill.size | quote }}
{{- end }}
- name: tmp
  emptyDir: {}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
