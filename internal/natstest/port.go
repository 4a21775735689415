package natstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below those that systems hand out for outgoing connections, so that none
// takes the port of a server that is to be started again.
const firstPort, lastPort = 12000, 32000

// freePorts returns n different ports of 127.0.0.1 on which nothing listens.
func freePorts(n int) ([]int, error) {
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
		port := firstPort + rand.IntN(lastPort-firstPort)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			taken = append(taken, l)
			ports = append(ports, port)
		}
	}
	return nil, errors.New("natstest: no free ports")
}
