{{/* Name of an image: by its digest where there is one. */}}
{{- define "acis.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{- define "acis.podSecurity" -}}
{runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end -}}

{{- define "acis.security" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end -}}

{{/* What every pod of ours begins with; given the name of its ServiceAccount. */}}
{{- define "acis.account" -}}
serviceAccountName: {{ . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- end -}}

{{/* A ServiceAccount: of what name, and with which hooks. No pod is given its token. */}}
{{- define "acis.serviceAccount" -}}
{{- $annotations := merge (dict) (.hooks | default dict) (index .top.Values.serviceAccounts.annotations .name | default dict) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .top.Release.Namespace }}
  {{- with $annotations }}
  annotations: {{ toJson . }}
  {{- end }}
automountServiceAccountToken: false
{{- with .top.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Files of a Secret: keys that must be there, and those of an object store, which may. */}}
{{- define "acis.secrets" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .secret }}
          items:
            {{- range .keys }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      {{- if .aws }}
      - secret:
          name: {{ .secret }}
          optional: true
          items:
            - {key: AWS_ACCESS_KEY_ID, path: AWS_ACCESS_KEY_ID}
            - {key: AWS_SECRET_ACCESS_KEY, path: AWS_SECRET_ACCESS_KEY}
            - {key: AWS_SESSION_TOKEN, path: AWS_SESSION_TOKEN}
      {{- end }}
{{- end -}}

{{- define "acis.secretsMount" -}}
{name: secrets, mountPath: /run/secrets/acis, readOnly: true}
{{- end -}}

{{/* A container that runs one command of `acis` with secrets and settings at hand, and ends: name, image, pullPolicy, command, memory. */}}
{{- define "acis.once" -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: {{ .pullPolicy }}
  command: {{ .command | toJson }}
  {{- if .settings }}
  envFrom: [{configMapRef: {name: acis-settings}}]
  {{- else }}
  env: [{name: ACIS_SECRETS_DIR, value: /run/secrets/acis}]
  {{- end }}
  resources:
    requests: {cpu: {{ .cpu | default "50m" }}, memory: {{ .memory | default "128Mi" }}}
    limits: {memory: {{ .memoryLimit | default "512Mi" }}}
  securityContext: {{ include "acis.security" . }}
  volumeMounts:
    - {{ include "acis.secretsMount" . }}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Names by which MLflow is asked. */}}
{{- define "acis.mlflowHosts" -}}
{{- $inside := printf "mlflow.%s.svc.cluster.local" .Release.Namespace -}}
mlflow,mlflow:*,{{ $inside }},{{ $inside }}:*,localhost,localhost:*,127.0.0.1,127.0.0.1:*
{{- if .Values.ingress.enabled }},{{ .Values.ingress.hosts.mlflow }}{{ end }}
{{- end -}}

{{/* The variables of every role. */}}
{{- define "acis.settings" -}}
MLFLOW_TRACKING_URI: http://mlflow.{{ .Release.Namespace }}.svc.cluster.local:5000
ACIS_SECRETS_DIR: /run/secrets/acis
ACIS_CHECKPOINT_URL: {{ .Values.checkpoints.url }}
{{- if .Values.ingress.enabled }}
ACIS_ADMIN_URL: https://{{ .Values.ingress.hosts.admin }}/admin
ACIS_FLOWER_URL: https://{{ .Values.ingress.hosts.flower }}
ACIS_MLFLOW_URL: https://{{ .Values.ingress.hosts.mlflow }}
ACIS_ADMIN_PROXIES: {{ .Values.ingress.proxies }}
{{- else }}
ACIS_ADMIN_URL: http://localhost:3000/admin
ACIS_FLOWER_URL: http://localhost:5555
ACIS_MLFLOW_URL: http://localhost:5000
{{- end }}
{{- if .Values.objectStore.enabled }}
AWS_DEFAULT_REGION: {{ .Values.objectStore.region }}
MLFLOW_S3_ENDPOINT_URL: {{ .Values.objectStore.endpoint | quote }}
{{- end }}
ACIS_KNOWN_VARIABLES: {{ .Files.Get "known-variables.txt" | trim }}
{{- with .Values.settings }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Whether the chart runs this role. */}}
{{- define "acis.runs" -}}
{{- if and (not (and (eq .name "train-gpu") (not .Values.gpu.enabled))) (not (and (eq .name "beat") (ne .Values.schedule "beat"))) }}yes{{ end -}}
{{- end -}}
