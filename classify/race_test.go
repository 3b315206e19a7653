//go:build race

package classify

func init() { underRace = true }
