// Package browser holds the tests of the server and the client of live pages together, in Chromium.
package browser
