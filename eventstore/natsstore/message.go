package natsstore

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// Headers of a message. The data is the event's; all else is in headers, so that
// the tools of NATS show both.
const (
	headerKind        = "Levada-Kind"        // of a marker
	headerVersion     = "Levada-Version"     // of the event, or of the last one before a marker
	headerFirst       = "Levada-First"       // the first readable version, if not 1
	headerOrigin      = "Levada-Origin"      // the version at the last deletion, if there was one
	headerPointers    = "Levada-Pointers"    // the history before the append
	headerPart        = "Levada-Part"        // "i/n": the event is number i from 0 of those of its stream in an append
	headerAppend      = "Levada-Append"      // tells one append from every other
	headerID          = "Levada-Id"          // of the event
	headerType        = "Levada-Type"        //
	headerContentType = "Levada-Content"     //
	headerMetadata    = "Levada-Metadata"    // k=v&k=v, escaped as in a URL's query
	headerTags        = "Levada-Tags"        // tag&tag, escaped likewise
	headerCorrelation = "Levada-Correlation" //
	headerCausation   = "Levada-Causation"   //
	headerAside       = "Levada-Aside"       // metadata and tags take so many bytes before the data
)

// Kinds of markers: messages on a stream's subject that are not events.
const (
	kindMoved  = "moved"  // truncated or deleted
	kindPurged = "purged" // for good
)

// maxHeaderBytes is what the headers of a message may take. If they are more, the
// metadata and tags go before the data. The server takes 64 KiB, with its own.
const maxHeaderBytes = 16 << 10

// A message is a message of the log as the server keeps it.
type message struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

// A state is what a message says about its stream, as it stood after it.
type state struct {
	seq     uint64 // of the message; 0 if there is none, and then all else is 0
	version uint64
	first   uint64
	origin  uint64
	purged  bool
	nonce   string // of the append that wrote it
	history history
}

func (s *state) exists() bool { return s.version > s.origin }

// actual is the version that a conflict tells.
func (s *state) actual() uint64 {
	if s.exists() {
		return s.version
	}
	return 0
}

// admits returns the error of an append that expects the stream otherwise.
func (s *state) admits(expected int64) error {
	switch {
	case s.purged:
		return driver.ErrStreamDeleted
	case expected == driver.Any,
		expected == driver.NoStream && !s.exists(),
		expected == driver.StreamExists && s.exists(),
		expected > 0 && s.exists() && uint64(expected) == s.version:
		return nil
	}
	return &driver.ConflictError{Actual: s.actual()}
}

func (s *state) info(stream string) driver.StreamInfo {
	info := driver.StreamInfo{Name: stream, Version: s.version, First: s.first, Origin: s.origin}
	info.Deleted = s.version > 0 && s.origin == s.version
	if s.version == 0 {
		info.First = 0
	}
	return info
}

// A part says which event of an append a message is.
type part struct{ index, count int }

// later is how many events of it follow, right behind.
func (p part) later() uint64 { return uint64(p.count - p.index - 1) }

// messages makes the messages of an append behind s. The first one carries the
// expectation: the server refuses it on a later one of the same subject.
func (s *state) messages(subject, nonce string, events []driver.Event) []*nats.Msg {
	pointers := s.history.text()
	far := history{far: s.history.far}.text()
	list := make([]*nats.Msg, len(events))
	for i := range events {
		e := &events[i]
		h := nats.Header{
			headerVersion: {strconv.FormatUint(s.version+uint64(i)+1, 10)},
			headerAppend:  {nonce},
			headerID:      {hex.EncodeToString(e.ID[:])},
			headerType:    {escapeHeader(e.Type)},
		}
		s.bounds(h)
		switch {
		case i < nearPointers && pointers != "":
			h[headerPointers] = []string{pointers}
		case i >= nearPointers && far != "":
			h[headerPointers] = []string{far}
		}
		if len(events) > 1 {
			h[headerPart] = []string{strconv.Itoa(i) + "/" + strconv.Itoa(len(events))}
		}
		if e.ContentType != "" {
			h[headerContentType] = []string{escapeHeader(e.ContentType)}
		}
		if len(e.Metadata) > 0 {
			h[headerMetadata] = []string{encodeMetadata(e.Metadata)}
		}
		if len(e.Tags) > 0 {
			h[headerTags] = []string{encodeTags(e.Tags)}
		}
		if e.Correlation != [16]byte{} {
			h[headerCorrelation] = []string{hex.EncodeToString(e.Correlation[:])}
		}
		if e.Causation != [16]byte{} {
			h[headerCausation] = []string{hex.EncodeToString(e.Causation[:])}
		}
		if i == 0 {
			h[headerExpected] = []string{strconv.FormatUint(s.seq, 10)}
		}
		list[i] = &nats.Msg{Subject: subject, Header: h, Data: e.Data}
		if headerSize(h) > maxHeaderBytes {
			putAside(list[i], e)
		}
	}
	return list
}

