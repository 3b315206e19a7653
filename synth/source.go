package synth

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// ScenarioSource returns the YAML of a built-in scenario.
func ScenarioSource(name string) ([]byte, error) {
	if !slices.Contains(Scenarios(), name) {
		return nil, fmt.Errorf("scenario %s: not built in; there are %s", name, strings.Join(Scenarios(), ", "))
	}
	return builtin.ReadFile(path.Join("scenarios", name+".yaml"))
}
