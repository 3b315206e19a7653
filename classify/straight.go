package classify

import "encoding/binary"

// straight reads a hello that begins like one and lies in one record, as nearly all
// do: without a thought of records it is a slice to walk along, which may end before
// the hello does. It gives up, and scan has to tell, where lengths contradict each
// other, where the hello goes on in a second record, and where the server name is not
// a list of one that is whole.
func straight(dst, b []byte) (h Hello, ok bool) {
	if len(b) < recordHeader+messageHeader {
		return h, false
	}
	record := int(binary.BigEndian.Uint16(b[3:]))
	size := int(binary.BigEndian.Uint32(b[recordHeader:]) & 0xffffff)
	if size < versionAndRandom || record < messageHeader+size {
		return h, false
	}
	message := b[recordHeader+messageHeader:]
	message = message[:min(len(message), size)]
	at := behind(message, versionAndRandom, 1, size) // legacy_session_id
	at = behind(message, at, 2, size)                // cipher_suites
	at = behind(message, at, 1, size)                // legacy_compression_methods
	switch {
	case at == contradiction:
		return h, false
	case at > len(message):
		return h, true // HelloNeed
	case at == size: // clients of old send no extensions (RFC 5246 section 7.4.1.2)
		h.State = HelloDone
		return h, true
	}
	switch end := behind(message, at, 2, size); {
	case at+2 > len(message):
		return h, end != contradiction
	case end != size:
		return h, false
	}
	return straightExtensions(dst, message, at+2, size)
}

// contradiction is what behind returns for a vector that is longer than what it is
// in.
const contradiction = -1

// behind returns the offset behind the vector at that offset, whose length has width
// octets. An offset beyond the message, of which there are size octets in all, stays
// there: that is where it is cut.
func behind(message []byte, at, width, size int) int {
	switch {
	case at == contradiction || at > len(message):
		return at
	case at+width > size:
		return contradiction
	case at+width > len(message):
		return len(message) + 1
	}
	length := int(message[at])
	if width == 2 {
		length = length<<8 | int(message[at+1])
	}
	if at+width+length > size {
		return contradiction
	}
	return at + width + length
}

// straightExtensions is straight from the first extension on.
func straightExtensions(dst, message []byte, at, size int) (h Hello, ok bool) {
	named := false
	for at < size {
		body := at + 4
		if body > size {
			return h, false
		}
		if body > len(message) {
			h.ECH = h.ECH || at+2 <= len(message) && binary.BigEndian.Uint16(message[at:]) == extensionECH
			return h, true // HelloNeed
		}
		kind, length := binary.BigEndian.Uint16(message[at:]), int(binary.BigEndian.Uint16(message[at+2:]))
		at = body + length
		if at > size {
			return h, false
		}
		switch kind {
		case extensionECH:
			h.ECH = true
		case extensionSNI:
			if named || at > len(message) {
				return h, false
			}
			named = true
			if h.SNI, ok = onlyName(dst, message[body:at]); !ok {
				return h, false
			}
		}
		if at > len(message) {
			return h, true // HelloNeed
		}
	}
	h.State = HelloDone
	return h, true
}

// onlyName reads the body of a server_name extension that lists one host name (RFC
// 6066 section 3). It is not ok if it is anything else.
func onlyName(dst, body []byte) (sni []byte, ok bool) {
	const head = 2 + 1 + 2 // length of the list, type and length of the name
	n := len(body) - head
	if n < 0 || n > maxHost+1 ||
		int(binary.BigEndian.Uint16(body)) != n+3 || body[2] != nameTypeHost || int(binary.BigEndian.Uint16(body[3:])) != n {
		return nil, false
	}
	return asHost(append(dst[:0], body[head:]...)), true
}
