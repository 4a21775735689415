package attributes

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMetadataAndTagsAreJSONThatReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "metadata")
		b := AppendMetadata(nil, m)
		var std map[string]string
		require.NoError(t, json.Unmarshal(b, &std), "%s", b)
		require.Equal(t, m, std)
		if len(m) > 0 {
			got, ok := scanObject(string(b))
			require.True(t, ok, "%s is read without encoding/json", b)
			require.Equal(t, m, got)
		}
		list := rapid.SliceOf(rapid.String()).Draw(t, "tags")
		b = AppendTags(nil, list)
		var stdList []string
		require.NoError(t, json.Unmarshal(b, &stdList), "%s", b)
		require.Equal(t, list, stdList)
		if len(list) > 0 {
			got, ok := scanArray(string(b))
			require.True(t, ok)
			require.Equal(t, list, got)
		}
	})
}

func TestJSONWrittenByOthersIsReadToo(t *testing.T) {
	t.Parallel()
	m, err := Metadata(` { "a" : "\u00e9\/\ud83d\ude00" , "b":"\b" } `)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "é/😀", "b": "\b"}, m)
	m, err = Metadata(`{}`)
	require.NoError(t, err)
	require.Nil(t, m)
	list, err := Tags(`[ "a", "\u0041" ]`)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "A"}, list)
	list, err = Tags(`[]`)
	require.NoError(t, err)
	require.Nil(t, list)
	for _, bad := range []string{"", "{", `{"a"}`, `{"a":1}`, `{"a":"b",}`, `{"a":"b"}x`, "[1]", "null x"} {
		_, err := Metadata(bad)
		require.Error(t, err, bad)
		_, err = Tags(bad)
		require.Error(t, err, bad)
	}
}

// What the fast path takes, encoding/json takes alike.
func FuzzAttributes(f *testing.F) {
	for _, s := range []string{`{"a":"b"}`, `{"a":"b","c":"\u001f\n\t\\\""}`, `{"a":"é"}`, `{"a":"\u0080"}`, "{\"a\":\"\xff\"}", `["a","b"]`, `{"a":"b","a":"c"}`, `{"":""}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, ok := scanObject(s); ok {
			var std map[string]string
			require.NoError(t, json.Unmarshal([]byte(s), &std), "%q", s)
			require.Equal(t, std, m, "%q", s)
		}
		if list, ok := scanArray(s); ok {
			var std []string
			require.NoError(t, json.Unmarshal([]byte(s), &std), "%q", s)
			require.Equal(t, std, list, "%q", s)
		}
	})
}
