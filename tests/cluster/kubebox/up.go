package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// up runs a control plane until stdin closes, a signal arrives, or a component
// ends by itself. It returns the exit code: 0 asked to end, 1 failed, 2 usage.
func up(args []string) int {
	// The kernel sends the parent-death signal of a child when the *thread* that
	// started it ends. This thread lasts as long as the process.
	runtime.LockOSThread()

	settings, err := parseSettings(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubebox:", err)
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	commands := readCommands(cancel)

	box, err := newBox(settings)
	if err == nil {
		defer box.kill()
		err = box.start(ctx)
	}
	if err == nil {
		printJSON(box.greeting())
		err = serve(ctx, box, commands)
	}
	// An end that was asked for is not a failure, however far we came.
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "kubebox:", err)
		return 1
	}
	return 0
}

// serve carries out commands until it is told to end or a component ends by itself.
func serve(ctx context.Context, box *box, commands <-chan string) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case command := <-commands:
			printJSON(obey(ctx, box, command))
			if command == "quit" {
				return nil
			}
		case <-box.etcd.exit():
			return box.etcd.failure()
		case <-box.apiserver.exit():
			return box.apiserver.failure()
		case <-box.kcm.exit():
			if err := box.kcmEnded(); err != nil {
				return err
			}
		}
	}
}

// answer is the line of JSON that follows a command.
type answer struct {
	OK      bool   `json:"ok"`
	Command string `json:"command"`
	// Absent while no API server runs.
	PidAPIServer int    `json:"pid_apiserver,omitempty"`
	Error        string `json:"error,omitempty"`
}

func obey(ctx context.Context, box *box, command string) answer {
	var err error
	switch command {
	case "stop-apiserver":
		err = box.stopAPIServer()
	case "start-apiserver":
		err = box.startAPIServer(ctx)
	case "pause-apiserver":
		err = box.pauseAPIServer()
	case "resume-apiserver":
		err = box.resumeAPIServer()
	case "quit":
	default:
		err = errors.New("unknown command")
	}
	reply := answer{OK: err == nil, Command: command, PidAPIServer: box.apiserver.pid()}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}

// readCommands gives the lines of stdin, and calls closed after the last one.
//
// The channel has no buffer: the end of stdin is noticed at once, also in the
// middle of a start, but not before the commands in front of it are taken.
func readCommands(closed func()) <-chan string {
	commands := make(chan string)
	go func() {
		defer closed()
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if command := strings.TrimSpace(lines.Text()); command != "" {
				commands <- command
			}
		}
	}()
	return commands
}

func printJSON(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own structs of strings and numbers
	}
	fmt.Println(string(line))
}
