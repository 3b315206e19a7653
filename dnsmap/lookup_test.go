package dnsmap

// Lookup is LookupHash for a caller with no use for the hash.
func (m *Map) Lookup(k Key, at int64) (name NameID, answered int64, state State) {
	return m.LookupHash(k, m.Hash(k), at)
}

// LookupHash is FindHash and At.
func (m *Map) LookupHash(k Key, hash uint64, at int64) (name NameID, answered int64, state State) {
	return m.At(m.FindHash(k, hash), at)
}
