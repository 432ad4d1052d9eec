{{/*
The DaemonSets of the release, as JSON. With nvidia.mode: manual there is one. With auto there is one for each way to NVIDIA's library, and one
for all other nodes. Each has the terms of a node affinity; every node satisfies those of exactly one, by labels of NVIDIA's GPU operator and of
NFD, which no agent writes:

  nvidia.com/gpu.deploy.container-toolkit  the operator has configured the container runtime; `false`: not. While it replaces the
                                           driver the value is `paused-for-...`, which moves no agent.
  nvidia.com/gpu.deploy.driver             `true`: a driver container; `pre-installed`, or `false` by the admin: the driver of the host.
  nvidia.com/gpu.deploy.sandbox-validator  the GPUs are given to virtual machines: the host has no library for them.
  nvidia.auto.runtimeLabels                the platform has configured the container runtime.
  nvidia.auto.nodeLabels                   the node has a GPU of NVIDIA, and no operator cares for it: the driver is the host's.

The nodes of a way that is switched off are among the other ones.
*/}}
{{- define "afd.ways" -}}
{{- $nvidia := .Values.nvidia -}}
{{- /* Without libraries there is no way, and no agent is privileged. */}}
{{- $off := dict "runtimeClassName" "" "hostRoot" "" "containerRoot" "" "runtimeLabels" list "nodeLabels" list -}}
{{- $auto := .Values.libraries | ternary $nvidia.auto $off -}}
{{- $ways := list -}}
{{- if ne $nvidia.mode "auto" -}}
{{- $root := include "afd.driverRoot" (dict "values" .Values "name" "nvidia") -}}
{{- $ways = list (dict "name" "" "runtimeClassName" $nvidia.runtimeClassName "driverRoot" $root) -}}
{{- else -}}
{{- if or $nvidia.runtimeClassName $nvidia.driverRoot -}}
{{- fail "nvidia.mode: auto takes nvidia.auto.runtimeClassName, nvidia.auto.hostRoot and nvidia.auto.containerRoot: leave nvidia.runtimeClassName and nvidia.driverRoot empty" -}}
{{- end -}}
{{- include "afd.checkNodeLabels" . -}}
{{- $toolkit := "nvidia.com/gpu.deploy.container-toolkit" -}}
{{- $driver := "nvidia.com/gpu.deploy.driver" -}}
{{- $hasDriver := dict "key" $driver "operator" "Exists" -}}
{{- $noDriver := dict "key" $driver "operator" "DoesNotExist" -}}
{{- $ofHost := list "false" "pre-installed" -}}
{{- $sandbox := "nvidia.com/gpu.deploy.sandbox-validator" -}}
{{- /* A node without the runtime satisfies one of these lists. */}}
{{- $withoutRuntime := list (list) -}}
{{- if $auto.runtimeClassName -}}
{{- $terms := list (list (dict "key" $toolkit "operator" "Exists") (dict "key" $toolkit "operator" "NotIn" "values" (list "false"))) -}}
{{- $noLabel := list -}}
{{- range $auto.runtimeLabels -}}
{{- $terms = append $terms (list (dict "key" . "operator" "Exists")) -}}
{{- $noLabel = append $noLabel (dict "key" . "operator" "DoesNotExist") -}}
{{- end -}}
{{- $ways = append $ways (dict "name" "runtime" "runtimeClassName" $auto.runtimeClassName "driverRoot" "" "terms" $terms) -}}
{{- $withoutRuntime = list -}}
{{- range list (dict "key" $toolkit "operator" "DoesNotExist") (dict "key" $toolkit "operator" "In" "values" (list "false")) -}}
{{- $withoutRuntime = append $withoutRuntime (prepend $noLabel .) -}}
{{- end -}}
{{- end -}}
{{- $container := list -}}
{{- $host := list -}}
{{- $other := list -}}
{{- range $without := $withoutRuntime -}}
{{- $container = append $container (concat $without (list $hasDriver (dict "key" $driver "operator" "NotIn" "values" $ofHost))) -}}
{{- $host = append $host (append $without (dict "key" $driver "operator" "In" "values" $ofHost)) -}}
{{- $noGpu := append $without $noDriver -}}
{{- range $auto.nodeLabels -}}
{{- $host = append $host (concat $without (list $noDriver (dict "key" . "operator" "Exists") (dict "key" $sandbox "operator" "DoesNotExist"))) -}}
{{- $noGpu = append $noGpu (dict "key" . "operator" "DoesNotExist") -}}
{{- end -}}
{{- $other = concat $other (list $noGpu (concat $without (list $noDriver (dict "key" $sandbox "operator" "Exists")))) -}}
{{- end -}}
{{- if $auto.containerRoot -}}
{{- $ways = append $ways (dict "name" "container" "runtimeClassName" "" "driverRoot" $auto.containerRoot "terms" $container) -}}
{{- else -}}
{{- $other = concat $other $container -}}
{{- end -}}
{{- if $auto.hostRoot -}}
{{- $ways = append $ways (dict "name" "host" "runtimeClassName" "" "driverRoot" $auto.hostRoot "terms" $host) -}}
{{- else -}}
{{- $other = concat $other $host -}}
{{- end -}}
{{- $ways = append $ways (dict "name" "none" "runtimeClassName" "" "driverRoot" "" "terms" $other) -}}
{{- end -}}
{{- $ways | toJson -}}
{{- end -}}

