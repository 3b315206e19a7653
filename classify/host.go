package classify

const (
	maxHost      = 253 // characters of a name in text form (RFC 1035 section 2.3.4: 255 octets on the wire)
	maxHostLabel = 63
)

// validHost reports whether name is a lower-case host name: labels of letters,
// digits, hyphens (RFC 1123 section 2.1) and, as met in the wild, underscores,
// with no final dot. A last label of digits alone makes it an IPv4 address or
// nothing at all, and neither is a name.
func validHost[T string | []byte](name T) bool {
	if len(name) == 0 || len(name) > maxHost {
		return false
	}
	label, digits := 0, true
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label, digits = 0, true
			continue
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', c == '-', c == '_':
			digits = false
		default:
			return false
		}
		if label++; label > maxHostLabel {
			return false
		}
	}
	return label > 0 && !digits
}
