package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Below the ports that the kernel gives to clients (32768 and up) and below the
// node ports (30000 and up). A client that connects again and again to a
// stopped API server would else get the server's port as its source port one
// day, be connected to itself, and keep the server from coming back.
const (
	portMin = 20000
	portEnd = 30000
)

// reservePort returns a free port of 127.0.0.1 that no other kubebox takes.
func reservePort() (int, error) {
	for range 200 {
		port := portMin + rand.IntN(portEnd-portMin)
		if !isFree(port) {
			continue
		}
		// The name is a lock that lasts until our process ends. Abstract sockets
		// belong to the network namespace, as ports do, and leave no file behind.
		if lock, err := net.Listen("unix", fmt.Sprintf("@kubebox-port-%d", port)); err == nil {
			locks = append(locks, lock)
			return port, nil
		}
	}
	return 0, errors.New("no free port found")
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// Kept so that they are not collected and thereby closed.
var locks []net.Listener
