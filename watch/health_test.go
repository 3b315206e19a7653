package watch

import (
	"regexp"
	"testing"
)

// TestCriteriaReadTrueInBothStates: a check's text says what is measured, and only
// then what it means if it is beyond the limit.
func TestCriteriaReadTrueInBothStates(t *testing.T) {
	form := regexp.MustCompile(`^[A-Z][^.?]*\. If (above|below|fewer|so)[,:]? [^.?]*[.?]$`)
	for r := range Reasons {
		if text := criteria[r].text; !form.MatchString(text) {
			t.Errorf("%s: %q has not the form \"measure. If above: what then.\"", r, text)
		}
	}
}
