package natswire

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// A Receiver makes messages of one subject whole again. It holds the parts of at
// most one message of each sender, as they come in order, and no more than four
// times MaxBytes of them: the oldest go first.
type Receiver struct {
	Carried  string // the name that messages must carry, as Token returned it
	MaxBytes int    // of a message

	partials []*partial // least recently added to first
	bytes    int        // of all partials
}

// partial is a message of which some parts have come.
type partial struct {
	sender      string
	number      uint64
	have, parts uint64
	data        []byte
}

var (
	errName  = errors.New("it is for another name of the same hash")
	errPart  = errors.New("malformed part")
	errTorn  = errors.New("a part of it was lost")
	errLarge = errors.New("it is too large")
	errRoom  = errors.New("too many wait for their parts")
)

// Take returns a message if data completes one; it may be data itself. The error
// says why a message, that one or an earlier one, is lost.
func (r *Receiver) Take(header nats.Header, data []byte) (message []byte, err error) {
	if header.Get(nameHeader) != r.Carried {
		return nil, errName
	}
	part := header.Get(partHeader)
	if part == "" {
		if len(data) > r.MaxBytes {
			return nil, errLarge
		}
		if data == nil {
			data = []byte{}
		}
		return data, nil
	}
	var sender string
	var number, index, parts uint64
	if n, err := fmt.Sscanf(part, "%s %d %d %d", &sender, &number, &index, &parts); err != nil || n != 4 ||
		strings.Count(part, " ") != 3 || len(part) > 128 || index >= parts || len(data) == 0 {
		return nil, errPart
	}
	at := slices.IndexFunc(r.partials, func(p *partial) bool { return p.sender == sender })
	var p *partial
	if at >= 0 {
		p = r.remove(at)
	}
	switch {
	case p != nil && p.number == number && p.have == index && p.parts == parts:
	case index == 0:
		if p != nil {
			err = errTorn // of the message before
		}
		p = &partial{sender: sender, number: number, parts: parts}
	case p == nil:
		// The loss is counted once, at the last part: the others were lost with it.
		if index == parts-1 {
			err = errTorn
		}
		return nil, err
	default:
		return nil, errTorn
	}
	if len(p.data)+len(data) > r.MaxBytes {
		return nil, errLarge
	}
	p.data = append(p.data, data...)
	if p.have++; p.have == p.parts {
		return p.data, err
	}
	r.partials = append(r.partials, p)
	r.bytes += len(p.data)
	for r.bytes > 4*r.MaxBytes {
		r.remove(0)
		err = errRoom
	}
	return nil, err
}

func (r *Receiver) remove(at int) *partial {
	p := r.partials[at]
	r.partials = slices.Delete(r.partials, at, at+1)
	r.bytes -= len(p.data)
	return p
}
