package wiretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/levada-go/levada/live/internal/wire"
)

// Frame is a frame of the server.
type Frame struct {
	Kind     string // "" for an update, else "j", "g", "l", "s" or "b"
	Acks     []uint64
	Ref      uint64 // of a mount
	Body     wire.Body
	Region   string
	From, To uint64
	Diff     []byte // of a region
	URL      string // to leave for
	After    int    // milliseconds of a bye
}

var errFrame = errors.New("wiretest: the frame is not one of the protocol")

// Parse reads a frame of the server. It is strict: what docs/live-protocol.md does not describe is an error.
func Parse(frame []byte) (f Frame, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w: %.200s", errFrame, err, frame)
		}
	}()
	var a []json.RawMessage
	if err := strict(frame, &a); err != nil {
		return f, err
	}
	if len(a) == 0 {
		return f, errors.New("it is empty")
	}
	want := func(n int, into ...any) error {
		if len(a) != n {
			return fmt.Errorf("%d elements where %d must be", len(a), n)
		}
		for i, v := range into {
			if err := strict(a[i+1], v); err != nil {
				return err
			}
		}
		return nil
	}
	if a[0][0] != '"' {
		if len(a) > 2 {
			return f, errors.New("an update of more than two elements")
		}
		if f.Acks, err = acks(a[0]); err != nil {
			return f, err
		}
		if len(a) == 2 {
			err = f.body(a[1])
		}
		return f, err
	}
	if err := strict(a[0], &f.Kind); err != nil {
		return f, err
	}
	switch f.Kind {
	case "j":
		if err := want(3, &f.Ref); err != nil {
			return f, err
		}
		if err := f.body(a[2]); err != nil {
			return f, err
		}
		if len(f.Body.Frame) == 0 {
			return f, errors.New("a mount without a frame")
		}
	case "g":
		if err := want(5, &f.Region, &f.From, &f.To); err != nil {
			return f, err
		}
		f.Diff = a[4]
	case "l":
		return f, want(2, &f.URL)
	case "s":
		return f, want(1)
	case "b":
		return f, want(2, &f.After)
	default:
		return f, errors.New("no frame is of this kind")
	}
	return f, nil
}

func acks(raw json.RawMessage) ([]uint64, error) {
	if raw[0] == '[' {
		var list []uint64
		if err := strict(raw, &list); err != nil {
			return nil, err
		}
		if len(list) < 2 {
			return nil, errors.New("an array of less than two acks")
		}
		return list, nil
	}
	var one uint64
	if err := strict(raw, &one); err != nil || one == 0 {
		return nil, err
	}
	return []uint64{one}, nil
}

func (f *Frame) body(raw json.RawMessage) error {
	var b struct {
		D json.RawMessage      `json:"d"`
		E [][2]json.RawMessage `json:"e"`
		F [][2]json.RawMessage `json:"f"`
		R [][2]json.RawMessage `json:"r"`
		T *string              `json:"t"`
		U []json.RawMessage    `json:"u"`
		V *string              `json:"v"`
	}
	if err := strict(raw, &b); err != nil {
		return err
	}
	f.Body = wire.Body{Frame: b.D, Title: b.T}
	for _, l := range []struct {
		from [][2]json.RawMessage
		to   *[]wire.Push
	}{{b.E, &f.Body.After}, {b.F, &f.Body.Before}} {
		for _, p := range l.from {
			push := wire.Push{Payload: p[1]}
			if err := strict(p[0], &push.Event); err != nil {
				return err
			}
			*l.to = append(*l.to, push)
		}
	}
	for _, p := range b.R {
		reply := wire.Reply{Value: p[1]}
		if err := strict(p[0], &reply.Ref); err != nil {
			return err
		}
		f.Body.Replies = append(f.Body.Replies, reply)
	}
	if b.U != nil {
		var replace int
		if len(b.U) != 2 {
			return errors.New("a URL of other than two elements")
		}
		if err := errors.Join(strict(b.U[0], &f.Body.URL), strict(b.U[1], &replace)); err != nil {
			return err
		}
		if replace != 0 && replace != 1 {
			return errors.New("a URL that is neither new nor replaced")
		}
		f.Body.Replace = replace == 1
	}
	if b.V != nil {
		position, err := strconv.ParseUint(*b.V, 10, 64)
		if err != nil {
			return err
		}
		f.Body.Position = position
	}
	return nil
}

func strict(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows")
	}
	return nil
}
