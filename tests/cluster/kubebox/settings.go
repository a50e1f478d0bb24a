package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settings are the choices of `kubebox up`.
type settings struct {
	// Absolute. Holds pki/, etcd/, logs/ and kubeconfig; kept when we end.
	dir string
	// Holds the binaries etcd and kube-apiserver; empty means our own libraries.
	assets string
	// For kube-controller-manager, comma separated; empty means do not run it.
	controllers string
	// Given after our own flags, so they win.
	apiserverFlags, kcmFlags []string
	startMax                 time.Duration
}

func parseSettings(args []string) (settings, error) {
	flags := flag.NewFlagSet("kubebox up", flag.ContinueOnError)
	var s settings
	flags.StringVar(&s.dir, "dir", "", "folder for keys, data, logs and the kubeconfig; data found there is used")
	flags.StringVar(&s.assets, "assets", os.Getenv("KUBEBUILDER_ASSETS"),
		"folder with the binaries etcd and kube-apiserver to run instead of our own, then without controllers")
	flags.StringVar(&s.controllers, "controllers", controllersDefault,
		"controllers to run, or none")
	flags.DurationVar(&s.startMax, "start-max", 2*time.Minute, "longest wait for the API server")
	flags.Func("apiserver-flag", "a further flag for kube-apiserver; repeatable", appendTo(&s.apiserverFlags))
	flags.Func("kcm-flag", "a further flag for kube-controller-manager; repeatable", appendTo(&s.kcmFlags))
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.dir == "" {
		return s, errors.New("--dir is required")
	}
	// envtest has no controller manager, and one of another version would mislead.
	if s.controllers == "none" || s.assets != "" {
		s.controllers = ""
	}
	var err error
	s.dir, err = filepath.Abs(s.dir)
	return s, err
}

func appendTo(list *[]string) func(string) error {
	return func(value string) error {
		*list = append(*list, value)
		return nil
	}
}

var controllersDefault = strings.Join([]string{
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"namespace-controller",
	"garbage-collector-controller",
	"serviceaccount-controller",
	"root-ca-certificate-publisher-controller",
}, ",")
