// Package quote is what may happen to quotes, to what people remark on them, and to the one that is the favourite: three
// kinds of aggregates, which know nothing of pages.
package quote
