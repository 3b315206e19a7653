package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version and commit are set at release time, with -ldflags "-X main.version=v1.2.3
// -X main.commit=0123abc". Without, they are what the Go tool knows of the repository.
var version, commit = "dev", ""

// buildInfo is what this binary knows of itself.
type buildInfo struct {
	version, commit, goVersion string
	features                   []string
}

func readBuildInfo() buildInfo {
	b := buildInfo{version: version, commit: cmp.Or(commit, "unknown"), goVersion: runtime.Version(), features: features()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.version == "dev" && strings.HasPrefix(info.Main.Version, "v") {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && commit == "" {
			b.commit = s.Value
		}
	}
	return b
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go version and the features compiled in",
		Args:  none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText())
			return err
		},
	}
}

// versionText is what version and --version print.
func versionText() string {
	b := readBuildInfo()
	return fmt.Sprintf("nametap %s\ncommit %s\n%s %s/%s\nfeatures: %s\n",
		b.version, b.commit, b.goVersion, runtime.GOOS, runtime.GOARCH, strings.Join(b.features, ", "))
}
