package client

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

//go:embed client.js
var source string

var name = func() string {
	sum := sha256.Sum256([]byte(source))
	return "live-" + hex.EncodeToString(sum[:8]) + ".js"
}()

// JS returns the client: one script, minified, that a page loads with defer.
func JS() string { return source }

// Name returns a file name that is another for every other content of the client, so that it may be cached for ever:
// "live-", 16 hexadecimal digits and ".js".
func Name() string { return name }