// bounds sets the headers that say where the stream begins.
func (s *state) bounds(h nats.Header) {
	if s.first > 1 {
		h[headerFirst] = []string{strconv.FormatUint(s.first, 10)}
	}
	if s.origin > 0 {
		h[headerOrigin] = []string{strconv.FormatUint(s.origin, 10)}
	}
}

// marker makes the message that says what became of a stream. s is how it stands
// behind it, but for seq, which is what it stood at before.
func (s *state) marker(subject, kind, nonce string) *nats.Msg {
	h := nats.Header{
		headerKind:     {kind},
		headerVersion:  {strconv.FormatUint(s.version, 10)},
		headerAppend:   {nonce},
		headerExpected: {strconv.FormatUint(s.seq, 10)},
	}
	s.bounds(h)
	if text := s.history.text(); text != "" {
		h[headerPointers] = []string{text}
	}
	return &nats.Msg{Subject: subject, Header: h}
}

// headerSize is an upper bound of what the headers take on the wire.
func headerSize(h nats.Header) int {
	n := len("NATS/1.0\r\n\r\n")
	for k, vs := range h {
		for _, v := range vs {
			n += len(k) + len(v) + len(": \r\n")
		}
	}
	return n
}

func (m *message) marker() bool { return m.header.Get(headerKind) != "" }

// number reads a header that is a number; def if it is absent.
func (m *message) number(name string, def uint64) (uint64, error) {
	text := m.header.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, m.malformed(name)
	}
	return n, nil
}

func (m *message) malformed(name string) error {
	return fmt.Errorf("%w: message %d on %s has a header %s of %.100q", ErrNotStore, m.seq, m.subject, name, m.header.Get(name))
}

// part says which of the events that its append has in its stream the message is.
func (m *message) part() (part, error) {
	text := m.header.Get(headerPart)
	if text == "" {
		return part{0, 1}, nil
	}
	i, n, ok := strings.Cut(text, "/")
	index, err1 := strconv.Atoi(i)
	count, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || index < 0 || index >= count || uint64(index) >= m.seq {
		return part{}, m.malformed(headerPart)
	}
	return part{index, count}, nil
}

// before returns the history before the message's event, or, of a marker, behind
// it.
func (m *message) before() (history, error) {
	version, err := m.number(headerVersion, 0)
	if err != nil {
		return history{}, err
	}
	p, err := m.part()
	if err != nil {
		return history{}, err
	}
	top := version
	if !m.marker() {
		top -= uint64(p.index) + 1
	}
	if top > version {
		return history{}, m.malformed(headerPart)
	}
	h, err := parseHistory(top, m.header.Get(headerPointers))
	if err != nil {
		return history{}, m.malformed(headerPointers)
	}
	if p.index > 0 {
		h = h.pushAll(m.seq-uint64(p.index), p.index)
	}
	return h, nil
}

// state returns how the stream stood behind the message.
func (m *message) state() (s state, err error) {
	s.seq, s.nonce = m.seq, m.header.Get(headerAppend)
	if s.version, err = m.number(headerVersion, 0); err != nil {
		return state{}, err
	}
	if s.first, err = m.number(headerFirst, 1); err != nil {
		return state{}, err
	}
	if s.origin, err = m.number(headerOrigin, 0); err != nil {
		return state{}, err
	}
	if s.history, err = m.before(); err != nil {
		return state{}, err
	}
	switch m.header.Get(headerKind) {
	case "":
		s.history = s.history.push(m.seq)
	case kindPurged:
		s.purged = true
	case kindMoved:
	default:
		return state{}, m.malformed(headerKind)
	}
	s.history = s.history.from(s.first)
	return s, nil
}

