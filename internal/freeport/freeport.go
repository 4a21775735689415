// Package freeport finds ports for servers that are to be found on the same one after they were started again.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below those that systems hand out by themselves, so that nobody is given
// the port of a server while that is down.
const first, last = 12000, 32000

// Take returns n different ports of 127.0.0.1 on which nothing listened a moment ago.
func Take(n int) ([]int, error) {
	var ports []int
	var taken []net.Listener
	defer func() {
		for _, l := range taken {
			_ = l.Close()
		}
	}()
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := first + rand.IntN(last-first)
		if l, err := net.Listen("tcp", Addr(port)); err == nil {
			taken = append(taken, l)
			ports = append(ports, port)
		}
	}
	return nil, errors.New("there are no free ports")
}

// Addr is a port of 127.0.0.1 as HOST:PORT.
func Addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Start calls start with addresses of 127.0.0.1 until it succeeds on one, at most ten times.
func Start(start func(addr string) error) error {
	ports, err := Take(10)
	for _, port := range ports {
		if err = start(Addr(port)); err == nil {
			return nil
		}
	}
	return err
}
