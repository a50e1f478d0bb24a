package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

const (
	serviceRange = "10.70.0.0/16"
	// A loopback address is refused. Nothing connects to this one, because the
	// endpoint reconciler that would publish it is off.
	advertiseAddress = "10.50.0.1"
)

// Admission plugins that are on by default and that an ingress controller's
// tests have no use for. What stays: namespace lifecycle, the default
// IngressClass, webhooks and admission policies.
var admissionOff = strings.Join([]string{
	// Else no Pod can be created before a controller has made its ServiceAccount,
	// and there is no controller when the binaries of envtest run.
	"ServiceAccount",
	"CertificateApproval",
	"CertificateSigning",
	"CertificateSubjectRestriction",
	"ClusterTrustBundleAttest",
	"DefaultStorageClass",
	"DefaultTolerationSeconds",
	"LimitRanger",
	"PersistentVolumeClaimResize",
	"PodSecurity",
	"Priority",
	"ResourceQuota",
	"RuntimeClass",
	"StorageObjectInUseProtection",
	"TaintNodesByCondition",
}, ",")

// argv is the command line of a component: our own library, or a binary of
// settings.assets. Both take the same flags.
func (b *box) argv(part, binary string, flags ...string) []string {
	if b.settings.assets != "" {
		return append([]string{filepath.Join(b.settings.assets, binary)}, flags...)
	}
	// Also good when our own file has been replaced by a later build.
	return append([]string{"/proc/self/exe", part}, flags...)
}

func (b *box) etcdArgv() []string {
	client := fmt.Sprintf("http://127.0.0.1:%d", b.etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", b.etcdPeerPort)
	return b.argv("etcd", "etcd",
		"--data-dir="+b.path("etcd"),
		"--listen-client-urls="+client,
		"--advertise-client-urls="+client,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer,
		"--log-level=warn",
		// Data has to survive our processes, not the machine.
		"--unsafe-no-fsync",
	)
}

func (b *box) apiserverArgv() []string {
	return append(b.argv("apiserver", "kube-apiserver",
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", b.apiserverPort),
		"--advertise-address="+advertiseAddress,
		"--endpoint-reconciler-type=none",
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", b.etcdPort),
		"--service-cluster-ip-range="+serviceRange,
		"--authorization-mode=RBAC",
		"--client-ca-file="+b.files.ca,
		"--tls-cert-file="+b.files.serving,
		"--tls-private-key-file="+b.files.servingKey,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+b.files.serviceAccountPublicKey,
		"--service-account-signing-key-file="+b.files.serviceAccountKey,
		"--disable-admission-plugins="+admissionOff,
		"--allow-privileged",
		// Fairness among clients costs a second of start and some memory.
		"--enable-priority-and-fairness=false",
		"--profiling=false",
	), b.settings.apiserverFlags...)
}

func (b *box) kcmArgv() []string {
	return append(b.argv("kcm", "kube-controller-manager",
		"--kubeconfig="+b.kubeconfig(),
		"--controllers="+b.settings.controllers,
		"--root-ca-file="+b.files.ca,
		"--service-account-private-key-file="+b.files.serviceAccountKey,
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	), b.settings.kcmFlags...)
}
