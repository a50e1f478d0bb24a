package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// box is one control plane: its files, its ports and its processes.
type box struct {
	settings settings
	files    pki
	probe    *http.Client

	apiserverPort, etcdPort, etcdPeerPort int

	// nil while not running.
	etcd, apiserver, kcm *child
	paused               bool
}

// newBox makes files and picks ports; nothing runs yet.
func newBox(s settings) (*box, error) {
	b := &box{settings: s}
	for _, dir := range []string{s.dir, b.path("logs")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	for _, port := range []*int{&b.apiserverPort, &b.etcdPort, &b.etcdPeerPort} {
		var err error
		if *port, err = reservePort(); err != nil {
			return nil, err
		}
	}
	var err error
	if b.files, err = loadOrCreatePKI(b.path("pki")); err != nil {
		return nil, err
	}
	client, err := b.files.client()
	if err != nil {
		return nil, err
	}
	b.probe = &http.Client{
		// Short, because a server that listens may still be too busy to answer.
		Timeout: 2 * time.Second,
		// A kept connection would outlive the server that it belongs to.
		Transport: &http.Transport{TLSClientConfig: client, DisableKeepAlives: true},
	}
	return b, writeKubeconfig(b.kubeconfig(), b.server(), b.files)
}

// start returns when the API server is ready. The controllers may still be on their way.
func (b *box) start(ctx context.Context) error {
	var err error
	if b.etcd, err = startChild("etcd", b.log("etcd"), b.etcdArgv()); err != nil {
		return err
	}
	// The API server would wait by itself, but in steps of a second.
	if err := b.await(ctx, b.etcdHealth); err != nil {
		return err
	}
	return b.startAPIServer(ctx)
}

func (b *box) startAPIServer(ctx context.Context) error {
	if b.apiserver != nil {
		return errors.New("the API server runs already")
	}
	apiserver, err := startChild("kube-apiserver", b.log("apiserver"), b.apiserverArgv())
	if err != nil {
		return err
	}
	b.apiserver = apiserver
	if err := b.await(ctx, b.readyz); err != nil {
		return err
	}
	return b.ensureKCM()
}

func (b *box) stopAPIServer() error {
	if b.apiserver == nil {
		return errors.New("the API server does not run")
	}
	b.apiserver.kill()
	b.apiserver, b.paused = nil, false
	return nil
}

func (b *box) pauseAPIServer() error {
	if b.apiserver == nil || b.paused {
		return errors.New("the API server does not run")
	}
	b.paused = true
	return b.apiserver.signal(syscall.SIGSTOP)
}

func (b *box) resumeAPIServer() error {
	if !b.paused {
		return errors.New("the API server is not paused")
	}
	b.paused = false
	if err := b.apiserver.signal(syscall.SIGCONT); err != nil {
		return err
	}
	return b.ensureKCM()
}

// ensureKCM starts the controllers, if they are wanted and do not run.
func (b *box) ensureKCM() error {
	if b.settings.controllers == "" || b.kcm != nil {
		return nil
	}
	var err error
	b.kcm, err = startChild("kube-controller-manager", b.log("kcm"), b.kcmArgv())
	return err
}

// kcmEnded decides whether the end of the controllers is a failure.
//
// They give up when they find no API server during their own start. If a test
// has taken it away, they come back together with it.
func (b *box) kcmEnded() error {
	ended := b.kcm
	b.kcm = nil
	if b.apiserver == nil || b.paused {
		return nil
	}
	return ended.failure()
}

// await asks until the answer is nil.
func (b *box) await(ctx context.Context, question func(context.Context) error) error {
	expired := time.After(b.settings.startMax)
	for {
		err := question(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.etcd.exit():
			return b.etcd.failure()
		case <-b.apiserver.exit():
			return b.apiserver.failure()
		case <-expired:
			return fmt.Errorf("not ready after %v: %w; see %s", b.settings.startMax, err, b.path("logs"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// etcdHealth asks etcd itself: its port is open long before it answers.
func (b *box) etcdHealth(ctx context.Context) error {
	return b.get(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", b.etcdPort))
}

func (b *box) readyz(ctx context.Context) error {
	return b.get(ctx, b.server()+"/readyz")
}

func (b *box) get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := b.probe.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}

// kill ends what runs, clients before servers. The files stay.
//
// Nothing is asked to end by itself: a graceful end takes many seconds, and
// etcd's log brings its data back whatever happens.
func (b *box) kill() {
	b.kcm.kill()
	b.apiserver.kill()
	b.etcd.kill()
}

// greeting is the line that tells the caller where everything is.
type greeting struct {
	Kubeconfig   string `json:"kubeconfig"`
	Server       string `json:"server"`
	PidAPIServer int    `json:"pid_apiserver"`
	PidEtcd      int    `json:"pid_etcd"`
}

func (b *box) greeting() greeting {
	return greeting{b.kubeconfig(), b.server(), b.apiserver.pid(), b.etcd.pid()}
}

func (b *box) path(name string) string { return filepath.Join(b.settings.dir, name) }
func (b *box) log(name string) string  { return b.path(filepath.Join("logs", name+".log")) }
func (b *box) kubeconfig() string      { return b.path("kubeconfig") }
func (b *box) server() string          { return fmt.Sprintf("https://127.0.0.1:%d", b.apiserverPort) }
