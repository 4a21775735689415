package program

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/presence/natspresence"
)

// A Network is what the processes of a program that run on one store have in common, beside the store. The events are not
// among it: every process follows the store by itself, and wakes its own pages.
type Network struct {
	// Presence tells who is connected to which process. It is nil where the store knows of no network, which is any
	// but NATS: then a process sees its own people.
	Presence presence.Transport
	// Secret signs the pages, so that those of one process may go on with another. It is what [Secret] returns. Where it is
	// nil a page that comes back to another process has to fetch a new signature there first.
	Secret []byte
}

// secretVariable is where the secret is: a command line is for all to read.
const secretVariable = "LEVADA_SECRET"

// minSecret is the least length of a secret, in bytes.
const minSecret = 32

// Secret returns what signs the pages: that of the environment variable LEVADA_SECRET, or nil where there is none. An error
// says what is wrong with it, and not what it is.
func Secret() ([]byte, error) {
	secret := os.Getenv(secretVariable)
	if secret == "" {
		return nil, nil
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%s has %d bytes; it takes %d random ones at least", secretVariable, len(secret), minSecret)
	}
	return []byte(secret), nil
}

// network returns what the processes on a store reach each other by.
func network(name string, store *eventstore.Store, secret []byte) *Network {
	n := &Network{Secret: secret}
	var nc *nats.Conn
	if store.As(&nc) {
		n.Presence = natspresence.New(nc, &natspresence.Options{Namespace: name, Logger: slog.Default()})
	}
	return n
}
