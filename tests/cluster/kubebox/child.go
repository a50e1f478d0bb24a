package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// child is one component in a process of its own.
//
// A nil child is one that does not run: its questions have answers.
type child struct {
	name    string
	command *exec.Cmd
	log     string
	exited  chan struct{}
}

// startChild must be called from the thread that lasts as long as the process.
// Output is appended to the file log.
func startChild(name, log string, argv []string) (*child, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close() // the child has its own copy
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdout, command.Stderr = output, output
	command.Env = environment()
	command.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// Ctrl-C is for us alone: we end the children in our own order.
		Setpgid: true,
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &child{name: name, command: command, log: log, exited: make(chan struct{})}
	go func() {
		_ = command.Wait() // the state is read in failure
		close(c.exited)
	}()
	return c, nil
}

func (c *child) pid() int {
	if c == nil {
		return 0
	}
	return c.command.Process.Pid
}

// exit is closed when the child has ended and is reaped.
func (c *child) exit() <-chan struct{} {
	if c == nil {
		return nil // blocks for ever
	}
	return c.exited
}

func (c *child) signal(signal syscall.Signal) error {
	return c.command.Process.Signal(signal)
}

// kill returns when the child is gone. A stopped process dies of it too.
func (c *child) kill() {
	if c == nil {
		return
	}
	_ = c.signal(syscall.SIGKILL) // fails only when it has ended by itself
	<-c.exited
}

// failure says how an ended child ended, with the last lines of its log.
func (c *child) failure() error {
	return fmt.Errorf("%s ended: %v; the end of %s:\n%s", c.name, c.command.ProcessState, c.log, tail(c.log))
}

func tail(path string) []byte {
	const linesMax = 15
	text, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-linesMax):], []byte("\n"))
}

// environment is ours without what etcd would take for its flags.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ETCD_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
