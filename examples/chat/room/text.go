package room

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a message.
const (
	MaxText  = 2000 // characters
	MaxLines = 60
)

// Errors of CheckText.
var (
	ErrEmpty   = errors.New("write something first")
	ErrTooLong = fmt.Errorf("a message has at most %d characters", MaxText)
	ErrLines   = fmt.Errorf("a message has at most %d lines", MaxLines)
	ErrNotText = errors.New("the message holds something that is not text")
)

// CheckText returns a text as a room keeps it: lines end with "\n", and there is no white space around it.
// Refused are texts that are empty, longer than [MaxText] characters or [MaxLines] lines, not UTF-8, or with
// control characters other than tabs.
func CheckText(text string) (string, error) {
	if len(text) > 16*MaxText { // whatever is in it
		return "", ErrTooLong
	}
	if !utf8.ValidString(text) {
		return "", ErrNotText
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	// White space at the beginning of the first line may be meant.
	text = strings.TrimRightFunc(strings.TrimLeft(text, "\n"), blank)
	switch {
	case strings.TrimLeftFunc(text, blank) == "":
		return "", ErrEmpty
	case utf8.RuneCountInString(text) > MaxText:
		return "", ErrTooLong
	case strings.Count(text, "\n") >= MaxLines:
		return "", ErrLines
	}
	for _, c := range text {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			return "", ErrNotText
		}
	}
	return text, nil
}

// blank says whether c shows nothing: white space, and marks that only say how others are written.
func blank(c rune) bool { return unicode.IsSpace(c) || unicode.Is(unicode.Cf, c) }
