package quote

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate/aggregatetest"
)

func TestAQuoteIsAddedLikedRewordedAndRemoved(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, Quotes).
		When(Add{"q", " Lao  Tzu ", "A journey of\na thousand miles"}).Then(Added{"Lao Tzu", "A journey of a thousand miles"}).
		When(Add{"q", "", "again"}).ThenError(ErrTaken).
		When(Like{"q"}).Then(Liked{}).
		When(Like{"q"}).Then(Liked{}).
		When(Reword{"q", "Laozi", "A journey of a thousand li"}).Then(Reworded{"Laozi", "A journey of a thousand li"}).
		When(Reword{"q", "Laozi", "A journey of a thousand li "}).ThenNothing().
		ThenState(func(q Quote) { require.Equal(t, Quote{"Laozi", "A journey of a thousand li", 2, true, false}, q) }).
		When(Remove{"q"}).Then(Removed{}).
		When(Remove{"q"}).ThenError(ErrGone).
		When(Like{"q"}).ThenError(ErrGone).
		When(Reword{"q", "", "still"}).ThenError(ErrGone).
		When(Add{"q", "", "again"}).ThenError(ErrTaken)
}

func TestWhatIsNotThereCannotBeLiked(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, Quotes).When(Like{"q"}).ThenError(ErrGone)
}

func TestWordsAreChecked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ author, content, field, text string }{
		"no content":  {"", " \n ", "content", "is missing"},
		"short":       {"", "ab", "content", "is too short: 3 characters at least"},
		"long":        {"", strings.Repeat("ä", MaxContent+2), "content", "is too long by 2 characters"},
		"long author": {strings.Repeat("x", MaxAuthor+1), "content", "author", "is too long by 1 characters"},
		"control":     {"\x01", "content", "author", "has characters that cannot be shown"},
		"not UTF-8":   {"", "abc\xff", "content", "has characters that cannot be shown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Add{"q", tt.author, tt.content}.Execute(Quote{})
			f, ok := errors.AsType[*FieldError](err)
			require.True(t, ok)
			require.Equal(t, FieldError{tt.field, tt.text}, *f)
			require.Equal(t, tt.text, Check(tt.author, tt.content)[tt.field])
			_, err = Reword{"q", tt.author, tt.content}.Execute(Quote{Added: true})
			require.Equal(t, f, err)
		})
	}
	require.Empty(t, Check("", "good"))
}

func TestTheFavouriteIsChosen(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, Favourites).
		When(Choose{"page", ""}).ThenError(ErrNoQuote).
		When(Choose{"page", "a"}).Then(Chosen{"a"}).
		When(Choose{"page", "a"}).ThenNothing().
		When(Choose{"page", "b"}).Then(Chosen{"b"})
}

func TestARemarkIsMadeOnce(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, Remarks).
		When(Say{"r", "", "ann", "so true"}).ThenError(ErrNoQuote).
		When(Say{"r", "q", "ann", "  so   true "}).Then(Made{"q", "ann", "so true"}).
		When(Say{"r", "q", "ann", "again"}).ThenError(ErrTaken)
	_, err := Say{"r", "q", "ann", " "}.Execute(Remark{})
	require.Equal(t, &FieldError{"text", "is missing"}, err)
}
