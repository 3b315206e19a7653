package classify

import (
	"fmt"
	"slices"
	"strings"
)

// Evidence is the observation that named a flow.
type Evidence uint8

const (
	// EvidenceNone: nothing named the flow.
	EvidenceNone Evidence = iota
	// EvidenceSNI: the server name in a TLS ClientHello without ECH.
	EvidenceSNI
	// EvidenceDNS: an answer to this subscriber that was valid at the flow's
	// first packet.
	EvidenceDNS
	// EvidenceDNSStale: such an answer past its validity.
	EvidenceDNSStale
	// EvidenceServer: answers to other subscribers that name the server.
	EvidenceServer

	// EvidenceCount is the number of values, for arrays indexed by Evidence.
	EvidenceCount
)

var evidenceNames = [EvidenceCount]string{"none", "sni", "dns", "dns-stale", "server"}

// String returns the evidence as records, labels and flags spell it.
func (e Evidence) String() string {
	if e >= EvidenceCount {
		return "none"
	}
	return evidenceNames[e]
}

// Cascade is the evidence that may name a flow, strongest first. It holds each
// kind at most once and never EvidenceNone. It is a flag's value: String, Set
// and Type are what cobra's flags ask for.
type Cascade []Evidence

// DefaultCascade returns sni,dns,dns-stale,server.
func DefaultCascade() Cascade {
	return Cascade{EvidenceSNI, EvidenceDNS, EvidenceDNSStale, EvidenceServer}
}

// ParseCascade reads a comma-separated list such as "sni,dns".
func ParseCascade(list string) (Cascade, error) {
	var c Cascade
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		i := slices.Index(evidenceNames[1:], word)
		if i < 0 {
			return nil, fmt.Errorf("evidence %s is unknown; allowed are %s, separated by commas", quote(word), DefaultCascade())
		}
		e := Evidence(i + 1)
		if c.Has(e) {
			return nil, fmt.Errorf("evidence %s is listed twice; list each of %s at most once", quote(word), DefaultCascade())
		}
		c = append(c, e)
	}
	return c, nil
}

// Has reports whether e may name a flow.
func (c Cascade) Has(e Evidence) bool { return slices.Contains(c, e) }

// String returns the list as ParseCascade reads it.
func (c Cascade) String() string {
	words := make([]string, len(c))
	for i, e := range c {
		words[i] = e.String()
	}
	return strings.Join(words, ",")
}

// Set replaces the cascade with the list; after an error it is unchanged.
func (c *Cascade) Set(list string) error {
	parsed, err := ParseCascade(list)
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// Type names the flag's value in a command's help.
func (c *Cascade) Type() string { return "list" }
