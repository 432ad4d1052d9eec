{{/*
The pages that a monitor scrapes, as JSON: /metrics, and with `compat` those of metrics.compat, with `dcgm` the one of dcgm-exporter. Each has a
monitor of its own, with a suffix of its name.
*/}}
{{- define "afd.monitoredPages" -}}
{{- $names := list -}}
{{- if .values.dcgm -}}
{{- $names = append $names "dcgm" -}}
{{- end -}}
{{- if .values.compat -}}
{{- range $set := .root.Values.metrics.compat -}}
{{- $names = concat $names (get (dict "intel" (list "xpum" "xpumd")) $set | default (list $set)) -}}
{{- end -}}
{{- end -}}
{{- $pages := list (dict "suffix" "" "path" "/metrics") -}}
{{- range uniq $names -}}
{{- $pages = append $pages (dict "suffix" (printf "-compat-%s" .) "path" (printf "/compat/%s" .)) -}}
{{- end -}}
{{- $pages | toJson -}}
{{- end -}}

{{/* The labels of the Service beside the standard ones. The ServiceMonitor selects it by the component. */}}
{{- define "afd.serviceLabels" -}}
{{- merge (dict "app.kubernetes.io/component" "agent") .Values.service.labels | toYaml -}}
{{- end -}}

{{/*
A regular expression of the jobs of /metrics: what the monitors give, by the label that is jobLabel where it has one. It is escaped for a
string of PromQL.
*/}}
{{- define "afd.jobs" -}}
{{- if .Values.prometheusRule.job -}}
{{- /* Fails where it is no regular expression. */}}
{{- $_ := mustRegexMatch .Values.prometheusRule.job "" -}}
{{- printf "%q" .Values.prometheusRule.job | trimPrefix "\"" | trimSuffix "\"" -}}
{{- else -}}
{{- $name := include "afd.name" . -}}
{{- $pods := include "afd.podLabels" (dict "Values" .Values "Chart" .Chart "Release" .Release "way" (dict "name" "")) | fromYaml -}}
{{- $service := include "afd.labels" (dict "root" . "labels" (include "afd.serviceLabels" . | fromYaml)) | fromYaml -}}
{{- $ofPods := get $pods .Values.podMonitor.jobLabel | default (printf "%s/%s" (include "afd.namespace" .) $name) -}}
{{- $ofService := get $service .Values.serviceMonitor.jobLabel | default (include "afd.serviceName" .) -}}
{{- $jobs := list $ofPods $ofService -}}
{{- if .Values.podMonitor.enabled -}}
{{- $jobs = list $ofPods -}}
{{- else if .Values.serviceMonitor.enabled -}}
{{- $jobs = list $ofService -}}
{{- end -}}
{{- $jobs | uniq | join "|" | replace "." "[.]" -}}
{{- end -}}
{{- end -}}

{{/* The recording rules and alerts of rules.yaml for this release. */}}
{{- define "afd.rules" -}}
{{- $holders := `{{ with query (printf "max by (namespace, pod) (accelerator_device_allocation{instance=%q,device=%q})" $labels.instance $labels.device) }} Held by{{ range . }} {{ .Labels.namespace }}/{{ .Labels.pod }}{{ end }}.{{ end }}` -}}
{{- $sets := list -}}
{{- range include "afd.ways" . | fromJsonArray -}}
{{- $sets = append $sets (include "afd.wayName" (dict "Values" $.Values "Chart" $.Chart "Release" $.Release "way" .)) -}}
{{- end -}}
{{- $words := dict
  "JOB" (include "afd.jobs" .)
  "NAMESPACE" (include "afd.namespace" .)
  "NAME" ($sets | join "|" | replace "." "[.]")
  "PREFIX" .Values.labelPrefix
  "STALE_SECONDS" (max 600 (mul 10 (int .Values.sampleIntervalSeconds)) (mul 2 (int .Values.discoveryIntervalSeconds)) | toString)
  "RUNBOOKS" .Values.prometheusRule.runbooks
  "HOLDERS" $holders -}}
{{- $rules := .Files.Get "rules.yaml" | regexFind "(?s)groups:.*" -}}
{{- $pattern := keys $words | sortAlpha | join "|" | printf "\\b(%s)\\b" -}}
{{- $found := regexFindAll $pattern $rules -1 -}}
{{- /* In one pass: a value may have one of the words. */}}
{{- range $index, $text := regexSplit $pattern $rules -1 -}}
{{- if $index -}}{{- get $words (index $found (sub $index 1)) -}}{{- end -}}
{{- $text -}}
{{- end -}}
{{- end -}}
