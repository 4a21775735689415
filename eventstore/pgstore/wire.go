package pgstore

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Parameters and results travel in PostgreSQL's binary format, encoded here: a
// statement then needs neither to be described first nor to be prepared under a
// name, so that one round trip does, through a pooler as well. The formats are those
// of the send and receive functions in src/backend/utils/adt.

// A statement is SQL with its parameters, which are added in order.
type statement struct {
	sql    string
	values [][]byte
	oids   []uint32
}

// binaryFormat says that all parameters, or columns, are binary.
var binaryFormat = []int16{1}

func newStatement(sql string) *statement { return &statement{sql: sql} }

func (s *statement) add(oid uint32, value []byte) *statement {
	s.values, s.oids = append(s.values, value), append(s.oids, oid)
	return s
}

func (s *statement) text(v string) *statement { return s.add(pgtype.TextOID, append([]byte{}, v...)) }

// bytes adds v, with nil as no bytes.
func (s *statement) bytes(v []byte) *statement {
	if v == nil {
		v = []byte{}
	}
	return s.add(pgtype.ByteaOID, v)
}

func (s *statement) int(v int64) *statement {
	return s.add(pgtype.Int8OID, binary.BigEndian.AppendUint64(nil, uint64(v)))
}

// position adds v, or the greatest position that there can be.
func (s *statement) position(v uint64) *statement { return s.int(int64(min(v, math.MaxInt64))) }

func (s *statement) time(t time.Time) *statement {
	return s.add(pgtype.TimestamptzOID, binary.BigEndian.AppendUint64(nil, uint64(microseconds(t))))
}

func (s *statement) texts(list []string) *statement {
	a := newArray(pgtype.TextOID, len(list))
	for _, v := range list {
		a.text(v)
	}
	return s.add(pgtype.TextArrayOID, a.done())
}

func (s *statement) ints(list []int32) *statement {
	a := newArray(pgtype.Int4OID, len(list))
	for _, v := range list {
		a.int4(v)
	}
	return s.add(pgtype.Int4ArrayOID, a.done())
}

// An array is one of PostgreSQL's with one dimension, in the making.
type array struct {
	b       []byte
	n       int
	hasNull bool
}

// arrayHeader is the bytes before the elements: dimensions, whether there are
// NULLs, the type of the elements, their number, the number of the first.
const arrayHeader = 5 * 4

// newArray returns an array of n elements, to which they are to be added.
func newArray(element uint32, n int) *array {
	a := &array{b: make([]byte, arrayHeader, arrayHeader+n*12), n: n}
	binary.BigEndian.PutUint32(a.b[8:], element)
	return a
}

func (a *array) text(v string) {
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(v)))
	a.b = append(a.b, v...)
}

func (a *array) bytes(v []byte) {
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(v)))
	a.b = append(a.b, v...)
}

func (a *array) int4(v int32) {
	a.b = binary.BigEndian.AppendUint32(a.b, 4)
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(v))
}

func (a *array) int8(v int64) {
	a.b = binary.BigEndian.AppendUint32(a.b, 8)
	a.b = binary.BigEndian.AppendUint64(a.b, uint64(v))
}

func (a *array) null() {
	a.hasNull = true
	a.b = binary.BigEndian.AppendUint32(a.b, math.MaxUint32)
}

// done returns the encoded array. One without elements has no dimension.
func (a *array) done() []byte {
	if a.hasNull {
		a.b[7] = 1
	}
	if a.n == 0 {
		return a.b[:12]
	}
	binary.BigEndian.PutUint32(a.b, 1)
	binary.BigEndian.PutUint32(a.b[12:], uint32(a.n))
	binary.BigEndian.PutUint32(a.b[16:], 1)
	return a.b
}

var errWire = errors.New("pgstore: a result that is not in the expected format")

// readInts decodes an array of bigint without NULLs. NULL is an array without elements.
func readInts(b []byte) ([]int64, error) {
	if b == nil {
		return nil, nil
	}
	if len(b) < 12 || binary.BigEndian.Uint32(b[8:]) != pgtype.Int8OID {
		return nil, errWire
	}
	if binary.BigEndian.Uint32(b) == 0 {
		return nil, nil
	}
	if binary.BigEndian.Uint32(b) != 1 || len(b) < arrayHeader {
		return nil, errWire
	}
	n := int(binary.BigEndian.Uint32(b[12:]))
	b = b[arrayHeader:]
	if len(b) != 12*n {
		return nil, errWire
	}
	list := make([]int64, n)
	for i := range list {
		if binary.BigEndian.Uint32(b) != 8 {
			return nil, errWire
		}
		list[i], b = int64(binary.BigEndian.Uint64(b[4:])), b[12:]
	}
	return list, nil
}

// readInt decodes a bigint; NULL is 0.
func readInt(b []byte) int64 {
	if len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

func readBool(b []byte) bool { return len(b) == 1 && b[0] == 1 }

// epoch is where PostgreSQL's times begin.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// microseconds returns t as PostgreSQL has it. What is beyond its range is an infinity.
func microseconds(t time.Time) int64 {
	switch year := t.Year(); {
	case year < -4000:
		return math.MinInt64
	case year > 200_000:
		return math.MaxInt64
	}
	// Not by t.Sub, whose range is smaller.
	return (t.Unix()-epoch.Unix())*1e6 + int64(t.Nanosecond()/1e3)
}

func readTime(b []byte) time.Time {
	us := readInt(b)
	return time.UnixMicro(us + epoch.UnixMicro()).UTC()
}
