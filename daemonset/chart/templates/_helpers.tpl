{{- define "afd.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "afd.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "afd.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "afd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
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
