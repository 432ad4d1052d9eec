{{/* Joins a path of the host with hostRoot. */}}
{{- define "afd.onHost" -}}
{{ printf "%s%s" (.root | trimSuffix "/") (.path | trimSuffix "/") | default "/" }}
{{- end -}}

{{/* A value such as amd.debugfs. */}}
{{- define "afd.value" -}}
{{- $value := .values -}}
{{- range splitList "." .name -}}
{{- $value = index $value . -}}
{{- end -}}
{{ if .isSwitch }}{{ include "afd.switch" $value }}{{ else }}{{ $value }}{{ end }}
{{- end -}}

{{/* Whether such a value is true. */}}
{{- define "afd.isOn" -}}
{{- if eq (include "afd.value" .) "true" -}}on{{- end -}}
{{- end -}}

{{/* The root of a vendor's libraries, by the vendor's name. Without libraries there is none. */}}
{{- define "afd.driverRoot" -}}
{{- if .values.libraries -}}{{- dig "driverRoot" "" (index .values .name | default dict) -}}{{- end -}}
{{- end -}}

{{/*
The paths of the host that are mounted, as JSON by path: those that the records of the vendors list (mounts.json, vendors.json), and
the roots of libraries that are configured. Only paths that every Linux has are mounted by their name. The root of a library may
come later, as that of a driver container does.
*/}}
{{- define "afd.hostMounts" -}}
{{- $mounts := dict -}}
{{- range .Files.Get "mounts.json" | fromJsonArray -}}
{{- $_ := set $mounts .hostPath (dict "type" .type "reason" .reason) -}}
{{- end -}}
{{- range $vendor := .Files.Get "vendors.json" | fromJsonArray -}}
{{- $root := include "afd.driverRoot" (dict "values" $.Values "name" .name) -}}
{{- range .mounts -}}
{{- $isLibrary := eq .when "libraryOnHost" -}}
{{- $isOn := eq .when "always" -}}
{{- if $isLibrary -}}
{{- $isOn = eq $root "/" -}}
{{- else if not $isOn -}}
{{- $isOn = eq (include "afd.isOn" (dict "values" $.Values "name" .when)) "on" -}}
{{- end -}}
{{- if $isOn -}}
{{- $_ := set $mounts .hostPath (dict "type" .type "reason" .reason) -}}
{{- end -}}
{{- end -}}
{{- if and $root (ne $root "/") -}}
{{- $_ := set $mounts ($root | trimSuffix "/") (dict "type" "DirectoryOrCreate" "later" true "reason" (printf "%s.driverRoot" .name)) -}}
{{- end -}}
{{- end -}}
{{- $paths := include "afd.hostPaths" . | fromJsonArray -}}
{{- range .Values.skipHostPaths -}}
{{- $path := trimSuffix "/" . -}}
{{- if not (has $path $paths) -}}
{{- fail (printf "skipHostPaths: %s is never mounted: it is none of %s" . (join ", " $paths)) -}}
{{- end -}}
{{- $_ := unset $mounts $path -}}
{{- end -}}
{{- $mounts | toJson -}}
{{- end -}}

{{/* Every path of the host that some value mounts, as JSON. */}}
{{- define "afd.hostPaths" -}}
{{- $paths := list .Values.nvidia.auto.hostRoot .Values.nvidia.auto.containerRoot -}}
{{- range .Files.Get "mounts.json" | fromJsonArray -}}
{{- $paths = append $paths .hostPath -}}
{{- end -}}
{{- range $vendor := .Files.Get "vendors.json" | fromJsonArray -}}
{{- $paths = append $paths (dig "driverRoot" "" (index $.Values .name | default dict)) -}}
{{- range .mounts -}}
{{- $paths = append $paths .hostPath -}}
{{- end -}}
{{- end -}}
{{- $trimmed := list -}}
{{- range $paths -}}
{{- $trimmed = append $trimmed (trimSuffix "/" .) -}}
{{- end -}}
{{- $trimmed | compact | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* The name of the volume of a path. */}}
{{- define "afd.volumeName" -}}
{{- $name := printf "host%s" (regexReplaceAll "[^a-z0-9]+" (lower .) "-") | trimSuffix "-" -}}
{{- if gt (len $name) 50 -}}
{{- $name = printf "host-%s" (sha256sum . | trunc 16) -}}
{{- end -}}
{{- $name -}}
{{- end -}}
