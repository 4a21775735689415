package natswire

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxToken is the length of an escaped name above which a hash stands for it. A
// server refuses lines of the protocol over 4,096 bytes, less if it is told so, and
// a subject travels with every message.
const maxToken = 160

// Token returns what stands for name in a subject: one token of letters, digits,
// "_", "-" and "=". Different names have different tokens. Letters, digits, "_" and
// "-" stand for themselves, any other byte is "=" and two hex digits.
//
// If that is longer than 160 bytes the token is "==" and the SHA-256 of the name,
// and carried is the escaped name, for the message to carry and the receiver to
// check; else carried is "".
func Token(name string) (token, carried string) {
	escaped := escape(name)
	if len(escaped) <= maxToken {
		return escaped, ""
	}
	sum := sha256.Sum256([]byte(name))
	return "==" + hex.EncodeToString(sum[:]), escaped
}

func escape(name string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
