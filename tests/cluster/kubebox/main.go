// Command kubebox is a small, real Kubernetes control plane in one program.
//
// Each component runs in a process of its own, because the stock commands
// install signal handlers and fill registries that are process-wide.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = `usage:
  kubebox up --dir DIR [FLAGS]          run a control plane; --help lists the flags
  kubebox kubectl ARGS                  the stock client
  kubebox etcd|apiserver|kcm FLAGS      one stock component, with its own flags
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	part := os.Args[1]
	// The stock commands read os.Args themselves and expect to be the program.
	os.Args = append(os.Args[:1], os.Args[2:]...)
	switch part {
	case "up":
		os.Exit(up(os.Args[1:]))
	case "etcd":
		etcdmain.Main(os.Args)
	case "apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kcm":
		os.Exit(cli.Run(kcm.NewControllerManagerCommand()))
	case "kubectl":
		if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
			// Prints the error as kubectl does, and ends the process with its code.
			kubectlutil.CheckErr(err)
		}
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}