{{/* A label that an agent writes would move the agent that has written it. */}}
{{- define "afd.checkNodeLabels" -}}
{{- range $label := concat .Values.nvidia.auto.runtimeLabels .Values.nvidia.auto.nodeLabels -}}
{{- $isOwn := or (hasPrefix (printf "%s/" $.Values.labelPrefix) $label) (hasPrefix "llm-d.ai/" $label) -}}
{{- range $.Files.Get "vendors.json" | fromJsonArray -}}
{{- $isOwn = or $isOwn (has $label .labelKeys) -}}
{{- range .labelKeyPatterns -}}
{{- $isOwn = or $isOwn (regexMatch . $label) -}}
{{- end -}}
{{- end -}}
{{- if $isOwn -}}
{{- fail (printf "nvidia.auto: the agents themselves write %s" $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of the DaemonSet of a way. */}}
{{- define "afd.wayName" -}}
{{- $name := include "afd.name" . -}}
{{- with .way.name -}}
{{- $name = printf "%s-nvidia-%s" $name . -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* The labels by which the DaemonSet of a way selects its pods. */}}
{{- define "afd.wayLabels" -}}
{{ include "afd.agentSelector" . }}
{{- with .way.name }}
accelerator.llm-d.ai/nvidia: {{ . }}
{{- end }}
{{- end -}}

{{/* The value `affinity` with the terms of a way: each term of the value is combined with each of these. */}}
{{- define "afd.affinity" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- if .way.terms -}}
{{- $terms := list -}}
{{- range $own := dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" (list dict) $affinity -}}
{{- range $.way.terms -}}
{{- $terms = append $terms (set (deepCopy $own) "matchExpressions" (concat (dig "matchExpressions" list $own) .)) -}}
{{- end -}}
{{- end -}}
{{- $node := merge (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms)) (dig "nodeAffinity" dict $affinity) -}}
{{- $affinity = set $affinity "nodeAffinity" $node -}}
{{- end -}}
{{- $affinity | toYaml -}}
{{- end -}}

{{/* Whether an agent of the release is privileged: `true` or nothing. */}}
{{- define "afd.isPrivileged" -}}
{{- $roots := list -}}
{{- range include "afd.ways" . | fromJsonArray -}}
{{- $roots = append $roots .driverRoot -}}
{{- end -}}
{{- range .Files.Get "vendors.json" | fromJsonArray -}}
{{- if and .library .library.value (ne .library.value "nvidia.driverRoot") -}}
{{- $roots = append $roots (include "afd.driverRoot" (dict "values" $.Values "name" .name)) -}}
{{- end -}}
{{- end -}}
{{- if compact $roots -}}true{{- end -}}
{{- end -}}
