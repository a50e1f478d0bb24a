package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki names the files of keys and certificates, all PEM, the keys as PKCS #8.
type pki struct {
	ca, caKey           string
	serving, servingKey string
	admin, adminKey     string
	// Two files: from a PKCS #8 private key the API server reads no public key.
	serviceAccountKey, serviceAccountPublicKey string
}

// loadOrCreatePKI leaves complete files alone, so that a kubeconfig and the
// tokens of an earlier run on the same folder stay good.
func loadOrCreatePKI(dir string) (pki, error) {
	in := func(name string) string { return filepath.Join(dir, name) }
	files := pki{
		ca: in("ca.crt"), caKey: in("ca.key"),
		serving: in("apiserver.crt"), servingKey: in("apiserver.key"),
		admin: in("admin.crt"), adminKey: in("admin.key"),
		serviceAccountKey: in("service-account.key"), serviceAccountPublicKey: in("service-account.pub"),
	}
	// create writes this one last.
	if _, err := os.Stat(files.serviceAccountPublicKey); err == nil {
		return files, nil
	}
	return files, files.create(dir)
}

func (p pki) create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca := certificate("kubebox-ca")
	ca.IsCA = true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	caKey, err := issue(p.ca, p.caKey, ca, ca, nil)
	if err != nil {
		return err
	}

	serving := certificate("kube-apiserver")
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serving.DNSNames = []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local",
	}
	// The last one is the first address of serviceRange: the Service "kubernetes".
	serving.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 70, 0, 1)}
	if _, err := issue(p.serving, p.servingKey, serving, ca, caKey); err != nil {
		return err
	}

	admin := certificate("kubebox-admin")
	admin.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	// The group that RBAC never asks for permission.
	admin.Subject.Organization = []string{"system:masters"}
	if _, err := issue(p.admin, p.adminKey, admin, ca, caKey); err != nil {
		return err
	}

	serviceAccountKey, err := createKey(p.serviceAccountKey)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(serviceAccountKey.Public())
	if err != nil {
		return err
	}
	return writePEM(p.serviceAccountPublicKey, "PUBLIC KEY", der)
}

// client trusts the CA and presents the admin certificate.
func (p pki) client() (*tls.Config, error) {
	admin, err := tls.LoadX509KeyPair(p.admin, p.adminKey)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(p.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}}, nil
}

func certificate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		// An hour back: tests move clocks.
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

// issue writes a certificate and its key; a nil signer means self-signed.
func issue(path, keyPath string, template, issuer *x509.Certificate, signer crypto.Signer) (crypto.Signer, error) {
	key, err := createKey(keyPath)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "CERTIFICATE", der)
}

func createKey(path string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
