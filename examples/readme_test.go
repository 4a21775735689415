//go:build !race

package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/storeurl"
)

// The commands that the READMEs tell are there, and so are the stores that they name. What flags mean is tested beside
// the commands.
func TestTheCommandsOfTheREADMEsAreGood(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/README.md")
	require.NoError(t, err)
	said := 0
	for _, file := range append(files, "README.md") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^    go run (\./\S+)( .*)?$`).FindAllStringSubmatch(string(text), -1) {
			said++
			require.FileExists(t, filepath.Join("..", m[1], "main.go"), m[0])
			args := strings.Fields(m[2])
			for i, arg := range args {
				if arg == "-store" {
					require.NoError(t, storeurl.Check(args[i+1]), m[0])
				}
			}
		}
	}
	require.Greater(t, said, 10)
}
