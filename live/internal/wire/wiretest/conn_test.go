package wiretest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

func TestAConnectionCarriesFramesBothWays(t *testing.T) {
	t.Parallel()
	c := wiretest.NewConn(2)
	go c.Send(`[%d]`, 1)
	frame, err := c.Read()
	require.NoError(t, err)
	require.Equal(t, "[1]", string(frame))

	out := []byte("a")
	require.NoError(t, c.Write(out))
	out[0] = 'x'
	require.NoError(t, c.WriteShared(&wire.Shared{Bytes: []byte("b")}))
	for _, want := range []string{"a", "b"} {
		frame, err = c.Receive()
		require.NoError(t, err)
		require.Equal(t, want, string(frame))
	}
	require.Nil(t, c.TryReceive())
}

func TestAWriteWaitsForTheBrowser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := wiretest.NewConn(0)
		written := false
		go func() { written = c.Write([]byte("a")) == nil }()
		synctest.Wait()
		require.False(t, written)
		require.Equal(t, "a", string(c.TryReceive()))
		synctest.Wait()
		require.True(t, written)
	})
}

func TestClosingEndsAllThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := wiretest.NewConn(0)
		var errs [4]error
		go func() { _, errs[0] = c.Read() }()
		go func() { errs[1] = c.Write(nil) }()
		synctest.Wait()
		c.Close(4400, "why")
		c.Close(1000, "")
		synctest.Wait()
		_, errs[2] = c.Receive()
		errs[3] = c.Send("x")
		for _, err := range errs {
			require.ErrorIs(t, err, wiretest.ErrClosed)
		}
		code, reason := c.Code()
		require.Equal(t, 4400, code)
		require.Equal(t, "why", reason)
	})
}

func TestFramesThatWereWrittenStillCome(t *testing.T) {
	t.Parallel()
	c := wiretest.NewConn(1)
	require.NoError(t, c.Write([]byte("a")))
	c.Close(1000, "")
	frame, err := c.Receive()
	require.NoError(t, err)
	require.Equal(t, "a", string(frame))
	_, err = c.Receive()
	require.ErrorIs(t, err, wiretest.ErrClosed)
}

func TestFramesThatAreNoneOfTheServerAreErrors(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{
		``, `{}`, `[]`, `[0,{},1]`, `[-1]`, `[[1]]`, `["x"]`, `["j",1]`, `["j",1,{}]`, `["g","a",1,2]`, `["s",1]`, `["b"]`, `["l",1]`,
		`[0,{"x":1}]`, `[0,{"u":["/"]}]`, `[0,{"u":["/",2]}]`, `[0,{"v":1}]`, `[0,{"v":"x"}]`, `[0,{"e":[[1,2]]}]`, `[0] [0]`,
	} {
		_, err := wiretest.Parse([]byte(frame))
		require.Error(t, err, frame)
	}
}
