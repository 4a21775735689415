package match

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// An input cuts a stream into lines. It reads ahead in a goroutine of its own,
// so that its user notices when there is nothing to do at the moment and when
// its context ends, even while a read blocks.
type input struct {
	ctx    context.Context
	blocks chan block    // what was read
	free   chan []byte   // what may be read into
	quit   chan struct{} // closed by close

	cur  block
	rest []byte // of cur.data
	part []byte // of a line that began in an earlier block
	line uint64 // lines so far
	sum  uint32 // CRC-32C of them all
	size atomic.Int64
}

type block struct {
	data []byte
	err  error
}

const blockSize = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newInput starts to read r. seed begins the sum.
func newInput(ctx context.Context, r io.Reader, seed string) *input {
	in := &input{ctx: ctx, blocks: make(chan block, 1), free: make(chan []byte, 3), quit: make(chan struct{}),
		sum: crc32.Checksum([]byte(seed), castagnoli)}
	for range cap(in.free) {
		in.free <- make([]byte, blockSize)
	}
	go in.read(r)
	return in
}

func (in *input) read(r io.Reader) {
	for {
		var buf []byte
		select {
		case buf = <-in.free:
		case <-in.quit:
			return
		}
		n, err := r.Read(buf)
		select {
		case in.blocks <- block{buf[:n], err}:
		case <-in.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// close ends the reading goroutine, unless it is in a read that never returns.
func (in *input) close() { close(in.quit) }

// errTooLong reports a line longer than MaxLine; the next call goes on behind it.
var errTooLong = fmt.Errorf("the line is longer than %d bytes", MaxLine)

// next returns the next line without its newline, valid until the call after. At
// the end it returns io.EOF. idle is called before it waits for more input.
func (in *input) next(idle func() error) ([]byte, error) {
	in.part = in.part[:0]
	long := false
	for {
		if i := bytes.IndexByte(in.rest, '\n'); i >= 0 {
			line := in.rest[:i]
			in.rest = in.rest[i+1:]
			return in.finish(line, long)
		}
		if long = long || len(in.part)+len(in.rest) > MaxLine; long {
			in.sum = crc32.Update(in.sum, castagnoli, in.part)
			in.sum = crc32.Update(in.sum, castagnoli, in.rest)
			in.part = in.part[:0]
		} else {
			in.part = append(in.part, in.rest...)
		}
		in.rest = nil
		if in.cur.err != nil {
			if in.cur.err == io.EOF && (len(in.part) > 0 || long) {
				return in.finish(nil, long) // the last line has no newline
			}
			if in.cur.err != io.EOF {
				return nil, fmt.Errorf("input: %w", in.cur.err)
			}
			return nil, io.EOF
		}
		if err := in.fetch(idle); err != nil {
			return nil, err
		}
	}
}

// finish ends the line whose beginning is in.part.
func (in *input) finish(line []byte, long bool) ([]byte, error) {
	if len(in.part) > 0 {
		in.part = append(in.part, line...)
		line = in.part
	}
	in.line++
	in.sum = crc32.Update(in.sum, castagnoli, line)
	in.sum = crc32.Update(in.sum, castagnoli, newline)
	if long || len(line) > MaxLine {
		return nil, errTooLong
	}
	return line, nil
}

var newline = []byte{'\n'}

func (in *input) fetch(idle func() error) error {
	if in.cur.data != nil {
		in.free <- in.cur.data[:blockSize]
		in.cur.data = nil
	}
	if err := in.ctx.Err(); err != nil {
		return err
	}
	select {
	case in.cur = <-in.blocks:
	default:
		if err := idle(); err != nil {
			return err
		}
		select {
		case in.cur = <-in.blocks:
		case <-in.ctx.Done():
			return in.ctx.Err()
		}
	}
	in.size.Add(int64(len(in.cur.data)))
	in.rest = in.cur.data
	return nil
}
