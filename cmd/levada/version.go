package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
)

// version is the command of that name.
func version(_ context.Context, args []string, out, errs io.Writer) error {
	f := flags("version", "usage: levada version")
	if err := parse(f, args, out, errs); err != nil {
		return err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(out, "levada, of an unknown version")
		return nil
	}
	v, revision, modified := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " (" + s.Value + ")"
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	if v == "" || v == "(devel)" {
		v = "of a working copy"
	}
	fmt.Fprintf(out, "levada %s%s%s, %s\n", v, revision, modified, info.GoVersion)
	return nil
}
