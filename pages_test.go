package levada_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the pages show as Go is cut from files that are compiled and tested: each
// block, between lines of "// …", stands in one of them.
func TestCodeInThePagesIsTested(t *testing.T) {
	t.Parallel()
	var code []string
	pages := []string{"README.md"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == "node_modules": // others' pages, where the clients in Node were tested
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			code = append(code, read(t, path))
		case strings.HasSuffix(path, ".md") && path != "README.md":
			pages = append(pages, path)
		}
		return nil
	})
	require.NoError(t, err)
	for _, page := range pages {
		for i, block := range strings.Split(read(t, page), "```go\n")[1:] {
			block, _, closed := strings.Cut(block, "```")
			require.True(t, closed, "%s: block %d", page, i+1)
			for _, part := range strings.Split(block, "// …\n") {
				part = squeeze(part)
				require.True(t, slices.ContainsFunc(code, func(c string) bool { return strings.Contains(c, part) }),
					"%s: block %d: no file has\n%s", page, i+1, part)
			}
		}
	}
}

// link is one to a file of the repository: of what stands in a page as [text](path#place).
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)

// fenced is a block of code.
var fenced = regexp.MustCompile("(?s)```.*?```")

func TestLinksInThePagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == "node_modules":
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".md"):
			return nil
		}
		page, err := os.ReadFile(path)
		require.NoError(t, err)
		prose := fenced.ReplaceAllString(string(page), "")
		for _, found := range link.FindAllStringSubmatch(prose, -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(path), found[1]))
			require.NoError(t, err, "%s: a link to %s", path, found[1])
		}
		return nil
	})
	require.NoError(t, err)
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return squeeze(string(b))
}

// squeeze drops what pages and files may differ in: indentation and empty lines.
func squeeze(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