// recorded returns the event of a message that is one, with the time that the
// message itself has.
func (m *message) recorded(stream string) (r driver.Recorded, err error) {
	r.Stream, r.Position, r.Time = stream, m.seq, m.time
	if r.Version, err = m.number(headerVersion, 0); err != nil {
		return r, err
	}
	id := func(name string, to *[16]byte) {
		if text := m.header.Get(name); text != "" && err == nil {
			if n, e := hex.Decode(to[:], []byte(text)); e != nil || n != 16 || len(text) != 32 {
				err = m.malformed(name)
			}
		}
	}
	if len(m.header.Get(headerID)) != 32 || r.Version == 0 {
		return r, m.malformed(headerID)
	}
	for name, to := range map[string]*[16]byte{headerID: &r.ID, headerCorrelation: &r.Correlation, headerCausation: &r.Causation} {
		if len(m.header.Get(name)) > 32 {
			return r, m.malformed(name)
		}
		id(name, to)
	}
	if err != nil {
		return r, err
	}
	var ok1, ok2 bool
	r.Type, ok1 = unescapeHeader(m.header.Get(headerType))
	r.ContentType, ok2 = unescapeHeader(m.header.Get(headerContentType))
	if !ok1 || !ok2 {
		return r, m.malformed(headerType)
	}
	data := m.data
	if _, ok := m.header[headerAside]; ok {
		if data, ok = m.takeAside(&r.Event); !ok {
			return r, m.malformed(headerAside)
		}
	}
	if text, ok := m.header[headerMetadata]; ok {
		if r.Metadata, err = decodeMetadata(text[0]); err != nil {
			return r, m.malformed(headerMetadata)
		}
	}
	if text, ok := m.header[headerTags]; ok {
		if r.Tags, err = decodeTags(text[0]); err != nil {
			return r, m.malformed(headerTags)
		}
	}
	if len(data) > 0 {
		r.Data = data
	}
	return r, nil
}

// putAside moves metadata and tags from the headers of a message to before its
// data: their numbers, then all texts, each after its length.
func putAside(m *nats.Msg, e *driver.Event) {
	delete(m.Header, headerMetadata)
	delete(m.Header, headerTags)
	b := make([]byte, 0, e.Size()+e.Size()/16)
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(len(e.Metadata)))
	for key, value := range e.Metadata {
		text(key)
		text(value)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Tags)))
	for _, tag := range e.Tags {
		text(tag)
	}
	m.Header[headerAside] = []string{strconv.Itoa(len(b))}
	m.Data = append(b, e.Data...)
}

// takeAside is the inverse of putAside, and returns the data.
func (m *message) takeAside(e *driver.Event) (data []byte, ok bool) {
	n, err := strconv.ParseUint(m.header.Get(headerAside), 10, 64)
	if err != nil || n > uint64(len(m.data)) {
		return nil, false
	}
	b, ok := m.data[:n], true
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(len(b)-n) {
			ok = false
			return 0
		}
		b = b[n:]
		return v
	}
	text := func() string {
		n := number()
		s := string(b[:n])
		b = b[n:]
		return s
	}
	for k := number(); k > 0 && ok; k-- {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		key := text()
		e.Metadata[key] = text()
	}
	for k := number(); k > 0 && ok; k-- {
		e.Tags = append(e.Tags, text())
	}
	return m.data[n:], ok && len(b) == 0
}

// escapeHeader makes a text one that a header keeps as it is: control
// characters, the percent sign, and blanks at the ends are escaped as %XX.
func escapeHeader(text string) string {
	plain := true
	for i := 0; i < len(text) && plain; i++ {
		plain = !mustEscape(text, i)
	}
	if plain {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if mustEscape(text, i) {
			b.WriteByte('%')
			b.WriteByte(digits[text[i]>>4])
			b.WriteByte(digits[text[i]&15])
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func mustEscape(text string, i int) bool {
	c := text[i]
	return c < ' ' || c == 0x7f || c == '%' || c == ' ' && (i == 0 || i == len(text)-1)
}

func unescapeHeader(text string) (string, bool) {
	if strings.IndexByte(text, '%') < 0 {
		return text, true
	}
	s, err := url.PathUnescape(text)
	return s, err == nil
}

func encodeMetadata(m map[string]string) string {
	v := make(url.Values, len(m))
	for key, value := range m {
		v[key] = []string{value}
	}
	return v.Encode()
}

var errTwice = errors.New("a key twice")

func decodeMetadata(text string) (map[string]string, error) {
	v, err := url.ParseQuery(text)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(v))
	for key, list := range v {
		if len(list) != 1 {
			return nil, errTwice
		}
		m[key] = list[0]
	}
	return m, nil
}

func encodeTags(tags []string) string {
	list := make([]string, len(tags))
	for i, tag := range tags {
		list[i] = url.QueryEscape(tag)
	}
	return strings.Join(list, "&")
}

func decodeTags(text string) (tags []string, err error) {
	for t := range strings.SplitSeq(text, "&") {
		tag, err := url.QueryUnescape(t)
		if err != nil {
			return nil, err
		}
		tags = append(tags, tag)
	}
	return tags, nil
}
