package export

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/nametap/nametap/flows"
)

// TestKeysAreDocumented: docs/flows.md has a row for each key of a record, each
// reason of an end among them, and none that is not there.
func TestKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/flows.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllSubmatch(text, -1) {
		for _, key := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllSubmatch(row[1], -1) {
			documented[string(key[1])] = true
		}
	}
	var keys map[string]any
	if err := json.Unmarshal(AppendRecord(nil, &flows.Record{}, &Addresses{}), &keys); err != nil {
		t.Fatal(err)
	}
	for key := range keys {
		if !documented[key] {
			t.Errorf("docs/flows.md says nothing of %q", key)
		}
		delete(documented, key)
	}
	for key := range documented {
		t.Errorf("docs/flows.md has %q, a record has not", key)
	}
	for r := range flows.EndReasons {
		if r != flows.NotEnded && !regexp.MustCompile("`"+r.String()+"`").Match(text) {
			t.Errorf("docs/flows.md says nothing of the end %q", r)
		}
	}
}
