package client

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

// JS is the client: one script, minified, that a page loads with defer. It must not be changed.
//
//go:embed client.js
var JS []byte

var name = func() string {
	sum := sha256.Sum256(JS)
	return "live-" + hex.EncodeToString(sum[:8]) + ".js"
}()

// Name returns a file name that is another for every other content of the client, so that it may be cached for ever:
// "live-", 16 hexadecimal digits and ".js".
func Name() string { return name }
