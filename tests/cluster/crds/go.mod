// The modules whose custom resource definitions the tests apply; nothing of them is built.
module afd.invalid/crds

go 1.26.0

require (
	sigs.k8s.io/karpenter v1.14.1
	sigs.k8s.io/kueue v0.17.0
)
