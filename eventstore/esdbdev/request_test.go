package esdbdev_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/projections"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// A call that is answered before the client has ended its side of it is reset, and
// clients of the h2 library may take that for a failure.
func TestNoCallIsResetThatTheClientHasNotEndedYet(t *testing.T) {
	t.Parallel()
	open, guarded := start(t, nil).server, serve(t, memstore.Open(nil), &esdbdev.Options{User: "ann", Password: "secret"})
	for name, test := range map[string]struct {
		server *esdbdev.Server
		method string
		req    proto.Message
	}{
		"many answers": {open, streams.Streams_Read_FullMethodName, readRequest("none", 10, 0)},
		"one answer":   {open, serverfeatures.ServerFeatures_GetSupportedMethods_FullMethodName, nil},
		"an error":     {open, streams.Streams_Delete_FullMethodName, &streams.DeleteReq{}},
		"not let in":   {guarded, streams.Streams_Read_FullMethodName, readRequest("none", 10, 0)},
		"none such":    {open, projections.Projections_Statistics_FullMethodName, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newFrames(t, test.server.Addr())
			for range 20 {
				open := c.call(test.method, test.req, false)
				whole := c.call(test.method, test.req, true)
				c.end(t, whole)
				require.Empty(t, c.got[open], "an answer to half a request")
				require.NoError(t, c.WriteData(open, true, nil))
				c.end(t, open)
				c.ping(t)
				require.NotContains(t, c.got[open], http2.FrameRSTStream)
				require.NotContains(t, c.got[whole], http2.FrameRSTStream)
			}
		})
	}
}

// frames is a connection on which a test decides what goes into which frame.
type frames struct {
	*http2.Framer
	last uint32
	got  map[uint32][]http2.FrameType // by stream, but for the windows
	done map[uint32]bool
	pong bool
}

func newFrames(t *testing.T, addr string) *frames {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	c := &frames{Framer: http2.NewFramer(conn, conn), got: map[uint32][]http2.FrameType{}, done: map[uint32]bool{}}
	require.NoError(t, c.WriteSettings())
	return c
}

// call begins a call and sends its request, and the end of it with end only.
func (c *frames) call(method string, req proto.Message, end bool) (stream uint32) {
	if c.last++; c.last > 1 {
		c.last++
	}
	var header bytes.Buffer
	enc := hpack.NewEncoder(&header)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "levada"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // to memory
	}
	var message []byte
	if req != nil {
		message, _ = proto.Marshal(req)
	}
	message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.last, BlockFragment: header.Bytes(), EndHeaders: true})
	_ = c.WriteData(c.last, end, message) // what cannot be written is not answered
	return c.last
}

// read takes note of the next frame.
func (c *frames) read(t *testing.T) {
	t.Helper()
	frame, err := c.ReadFrame()
	require.NoError(t, err)
	h := frame.Header()
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			require.NoError(t, c.WriteSettingsAck())
		}
	case *http2.PingFrame:
		if frame.IsAck() {
			c.pong = true
		} else {
			require.NoError(t, c.WritePing(true, frame.Data))
		}
	case *http2.WindowUpdateFrame:
	default:
		c.got[h.StreamID] = append(c.got[h.StreamID], h.Type)
		if h.Flags.Has(http2.FlagDataEndStream) {
			c.done[h.StreamID] = true
		}
	}
}

// end reads to the end of what the server says on a stream.
func (c *frames) end(t *testing.T, stream uint32) {
	t.Helper()
	for !c.done[stream] {
		c.read(t)
	}
}

// ping reads all that the server wrote before it answered.
func (c *frames) ping(t *testing.T) {
	t.Helper()
	c.pong = false
	require.NoError(t, c.WritePing(false, [8]byte{1}))
	for !c.pong {
		c.read(t)
	}
}
