// Command check reads a Containerfile with BuildKit's parser and those of its lint
// rules that need nothing but the file, and a compose file with Compose's own
// loader: what these object to is an error. It is a module of its own, so that
// nametap does not depend on either.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: check containerfile|compose FILE")
		os.Exit(2)
	}
	check := map[string]func(string) (string, error){"containerfile": containerfile, "compose": compose}[os.Args[1]]
	if check == nil {
		fmt.Fprintf(os.Stderr, "check: containerfile or compose, not %q\n", os.Args[1])
		os.Exit(2)
	}
	found, err := check(os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
	fmt.Print(found)
}

// containerfile parses every instruction and says how many stages there are.
func containerfile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	parsed, err := parser.Parse(f)
	if err != nil {
		return "", err
	}
	var found []error
	for _, w := range parsed.Warnings {
		found = append(found, errors.New(w.Short))
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		line := 0
		if len(at) > 0 {
			line = at[0].Start.Line
		}
		found = append(found, fmt.Errorf("line %d: %s: %s", line, rule, message))
	}})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		return "", err
	}
	return fmt.Sprintln(len(stages), "stages"), errors.Join(found...)
}

// compose loads the file as "docker compose config" does, all profiles included.
func compose(file string) (string, error) {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"*"}), cli.WithWorkingDirectory(filepath.Dir(file)))
	if err != nil {
		return "", err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return "", err
	}
	return fmt.Sprintln(len(project.Services), "services"), nil
}
