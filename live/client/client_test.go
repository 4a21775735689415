package client_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/client"
)

func TestClientIsAtMostEightKibibytesOnTheWire(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	_, err = z.Write(client.JS)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	t.Logf("%d bytes, %d compressed", len(client.JS), b.Len())
	require.LessOrEqual(t, b.Len(), 8192)
}

func TestClientNamesTheLicencesOfWhatIsInIt(t *testing.T) {
	t.Parallel()
	head, _, _ := bytes.Cut(client.JS, []byte("\n"))
	require.Contains(t, string(head), "levada, Apache-2.0")
	require.Contains(t, string(head), "idiomorph 0.8.0, 0BSD")
	ours, err := os.ReadFile("../../LICENSE")
	require.NoError(t, err)
	require.Contains(t, string(ours), "Apache License")
	theirs, err := os.ReadFile("LICENSE-idiomorph")
	require.NoError(t, err)
	require.Contains(t, string(theirs), "Zero-Clause BSD")
}

func TestClientNeedsNothingThatAStrictPolicyForbids(t *testing.T) {
	t.Parallel()
	require.NotRegexp(t, regexp.MustCompile(`\beval\(|new Function|\.style\b|document\.write|createElement\("script`), string(client.JS))
}

func TestNameChangesWithTheContent(t *testing.T) {
	t.Parallel()
	require.Regexp(t, regexp.MustCompile(`^live-[0-9a-f]{16}\.js$`), client.Name())
	require.Equal(t, client.Name(), client.Name())
}
