{{- /* The chart's name, in the label app.kubernetes.io/name. */}}
{{- define "afd.chartName" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* A switch as the programs name it: YAML 1.1, which Helm reads, makes a boolean of `on` and `off` without quotes. */}}
{{- define "afd.switch" -}}
{{- if kindIs "bool" . -}}{{ . | ternary "on" "off" }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- /* The name of what the release has in its namespace. */}}
{{- define "afd.name" -}}
{{- $name := .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if and .Values.nameOverride (not (contains .Values.nameOverride $name)) -}}
{{- $name = printf "%s-%s" $name .Values.nameOverride -}}
{{- end -}}
{{- $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of the Service, which begins with a letter and has no dot. */}}
{{- define "afd.serviceName" -}}
{{- $name := include "afd.name" . | replace "." "-" -}}
{{- if not (regexMatch "^[a-z]" $name) -}}{{- $name = printf "afd-%s" $name -}}{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "afd.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- /* The name of an object that all namespaces share: root, and a suffix. A namespace has no dot, so that no two releases share one. */}}
{{- define "afd.sharedName" -}}
{{- include "afd.name" .root }}{{ .suffix | default "" }}.{{ include "afd.namespace" .root -}}
{{- end -}}

{{- define "afd.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "afd.name" .) -}}
{{- end -}}

{{- define "afd.cleanupAccountName" -}}
{{- .Values.cleanup.serviceAccountName | default (printf "%s-cleanup" (include "afd.name" .)) -}}
{{- end -}}

{{- /* The standard labels of every object, which no value changes. */}}
{{- define "afd.standardLabels" -}}
{{- dict
  "app.kubernetes.io/name" (include "afd.chartName" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") | toYaml -}}
{{- end -}}

{{- /* The labels of an object: root, and its own labels, which take precedence over those of commonLabels. */}}
{{- define "afd.labels" -}}
{{- merge (include "afd.standardLabels" .root | fromYaml) (.labels | default dict) .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- /* The labels of pods: root, and their own labels. That of the chart's version is not among them, as it would restart the pods. */}}
{{- define "afd.labelsOfPods" -}}
{{- omit (include "afd.labels" . | fromYaml) "helm.sh/chart" | toYaml -}}
{{- end -}}

{{- /* The labels of the agents' pods. */}}
{{- define "afd.podLabels" -}}
{{- include "afd.labelsOfPods" (dict "root" . "labels" (merge (include "afd.wayLabels" . | fromYaml) .Values.podLabels)) -}}
{{- end -}}

{{- define "afd.selector" -}}
app.kubernetes.io/name: {{ include "afd.chartName" . | toYaml }}
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{- end -}}

{{- /* Selects the agents of all DaemonSets of the release. */}}
{{- define "afd.agentSelector" -}}
{{ include "afd.selector" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "afd.cleanupSelector" -}}
{{ include "afd.selector" . }}
app.kubernetes.io/component: cleanup
{{- end -}}

{{- /* Whether the cleanup job removes what a bridge wrote: `true` or nothing. Not what another release's bridge keeps writing. */}}
{{- define "afd.cleansBridge" -}}
{{- if and .Values.admissionPolicy.enabled (or .Values.bridge.enabled .Values.cleanup.otherReleases) -}}true{{- end -}}
{{- end -}}

{{- /* The metadata of an object: root, name, and as needed namespace, labels and annotations. */}}
{{- define "afd.metadata" -}}
name: {{ .name | toYaml }}
{{- with .namespace }}
namespace: {{ . | toYaml }}
{{- end }}
labels: {{- include "afd.labels" . | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The image, by its digest where one is set. */}}
{{- define "afd.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The annotations of what the cleanup job needs, by weight. */}}
{{- define "afd.cleanupHook" -}}
helm.sh/hook: post-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-weight: {{ . | quote }}
{{- end -}}

{{- define "afd.cleanupJobHook" -}}
helm.sh/hook: post-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
{{- end -}}

{{- /* Expressions of the admission policies about managedFields. They use the variables prefixes, ownLabelFields, ownPatterns,
adminAnnotationFields and ownConditionFields of the policy. */}}

{{- /* Two entries, o and n, are of the same manager. */}}
{{- define "afd.sameManager" -}}
o.?manager.orValue('') == n.?manager.orValue('') && o.?operation.orValue('') == n.?operation.orValue('') && o.?subresource.orValue('') == n.?subresource.orValue('')
{{- end -}}

{{- /* What the fields of a contain is in b, but for what is AFD's own. */}}
{{- define "afd.containsFields" -}}
a.all(p, p in ['f:metadata', 'f:status'] || (p in b && a[p] == b[p]))
        && a[?'f:metadata'].orValue({}).all(p, p in ['f:labels', 'f:annotations'] || (p in b[?'f:metadata'].orValue({}) && a['f:metadata'][p] == b['f:metadata'][p]))
        && a[?'f:metadata'][?'f:labels'].orValue({}).all(f, f == '.' || f in b[?'f:metadata'][?'f:labels'].orValue({}) || f in variables.ownLabelFields || variables.ownPatterns.exists(p, f.substring(2).matches(p)))
        && a[?'f:metadata'][?'f:annotations'].orValue({}).all(f, f == '.' || f in b[?'f:metadata'][?'f:annotations'].orValue({}) || (variables.prefixes.exists(p, f.startsWith('f:' + p)) && !(f in variables.adminAnnotationFields)))
        && a[?'f:status'].orValue({}).all(p, p == 'f:conditions' || (p in b[?'f:status'].orValue({}) && a['f:status'][p] == b['f:status'][p]))
        && a[?'f:status'][?'f:conditions'].orValue({}).all(f, f == '.' || f in variables.ownConditionFields || variables.prefixes.exists(p, f.startsWith('k:{"type":"' + p)) || (f in b[?'f:status'][?'f:conditions'].orValue({}) && a['f:status']['f:conditions'][f] == b['f:status']['f:conditions'][f]))
{{- end -}}

{{- /* Two entries, o and n, have the same fields, but for what is AFD's own. */}}
{{- define "afd.sameFields" -}}
(n.?fieldsV1 == o.?fieldsV1 || [[o, n], [n, o]].all(pair, [pair[0].?fieldsV1.orValue({})].all(a, [pair[1].?fieldsV1.orValue({})].all(b, {{ include "afd.containsFields" . }}))))
{{- end -}}

{{/*
The capabilities that the agent's container has, as JSON.
*/}}
{{- define "afd.capabilities" -}}
{{- $add := dig "capabilities" "add" list .Values.securityContext -}}
{{- if .Values.intel.engineCounters -}}
{{- $add = append $add "PERFMON" -}}
{{- end -}}
{{- uniq $add | toJson -}}
{{- end -}}

{{- define "afd.bridgeSelector" -}}
{{ include "afd.selector" . }}
app.kubernetes.io/component: bridge
{{- end -}}

{{- /* The keys of pods that the bridge writes, the marker last. */}}
{{- define "afd.bridgeKeys" -}}
['kubernetes.io/hostname', 'topology.kubernetes.io/zone', 'topology.kubernetes.io/region', 'topology.kubernetes.io/rack', 'llm-d.ai/accelerator-vendor', 'llm-d.ai/accelerator-variant', 'llm-d.ai/accelerator-product', 'llm-d.ai/accelerator-model', 'llm-d.ai/accelerator-memory', '{{ .Values.labelPrefix }}/bridge']
{{- end -}}

{{- /* Whether the labels of a pod opt in: the selectors as an expression about variables.labels. */}}
{{- define "afd.bridgeOptsIn" -}}
{{- $marker := printf "%s/bridge" .Values.labelPrefix -}}
variables.labels[?'{{ $marker }}'].orValue('') != 'false' && (
{{- range $index, $selector := .Values.bridge.podSelectors -}}
{{- if $index }} || {{ end -}}(
{{- range $place, $part := splitList "," $selector -}}
{{- if $place }} && {{ end -}}
{{- if hasPrefix "!" $part -}}
!('{{ trimPrefix "!" $part }}' in variables.labels)
{{- else if contains "!=" $part -}}
{{- $pair := splitList "!=" $part -}}
!('{{ first $pair }}' in variables.labels && variables.labels['{{ first $pair }}'] == '{{ last $pair }}')
{{- else if contains "=" $part -}}
{{- $pair := splitList "=" $part -}}
('{{ first $pair }}' in variables.labels && variables.labels['{{ first $pair }}'] == '{{ last $pair }}')
{{- else -}}
'{{ $part }}' in variables.labels
{{- end -}}
{{- end -}}
)
{{- end -}}
)
{{- end -}}

{{- /* Validations of the metadata of pods that bridges and the cleanup job may not change. Variables: labels, oldLabels, ownKeys. */}}
{{- define "afd.bridgePodValidations" -}}
- expression: request.operation == "UPDATE"
  message: pods are never created
  reason: Forbidden
- expression: variables.changed.all(k, k in variables.ownKeys)
  message: only the labels of the bridge may change
  reason: Forbidden
- expression: >-
    variables.changed.all(k, !variables.oldOthers.exists(m, ('f:' + k) in m.?fieldsV1[?'f:metadata'][?'f:labels'].orValue({})))
  message: a label that another field manager has set must not change
  reason: Forbidden
- expression: >-
    variables.metadata.all(k, k in variables.mutableMetadata || (k in variables.oldMetadata && variables.oldMetadata[k] == variables.metadata[k]))
    && variables.oldMetadata.all(k, k in variables.mutableMetadata || k in variables.metadata)
  message: annotations, finalizers, owners and other metadata must not change
  reason: Forbidden
- expression: dyn(object).?spec == dyn(oldObject).?spec
  message: the specification must not change
  reason: Forbidden
- expression: dyn(object).?status == dyn(oldObject).?status
  message: the status must not change
  reason: Forbidden
- expression: request.options.?fieldManager.orValue('') == '{{ .manager }}'
  message: the field manager is {{ .manager }}
  reason: Forbidden
- expression: variables.others == variables.oldOthers || variables.oldManagers.size() == 0
  message: what other field managers own must not change
  reason: Forbidden
# What the bridge owns it may remove, so it must not become the owner of anything else.
- expression: >-
    variables.ours.all(m, m.?fieldsV1.orValue({}).all(p, p == 'f:metadata')
      && m.?fieldsV1[?'f:metadata'].orValue({}).all(p, p == 'f:labels')
      && m.?fieldsV1[?'f:metadata'][?'f:labels'].orValue({}).all(f, f == '.' || variables.ownKeys.exists(k, f == 'f:' + k)))
  message: the bridge must not become the owner of other fields
  reason: Forbidden
{{- end -}}

{{- /* The variables of these validations. */}}
{{- define "afd.bridgePodVariables" -}}
- name: ownKeys
  expression: {{ include "afd.bridgeKeys" .context | quote }}
# dyn(): includes the keys of future fields.
- name: metadata
  expression: dyn(object).metadata
- name: oldMetadata
  expression: dyn(oldObject).metadata
- name: labels
  expression: object.metadata.?labels.orValue({})
- name: oldLabels
  expression: oldObject.metadata.?labels.orValue({})
- name: managers
  expression: variables.metadata.?managedFields.orValue([])
- name: oldManagers
  expression: variables.oldMetadata.?managedFields.orValue([])
- name: ours
  expression: variables.managers.filter(m, m.?manager.orValue('') == '{{ .manager }}')
- name: others
  expression: variables.managers.filter(m, m.?manager.orValue('') != '{{ .manager }}')
- name: oldOthers
  expression: variables.oldManagers.filter(m, m.?manager.orValue('') != '{{ .manager }}')
- name: mutableMetadata
  expression: "['labels', 'managedFields', 'resourceVersion', 'generation']"
- name: set
  expression: variables.labels.map(k, k).filter(k, !(k in variables.oldLabels && variables.oldLabels[k] == variables.labels[k]))
- name: changed
  expression: variables.set + variables.oldLabels.map(k, k).filter(k, !(k in variables.labels))
{{- end -}}

{{- /* What a DeviceTaintRule of the bridge has, as an expression about a variable `rule`. */}}
{{- define "afd.bridgeRule" -}}
variables.rule.metadata.?labels[?'{{ .Values.labelPrefix }}/bridge'].orValue('') == 'true' && variables.rule.spec.?taint.?key.orValue('') == '{{ .Values.labelPrefix }}/failed'
{{- end -}}
