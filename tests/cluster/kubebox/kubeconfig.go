package main

import (
	"os"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig holds its keys inline, so that it can be copied anywhere.
func writeKubeconfig(path, server string, files pki) error {
	cluster, user, context := api.NewCluster(), api.NewAuthInfo(), api.NewContext()
	cluster.Server = server
	for _, part := range []struct {
		to   *[]byte
		from string
	}{
		{&cluster.CertificateAuthorityData, files.ca},
		{&user.ClientCertificateData, files.admin},
		{&user.ClientKeyData, files.adminKey},
	} {
		content, err := os.ReadFile(part.from)
		if err != nil {
			return err
		}
		*part.to = content
	}
	const name = "kubebox"
	context.Cluster, context.AuthInfo, context.Namespace = name, name, "default"
	config := api.NewConfig()
	config.Clusters[name], config.AuthInfos[name], config.Contexts[name] = cluster, user, context
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}
