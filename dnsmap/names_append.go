package dnsmap

// Append appends the name of id to dst. Unlike Bytes it touches nothing in the
// table, so that several goroutines may read while none writes.
func (n *Names) Append(dst []byte, id NameID) []byte {
	if id == 0 {
		return dst
	}
	rec := &n.records[id]
	left := int(rec.size)
	for ; left > textLen; rec = &n.records[rec.next] {
		dst = append(dst, rec.text[:]...)
		left -= textLen
	}
	return append(dst, rec.text[:left]...)
}
