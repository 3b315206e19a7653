package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// applyConfig sets the command's flags from a YAML file whose keys are their
// names. A flag given on the command line keeps its value.
func applyConfig(cmd *cobra.Command, path string) error {
	if path == "" {
		return nil
	}
	root, err := readConfig(path)
	if err != nil || root == nil {
		return err
	}
	if root.Kind != yaml.MappingNode {
		return configError(path, root.Line, "expected lines such as \"interface: eth1\"")
	}
	seen := map[string]bool{}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if seen[key.Value] {
			return configError(path, key.Line, "%q stands twice; keep one", key.Value)
		}
		seen[key.Value] = true
		if err := applyKey(cmd, path, key, value); err != nil {
			return err
		}
	}
	return nil
}

func readConfig(path string) (*yaml.Node, error) {
	f, err := os.Open(path)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, err)
	}
	defer func() { _ = f.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, err)
	}
	if len(text) > maxConfig {
		return nil, configError(path, 1, "larger than %d bytes", maxConfig)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		var line int
		if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
			_, text, _ = strings.Cut(text, ": ")
		}
		return nil, configError(path, max(line, 1), "not YAML from here on: %s", text)
	}
	if len(doc.Content) == 0 {
		return nil, nil // an empty file says nothing
	}
	return doc.Content[0], nil
}

func applyKey(cmd *cobra.Command, path string, key, value *yaml.Node) error {
	flag := cmd.Flags().Lookup(key.Value)
	if flag == nil || key.Value == "config" || key.Value == "help" {
		return configError(path, key.Line, "unknown key %q; the keys are the flags of nametap run --help without the dashes", key.Value)
	}
	if flag.Changed {
		return nil
	}
	text, err := flagText(value)
	if err != nil {
		return configError(path, value.Line, "%s: %v", key.Value, err)
	}
	if err := cmd.Flags().Set(key.Value, text); err != nil {
		return configError(path, value.Line, "%s: %v", key.Value, inWords(errors.Unwrap(err)))
	}
	return nil
}

// flagText writes a value as it would stand on the command line: a list becomes
// a comma-separated one.
func flagText(value *yaml.Node) (string, error) {
	switch value.Kind {
	case yaml.ScalarNode:
		return value.Value, nil
	case yaml.SequenceNode:
		words := make([]string, len(value.Content))
		for i, n := range value.Content {
			if n.Kind != yaml.ScalarNode {
				return "", errors.New("expected a list of plain words")
			}
			words[i] = n.Value
		}
		return strings.Join(words, ","), nil
	}
	return "", errors.New("expected a word or a list of words")
}

// configError says where a configuration file is wrong.
func configError(file string, line int, format string, args ...any) error {
	return usageError{fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))}
}
