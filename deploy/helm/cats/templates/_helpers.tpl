{{- define "cats.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "cats.labels" -}}
app.kubernetes.io/name: cats
app.kubernetes.io/part-of: cats
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "cats.host" -}}
cats.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "cats.authority" -}}
cats-{{ .Release.Namespace | default "default" }}
{{- end }}

{{- define "cats.adminSecret" -}}
{{ .Values.admin.existingSecret | default "cats-admin" }}
{{- end }}

{{- define "cats.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "cats.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Envoy's configuration directory for a site; (dict "root" $ "site" NAME), and "heap" BYTES
where its container is smaller than a gateway's. */ -}}
{{- define "cats.envoyFiles" -}}
{{- $root := .root }}
{{- $bootstrap := $root.Files.Get "files/envoy.yaml" }}
{{- with .heap }}{{ $bootstrap = regexReplaceAll "max_heap_size_bytes: [0-9]+" $bootstrap (printf "max_heap_size_bytes: %s" .) }}{{ end }}
envoy.yaml: |
  {{- $bootstrap | replace "replaced-site" .site | replace "replaced-host" (include "cats.host" $root) | nindent 2 }}
own.yaml: |
  {{- $root.Files.Get "files/own.yaml" | nindent 2 }}
ca.yaml: |
  {{- $root.Files.Get "files/ca.yaml" | nindent 2 }}
{{- end }}

{{- /* A certificate; (dict "root" $ "name" N "namespace" NS "dns" LIST "uris" LIST). */ -}}
{{- define "cats.certificate" -}}
{{- $root := .root }}
{{- $issuer := $root.Values.tls.certManager.issuer }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels: {{- include "cats.labels" $root | nindent 4 }}
spec:
  secretName: {{ .name }}
  duration: 2160h
  renewBefore: 720h
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth, client auth]
  {{- with .dns }}
  dnsNames: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .uris }}
  uris: {{- toYaml . | nindent 4 }}
  {{- end }}
  issuerRef:
    {{- if $issuer.name }}
    {{- toYaml $issuer | nindent 4 }}
    {{- else }}
    name: {{ include "cats.authority" $root }}
    kind: ClusterIssuer
    {{- end }}
{{- end }}

{{/* Whether a Lease joins the replicas: there are several, and no NATS. */}}
{{- define "cats.lease" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.nats.url) }}yes{{ end }}
{{- end }}
